"""An object from slice to slice: the answer of one slice guides the next, until the object ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
_TRUST = 0.75
"""The network must believe in it at least by this share of what it believes in it where somebody clicked ..."""
_LEAST_BELIEF, _MOST_BELIEF = 0.1, 0.5
"""... within these probabilities; ..."""
_MARGIN = 1.2
"""... and so many times as much on average over the object."""
_GROWTH = 1.6
"""An object of more than so many times its mean area of late has run into something else."""
_LATE_SLICES = 8

Said = Sequence[tuple[Point, bool]]
"""Pixels of a slice, and whether somebody said that they belong to the foreground."""


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """Pixels of a slice that were changed, and their probability before."""

    z: int
    window: Window
    pixels: tuple[NDArray[np.intp], ...]
    probability: NDArray[np.uint8]


class Propagation:
    """Follows what was clicked on through the slices beside it, and changes mask and probability in place.

    What is followed is what the click added or took away in its slice, so that a later click does not undo what earlier
    ones did elsewhere. The network is shown each slice with what the slice before has of it drawn into its mask (or cut
    out of it), and no clicks: those would be believed also where there is no object any more. What it calls foreground
    (or background) and what lies near is taken over. The object has ended when little is left of it, when the network
    does not believe in it, or when it suddenly spreads, as one that leaks into its surroundings does. What the network
    doubts even where somebody clicked may be doubted as much in the slices beside.

    Slices in which somebody clicked on the same object stay as they are, and nothing is followed past them. Where the
    contrary was said there, only the half of the way that is nearer to the new click changes: the object ends somewhere
    between the two.

    Args:
        model: What corrects.
        image: float32 (z, y, x).
        before: The mask before all clicks, bool (z, y, x).
        mask: The mask, whose slices with clicks are answered, bool (z, y, x).
        probability: uint8 (z, y, x), as in `Refined`.
        said: By slice, clicks in other slices.
    """

    def __init__(
        self,
        model: ClickModel,
        image: NDArray[np.float32],
        before: Mask,
        mask: Mask,
        probability: NDArray[np.uint8],
        said: Mapping[int, Said],
    ) -> None:
        self._model = model
        self._image = image
        self._before = before
        self._mask = mask
        self._probability = probability
        self._said = said
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
        seeds = self._seeds(positive)
        added = flood(seeds, self._mask[z] & ~self._before[z])
        yield from self._follow(z, slices, added, adds=True)
        if not added.any():
            # Somebody points at what is there already: perhaps it is not in the slices beside.
            known = flood(seeds, self._mask[z])
            yield from self._follow(z, slices, known, adds=True, is_known=True)
        removed = flood(self._seeds(negative), self._before[z] & ~self._mask[z])
        yield from self._follow(z, slices, removed, adds=False)

    def _seeds(self, points: Sequence[Point]) -> Mask:
        found = np.zeros(self._shape, bool)
        for point in points:
            found[point] = True
        return found

    def _follow(
        self, z: int, slices: range, guide: Mask, *, adds: bool, is_known: bool = False
    ) -> Iterator[tuple[Window, int]]:
        areas = [float(guide.sum())]
        if areas[-1] < _LEAST_PX or not slices:
            return
        window = _window_of(guide, self._shape)
        if not guide[window].any():
            return  # a ring that is wider than a crop
        belief = self._belief(z, window, self._mask[z][window], adds=adds)[guide[window]].mean()
        least = float(np.clip(_TRUST * belief, _LEAST_BELIEF, _MOST_BELIEF))
        written: list[_Written] = []
        for at in slices:
            said = self._said_of(guide, at)
            if said:
                if any(positive != adds for positive in said):
                    self._take_back(
                        [each for each in written if 2 * abs(each.z - z) > abs(at - z)], adds=adds
                    )
                return
            window = _window_of(guide, self._shape)
            yield window, at
            before = self._mask[at][window]
            shown = before | guide[window] if adds else before & ~guide[window]
            belief = self._belief(at, window, shown, adds=adds)
            right = belief >= least if is_known else (belief >= least) & (before != adds)
            found = flood(guide[window] & right, right & dilated(guide[window], _REACH_PX))
            if found.any() and float(belief[found].mean()) < _MARGIN * least:
                return
            area = float(found.sum())
            late = areas[-_LATE_SLICES:]
            if area < max(_LEAST_PX, _LEAST_OVERLAP * areas[-1]) or area > _GROWTH * sum(late) / len(late):
                return
            written.append(self._write(at, window, found, belief, adds=adds))
            guide = np.zeros(self._shape, bool)
            guide[window] = found
            areas.append(area)

    def _belief(self, z: int, window: Window, shown: Mask, *, adds: bool) -> NDArray[np.float32]:
        """Of the network in foreground, or in there being none, float32 (y, x) of the window."""
        chance = self._model.foreground(self._image[z][window], shown)
        return chance if adds else 1 - chance

    def _said_of(self, guide: Mask, z: int) -> list[bool]:
        """What was said in another slice of the object that is followed into it."""
        if z not in self._said:
            return []
        near = dilated(guide, _REACH_PX)
        return [positive for point, positive in self._said[z] if near[point]]

    def _write(
        self, z: int, window: Window, found: Mask, belief: NDArray[np.float32], *, adds: bool
    ) -> _Written:
        mask, probability = self._mask[z][window], self._probability[z][window]
        pixels = np.nonzero(found & (mask != adds))
        before = probability[pixels]
        mask[pixels] = adds
        # What was believed at all counts as more likely than not: mask and probability agree.
        graded = np.maximum(np.rint(belief[pixels] * 255), 128)
        probability[pixels] = (graded if adds else 255 - graded).astype(np.uint8)
        return _Written(z, window, pixels, before)

    def _take_back(self, written: Sequence[_Written], *, adds: bool) -> None:
        for each in written:
            self._mask[each.z][each.window][each.pixels] = not adds
            self._probability[each.z][each.window][each.pixels] = each.probability


def _window_of(guide: Mask, shape: Point) -> Window:
    rows, columns = np.flatnonzero(guide.any(1)), np.flatnonzero(guide.any(0))
    return window_around((rows[0], columns[0]), (rows[-1], columns[-1]), shape)
