"""A person who corrects masks, simulated: with clicks, as in RITM and FocalClick, or with a brush."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from biosegment_trainer.learning.resolution import downsample_labels
from biosegment_trainer.learning.slab import working_slices
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

from biosegment.volume import BACKGROUND, FIRST_CLASS
from bundles.data import Stack
from bundles.recipe import WORKING_RESOLUTION_NM

Mask = NDArray[np.bool_]
Point = tuple[int, int]
_NEAR_CENTRE = 0.5
"""A hand that is not exact clicks where it is at least this share as far from the error's edge as one can be."""


@dataclass(frozen=True, slots=True)
class WorkingStack:
    """A stack at the working resolution.

    Attributes:
        name: Of the stack.
        image: float32 (z, y, x), normalised.
        truth: bool (z, y, x), by majority.
    """

    name: str
    image: NDArray[np.float32]
    truth: Mask

    @classmethod
    def of(cls, stack: Stack) -> WorkingStack:
        """Downsampled and normalised, as the platform does."""
        factor = stack.factor(WORKING_RESOLUTION_NM)
        labels = np.where(stack.truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND))
        truth = downsample_labels(labels, factor) == FIRST_CLASS
        return cls(stack.name, np.stack(working_slices(stack.raw, factor, stack.statistics)), truth)


def iou(mask: Mask, truth: Mask) -> float:
    """Of the foreground; 1 when neither has any."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def largest_error(mask: Mask, truth: Mask) -> Mask:
    """The largest connected set of pixels that are wrong in the same way; empty when there is none."""
    best, size = np.zeros(mask.shape, bool), 0
    for wrong in (truth & ~mask, mask & ~truth):
        numbers, count = ndimage.label(wrong)
        if count:
            sizes = np.bincount(numbers.ravel())[1:]
            if sizes.max() > size:
                size, best = int(sizes.max()), numbers == 1 + int(sizes.argmax())
    return best


def centre(part: Mask, rng: np.random.Generator | None = None) -> tuple[int, ...]:
    """The pixel or voxel that is farthest from the edge of `part`; with `rng`, often another one far inside.

    The border of the array counts as an edge.
    """
    (box,) = ndimage.find_objects(part.astype(np.uint8))
    distance = ndimage.distance_transform_edt(np.pad(part[box], 1))[(slice(1, -1),) * part.ndim]
    if rng is not None and rng.random() < 0.5:
        inside = np.argwhere(distance >= _NEAR_CENTRE * distance.max())
        place = inside[rng.integers(len(inside))]
    else:
        place = np.asarray(np.unravel_index(int(distance.argmax()), distance.shape))
    return tuple(int(part_of.start + at) for part_of, at in zip(box, place, strict=True))


def next_click(mask: Mask, truth: Mask, rng: np.random.Generator | None = None) -> tuple[Point, bool] | None:
    """Where somebody clicks next, and whether it is foreground: in the middle of the largest error; None for none."""
    wrong = largest_error(mask, truth)
    if not wrong.any():
        return None
    y, x = centre(wrong, rng)
    return (y, x), bool(truth[y, x])


def filling_stroke(mask: Mask, truth: Mask) -> Mask:
    """The mask after all of the largest error was painted over, exactly: what no hand does in one movement."""
    return np.where(largest_error(mask, truth), truth, mask)


def brush_stroke(mask: Mask, truth: Mask, radius_px: int) -> Mask:
    """The mask after one stroke with a round brush through the largest error, without a slip.

    The brush is drawn once along the error, from one end to the other by the middle, and corrects what is wrong there
    within its radius; it harms nothing, also where the error is narrower than the brush.
    """
    wrong = largest_error(mask, truth)
    if not wrong.any():
        return mask
    (box,) = ndimage.find_objects(wrong.astype(np.uint8))
    part, found = wrong[box], mask.copy()
    path = np.ones(part.shape, bool)
    path[tuple(np.transpose(_middle_line(part)))] = False
    painted = part & (ndimage.distance_transform_edt(path) <= radius_px)
    found[box] = np.where(painted, truth[box], mask[box])
    return found


def _middle_line(part: Mask) -> list[Point]:
    """Pixels from one end of a connected part to the other, as far from its edge as may be."""
    length = np.where(part, 1.0, -1.0)
    inmost = centre(part)
    ends = [inmost]
    for _ in range(2):
        walked, _ = MCP_Geometric(length, fully_connected=False).find_costs([ends[-1]])
        walked[~np.isfinite(walked)] = -1
        ends.append(tuple(int(at) for at in np.unravel_index(int(walked.argmax()), part.shape)))
    distance = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    middle = MCP_Geometric(np.where(part, 1 / np.maximum(distance, 1) ** 2, -1.0), fully_connected=False)
    middle.find_costs([ends[1]], [ends[2]])
    return [(int(y), int(x)) for y, x in middle.traceback(ends[2])]
