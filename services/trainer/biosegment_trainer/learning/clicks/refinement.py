"""Clicks on a mask: on a slice, or through the slices of an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.clicks.focus import Window, focus_windows
from biosegment_trainer.learning.clicks.mask import merged
from biosegment_trainer.learning.clicks.model import ClickModel, Point, disks
from biosegment_trainer.learning.clicks.propagation import Propagation

__all__ = ["Click", "ClickModel", "Refined", "refine"]


@dataclass(frozen=True, slots=True)
class Click:
    """A voxel of which somebody says whether it belongs to the foreground.

    Attributes:
        position: (z, y, x), voxel of the array.
        positive: Whether it does.
    """

    position: tuple[int, int, int]
    positive: bool


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """The mask after clicks.

    Attributes:
        mask: uint8 (z, y, x), 0 or 1: that of before outside of `changed`.
        probability: uint8 (z, y, x), 0..255: of the foreground where the network's word counts, 0 or 255 as the mask
            elsewhere. Where it is at least 128 the mask is 1.
        changed: The box that alone may differ from the mask before: one crop of 256 x 256 around the clicks of a slice,
            or more when they lie farther apart; through all slices that were looked at.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.uint8]
    changed: tuple[slice, slice, slice]


def refine(
    model: ClickModel,
    image: NDArray[np.float32],
    previous: NDArray[np.uint8],
    clicks: Sequence[Click],
    *,
    through: bool = False,
) -> Refined:
    """Correct a mask where it was clicked.

    The objects that were clicked on, as they are in the mask before or in the network's answer, are replaced by the
    network's answer; all others stay. A clicked voxel is in the answer if the click is positive, and not in it if the
    click is negative, whatever the network says; of two clicks on one voxel the last counts.

    Args:
        model: What corrects.
        image: float32 (z, y, x), normalised by the statistics of whole slices, at the model's working resolution. The
            last two axes are the plane that is clicked in: for another plane than xy all arrays are transposed.
        previous: The mask before, (z, y, x); what is not 0 is foreground.
        clicks: At least one, the newest last. Give all since the correction began, with the mask that they led to: the
            newest alone may undo what others did to the same object. On a slice each counts again. Through slices the
            slice of the newest is answered, with those in which the mask before contradicts a click; the others stay
            as they are, and objects are not followed past them.
        through: Also follow each object through the neighbouring slices, until it ends, see `Propagation`.

    Raises:
        InvalidArgument: NO_CLICKS, PROMPT_OUTSIDE, BAD_IMAGE when the arrays have other types or shapes.
    """
    _require(image, previous, clicks)
    before = previous != 0
    shape: Point = (image.shape[1], image.shape[2])
    work = _Work(before.copy(), np.where(before, np.uint8(255), np.uint8(0)))
    anchors = _anchors(before, clicks, through)
    for z in anchors:
        own = [click for click in clicks if click.position[0] == z]
        points = [click.position[1:] for click in own]
        for window, _ in focus_windows(points, shape):
            inside = [c for c in own if _in_window(c.position[1:], window)]
            _answer(model, image[z], work, z, window, inside)
    if through:
        for z in anchors:
            _follow(model, image, work, before, z, clicks)
    return Refined(work.mask.astype(np.uint8), work.probability, work.changed)


class _Work:
    """A mask that is being corrected, and how far it has been."""

    def __init__(self, mask: NDArray[np.bool_], probability: NDArray[np.uint8]) -> None:
        self.mask, self.probability = mask, probability
        self._low, self._high = list(mask.shape), [0, 0, 0]

    def note(self, z: int, window: Window) -> None:
        box = (slice(z, z + 1), *window)
        self._low = [min(low, part.start) for low, part in zip(self._low, box, strict=True)]
        self._high = [max(high, part.stop) for high, part in zip(self._high, box, strict=True)]

    @property
    def changed(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(low, high) for low, high in zip(self._low, self._high, strict=True))
        return z, y, x


