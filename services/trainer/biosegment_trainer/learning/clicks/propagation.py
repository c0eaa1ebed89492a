"""An object from slice to slice: the answer of one slice guides the next, until the object ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from biosegment_trainer.learning.clicks.focus import Window, window_around
from biosegment_trainer.learning.clicks.mask import Mask, dilated, flood
from biosegment_trainer.learning.clicks.model import ClickModel, Point

_REACH_PX = 6
"""How far an object may move or grow from one slice to the next."""
_LEAST_PX = 24
"""An object that covers less of a slice has ended."""
_LEAST_OVERLAP = 0.25
"""So has one of which less is left than this share of the slice before."""
_LEAST_PROBABILITY = 0.6
"""And one that the network believes in less than this, on average."""
_GROWTH = 1.6
"""An object of more than so many times its mean area of late has run into something else."""
_LATE_SLICES = 8


class Propagation:
    """Follows what was clicked on through the slices beside it, and changes mask and probability in place.

    The network is shown each slice with the object of the slice before drawn into its mask (for a negative click: cut
    out of it), and no clicks: those would be believed also where there is no object any more. What it calls foreground
    and what lies near the object of the slice before is the object there. It has ended when little is left of it, when
    the network does not believe in it, or when it suddenly spreads, as one that leaks into its surroundings does.

    Args:
        model: What corrects.
        image: float32 (z, y, x).
        before: The mask before all clicks, bool (z, y, x).
        mask: The mask, whose slices with clicks are answered, bool (z, y, x).
        probability: uint8 (z, y, x), as in `Refined`.
    """

    def __init__(
        self,
        model: ClickModel,
        image: NDArray[np.float32],
        before: Mask,
        mask: Mask,
        probability: NDArray[np.uint8],
    ) -> None:
        self._model = model
        self._image = image
        self._before = before
        self._mask = mask
        self._probability = probability
        self._shape: Point = (image.shape[1], image.shape[2])

    def run(
        self, z: int, slices: range, positive: Sequence[Point], negative: Sequence[Point]
    ) -> Iterator[tuple[Window, int]]:
        """Answer slice after slice; yields the windows that were looked at, and their slices.

        Args:
            z: Slice with clicks, which is answered.
            slices: Those to go through, in order, beside z.
            positive: Clicked pixels of objects.
            negative: Clicked pixels of what is none.
        """
        added = flood(self._seeds(positive), self._mask[z])
        yield from self._follow(slices, added, adds=True)
        removed = flood(self._seeds(negative), self._before[z] & ~self._mask[z])
        yield from self._follow(slices, removed, adds=False)

    def _seeds(self, points: Sequence[Point]) -> Mask:
        found = np.zeros(self._shape, bool)
        for point in points:
            found[point] = True
        return found

    def _follow(self, slices: range, guide: Mask, *, adds: bool) -> Iterator[tuple[Window, int]]:
        areas = [float(guide.sum())]
        for z in slices:
            if areas[-1] < _LEAST_PX:
                return
            window = _window_of(guide, self._shape)
            yield window, z
            before = self._mask[z][window]
            found, meant, chance = self._look(z, window, before, guide[window], adds=adds)
            area = float(found.sum())
            late = areas[-_LATE_SLICES:]
            if area < max(_LEAST_PX, _LEAST_OVERLAP * areas[-1]) or area > _GROWTH * sum(late) / len(late):
                return
            self._write(z, window, np.where(meant, chance >= 0.5, before), meant, chance)
            guide = np.zeros(self._shape, bool)
            guide[window] = found
            areas.append(area)

    def _look(
        self, z: int, window: Window, before: Mask, guide: Mask, *, adds: bool
    ) -> tuple[Mask, Mask, NDArray[np.float32]]:
        """What is left of the object (or of what has to go) in a slice, what of the mask is to be replaced, and the
        probability of foreground there.
        """
        shown = before | guide if adds else before & ~guide
        chance = self._model.foreground(self._image[z][window], shown)
        near, answer = dilated(guide, _REACH_PX), chance >= 0.5
        if not adds:
            found = flood(guide & before & ~answer, before & ~answer & near)
            return found, found, chance
        found = flood(guide & answer, answer & near)
        if not found.any() or float(chance[found].mean()) < _LEAST_PROBABILITY:
            return np.zeros_like(found), found, chance
        # The object as it was in the mask goes with it, as far as it is near: its outline is corrected inwards too.
        return found, flood(found, (before & near) | found), chance

    def _write(self, z: int, window: Window, mask: Mask, meant: Mask, chance: NDArray[np.float32]) -> None:
        self._mask[z][window] = mask
        graded = np.clip(np.rint(chance * 255), np.where(mask, 128, 0), np.where(mask, 255, 127))
        part = self._probability[z][window]
        part[meant] = graded[meant].astype(np.uint8)


def _window_of(guide: Mask, shape: Point) -> Window:
    rows, columns = np.flatnonzero(guide.any(1)), np.flatnonzero(guide.any(0))
    return window_around((rows[0], columns[0]), (rows[-1], columns[-1]), shape)