def _anchors(before: NDArray[np.bool_], clicks: Sequence[Click], through: bool) -> list[int]:
    """Slices that are answered, in order."""
    every = {click.position[0] for click in clicks}
    if through:
        every = {click.position[0] for click in clicks if _is_news(click, before, clicks)}
    return sorted(every)


def _is_news(click: Click, before: NDArray[np.bool_], clicks: Sequence[Click]) -> bool:
    return click is clicks[-1] or bool(before[click.position]) != click.positive


def _follow(
    model: ClickModel,
    image: NDArray[np.float32],
    work: _Work,
    before: NDArray[np.bool_],
    z: int,
    clicks: Sequence[Click],
) -> None:
    """The objects of one answered slice through the others, in place."""
    said: dict[int, list[tuple[Point, bool]]] = {}
    for click in clicks:
        if click.position[0] != z:
            said.setdefault(click.position[0], []).append((click.position[1:], click.positive))
    news = [click for click in clicks if click.position[0] == z and _is_news(click, before, clicks)]
    positive = [click.position[1:] for click in news if click.positive]
    negative = [click.position[1:] for click in news if not click.positive]
    follow = Propagation(model, image, before, work.mask, work.probability, said)
    for slices in (range(z - 1, -1, -1), range(z + 1, len(image))):
        for window, at in follow.run(z, slices, positive, negative):
            work.note(at, window)


def _answer(
    model: ClickModel,
    image: NDArray[np.float32],
    work: _Work,
    z: int,
    window: Window,
    clicks: Sequence[Click],
) -> None:
    """One crop of one slice, in place."""
    work.note(z, window)
    places = {(c.position[1] - window[0].start, c.position[2] - window[1].start): c.positive for c in clicks}
    positive = [place for place, is_positive in places.items() if is_positive]
    negative = [place for place, is_positive in places.items() if not is_positive]
    before = work.mask[z][window]
    found = model.foreground(image[window], before, positive, negative)
    _honour(found, positive, negative)
    answer = found >= 0.5
    seeds = np.zeros(answer.shape, bool)
    for place in places:
        seeds[place] = True
    mask, meant = merged(before, answer, seeds)
    work.mask[z][window] = mask
    graded = np.clip(np.rint(found * 255), np.where(answer, 128, 0), np.where(answer, 255, 127))
    kept = np.where(mask, np.uint8(255), np.uint8(0))
    work.probability[z][window] = np.where(meant, graded.astype(np.uint8), kept)


def _honour(found: NDArray[np.float32], positive: Sequence[Point], negative: Sequence[Point]) -> None:
    """Clicks against which the network decided count all the same, with the disk around them."""
    for places, others, value in ((positive, negative, 1.0), (negative, positive, 0.0)):
        lost = [place for place in places if (found[place] >= 0.5) != (value == 1.0)]
        if lost:
            # Not where somebody said the contrary.
            found[(disks(lost, found.shape) > 0) & (disks(others, found.shape) == 0)] = value
    for places, value in ((positive, 1.0), (negative, 0.0)):
        for place in places:
            if (found[place] >= 0.5) != (value == 1.0):
                found[place] = value


def _in_window(point: Point, window: Window) -> bool:
    return all(part.start <= at < part.stop for at, part in zip(point, window, strict=True))


def _require(image: NDArray[np.float32], previous: NDArray[np.uint8], clicks: Sequence[Click]) -> None:
    if image.ndim != 3 or image.dtype != np.float32 or not image.size:
        raise InvalidArgument(
            "BAD_IMAGE", f"the image must be float32 (z, y, x), it is {image.dtype} {image.shape}"
        )
    if previous.shape != image.shape:
        raise InvalidArgument(
            "BAD_IMAGE",
            f"the mask before has shape {previous.shape}, the image {image.shape}; they must agree",
        )
    if not clicks:
        raise InvalidArgument("NO_CLICKS", "there is no click; give at least one")
    for click in clicks:
        if not all(0 <= at < size for at, size in zip(click.position, image.shape, strict=True)):
            raise InvalidArgument(
                "PROMPT_OUTSIDE",
                f"the click at {click.position} (z, y, x) lies outside of the image of {image.shape} voxels",
            )
