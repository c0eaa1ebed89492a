"""Which candidates are out of reach, kept up to date by what changes."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Region
from biosegment_sampler.domain.grid import Box, CandidateField
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.queue import Queue
from biosegment_sampler.domain.ranking import Ranking

TAKEN: Final = np.uint8(1)
"""Bit of candidates that share a voxel with a region that is labelled, leased, skipped or excluded."""
NEAR: Final = np.uint8(2)
"""Bit of candidates a few slices from a region of which the scores do not know yet."""
BATCH: Final = np.uint8(4)
"""Bit of candidates that touch or are near to what the batch at hand has already."""
_BUCKET: Final = 8
_MANY: Final = 512
"""A region that reaches into more buckets is kept apart: the few that are so large."""
_ANYWHERE: Final = (-1, -1, -1)
_REMEMBERED: Final = 1 << 16
"""Reopened boxes that queues are told of; those who fall further behind look at everything again."""
BYTES_PER_HOLD: Final = 800

Ranges = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Hold:
    """A region that keeps candidates from being proposed.

    Attributes:
        place: The region.
        bits: What it makes of candidates around: TAKEN, NEAR, or both.
    """

    place: VolumeRegion
    bits: np.uint8 = TAKEN


class Occupancy:
    """One byte per candidate, and the regions behind it. Changes cost what they touch. Not safe for several threads.

    Args:
        field: All candidates of a pool.
        slice_distance: What overlaps in plane and lies nearer than so many slices is near.
    """

    def __init__(self, field: CandidateField, slice_distance: int = 1) -> None:
        self.field = field
        self.slice_distance = slice_distance
        self._flags: NDArray[np.uint8] = np.zeros(len(field), np.uint8)
        self._grids = {grid.volume_id: (grid, part) for grid, part in field.parts()}
        self._holds: dict[Hashable, Hold] = {}
        # By volume, bit and place, the keys of the regions that reach there.
        self._buckets: defaultdict[tuple[str, int, tuple[int, ...]], set[Hashable]] = defaultdict(set)
        self._closed = {int(bits): dict.fromkeys(self._grids, 0) for bits in (TAKEN, TAKEN | NEAR)}
        self._reopened: deque[NDArray[np.int64]] = deque(maxlen=_REMEMBERED)
        self._reopenings = 0
        self._views: dict[str, View] = {}

    @property
    def nbytes(self) -> int:
        return self._flags.nbytes + BYTES_PER_HOLD * len(self._holds)

    @property
    def open_count(self) -> int:
        """Candidates that nothing takes."""
        return len(self.field) - sum(self._closed[int(TAKEN)].values())

    def hold(self, key: Hashable, hold: Hold) -> None:
        """Keep candidates out of reach; the same key holds one region at a time, the last one."""
        before = self._holds.get(key)
        if before == hold:
            return
        self._holds.pop(key, None)
        if hold.place.volume_id in self._grids:
            self._holds[key] = hold
            for bit, box in self._boxes(hold):
                self._register(key, hold.place.volume_id, bit, box)
                self._close(hold.place.volume_id, bit, box)
        if before is not None:
            self._forget(key, before)

    def fill(self, holds: Iterable[tuple[Hashable, Hold]]) -> None:
        """As `hold` for keys that hold nothing yet; for a hundred thousand of them."""
        by_volume: defaultdict[str, list[tuple[Hashable, Hold]]] = defaultdict(list)
        for key, hold in holds:
            if hold.place.volume_id in self._grids:
                by_volume[hold.place.volume_id].append((key, hold))
                self._holds[key] = hold
        for volume_id, new in by_volume.items():
            grid, part = self._grids[volume_id]
            flags = self._flags[part].reshape(grid.counts)
            before = self._count(flags)
            for bit, distance in ((TAKEN, 1), (NEAR, self.slice_distance)):
                some = [(key, hold.place.region) for key, hold in new if hold.bits & bit]
                boxes = grid.all_overlapping([region for _, region in some], distance)
                for (key, _), box in zip(some, boxes, strict=True):
                    self._register(key, volume_id, bit, box)
                    flags[box] |= bit
            self._recount(volume_id, before, flags)

    def free(self, key: Hashable) -> None:
        """Give back what a key holds, as far as no other one does."""
        before = self._holds.pop(key, None)
        if before is not None:
            self._forget(key, before)

    def view(self, volume_id: str = "") -> View:
        """The candidates of one volume, numbered within it, or all."""
        found = self._views.get(volume_id)
        if found is None:
            if volume_id:
                _, part = self._grids[volume_id]
                found = View(self, self.field.only(volume_id), part, (volume_id,))
            else:
                found = View(self, self.field, slice(0, len(self.field)), tuple(self._grids))
            self._views[volume_id] = found
        return found

    def reopened_since(self, serial: int) -> tuple[int, NDArray[np.int64] | None]:
        """Candidates that were given back since a moment; None when it was too long ago to know.

        Returns:
            The moment now, and numbers (n,), some perhaps taken again or more than once.
        """
        behind = self._reopenings - serial
        if behind > len(self._reopened):
            return self._reopenings, None
        if not behind:
            return self._reopenings, np.zeros(0, np.int64)
        last = [self._reopened[-number] for number in range(behind, 0, -1)]
        return self._reopenings, np.concatenate(last)

    def mark(self, volume_id: str, region: Region, bit: np.uint8) -> None:
        """Set a bit where a region reaches, within the slice distance; for a batch, which takes it back itself."""
        if volume_id in self._grids:
            box = self._grids[volume_id][0].overlapping(region, self.slice_distance)
            self._box(volume_id, box)[...] |= bit

    def unmark(self, volume_id: str, region: Region, bit: np.uint8) -> None:
        """Take back what `mark` did."""
        if volume_id in self._grids:
            box = self._grids[volume_id][0].overlapping(region, self.slice_distance)
            self._box(volume_id, box)[...] &= ~bit

    def closed(self, bits: np.uint8, volume_ids: Iterable[str]) -> int:
        """How many candidates of volumes are taken, or taken or near; kept, not counted."""
        return sum(self._closed[int(bits)][volume_id] for volume_id in volume_ids)

    def _boxes(self, hold: Hold) -> Iterator[tuple[np.uint8, Box]]:
        grid, _ = self._grids[hold.place.volume_id]
        if hold.bits & TAKEN:
            yield TAKEN, grid.overlapping(hold.place.region)
        if hold.bits & NEAR:
            yield NEAR, grid.overlapping(hold.place.region, self.slice_distance)

    def _box(self, volume_id: str, box: Box) -> NDArray[np.uint8]:
        grid, part = self._grids[volume_id]
        return self._flags[part].reshape(grid.counts)[box]

    def _close(self, volume_id: str, bit: np.uint8, box: Box) -> None:
        flags = self._box(volume_id, box)
        before = self._count(flags)
        flags |= bit
        self._recount(volume_id, before, flags)

    def _forget(self, key: Hashable, hold: Hold) -> None:
        """Open the boxes of a region that is not held any more, but for what other regions reach."""
        if hold.place.volume_id not in self._grids:
            return
        volume_id = hold.place.volume_id
        now = self._holds.get(key)
        kept = dict(self._boxes(now)) if now is not None and now.place.volume_id == volume_id else {}
        for bit, box in self._boxes(hold):
            if kept.get(bit) == box:
                continue
            others = self._register(key, volume_id, bit, box, add=False)
            if bit in kept:
                self._register(key, volume_id, bit, kept[bit])
                others.add(key)
            flags = self._box(volume_id, box)
            before, were_set = self._count(flags), flags & bit
            flags &= ~bit
            for reach in self._reaching(volume_id, bit, box, others):
                self._box(volume_id, _common(box, reach))[...] |= bit
            self._recount(volume_id, before, flags)
            if bit == TAKEN:
                self._remember(volume_id, box, were_set & ~flags)

    def _reaching(self, volume_id: str, bit: np.uint8, box: Box, keys: Iterable[Hashable]) -> Iterator[Box]:
        """Where those regions reach that may reach into a box."""
        grid, _ = self._grids[volume_id]
        distance = self.slice_distance if bit == NEAR else 1
        covered = grid.covered(box)
        if covered is None:
            return
        (first_z, first_y, first_x), (end_z, end_y, end_x) = covered.start, covered.stop
        first_z, end_z = first_z - distance + 1, end_z + distance - 1
        # Most of what is in the same buckets is not: to compare them is far less work than to look where they reach.
        for key in keys:
            region = self._holds[key].place.region
            (z, y, x), (stop_z, stop_y, stop_x) = region.start, region.stop
            if (
                (z < end_z and first_z < stop_z)
                and (y < end_y and first_y < stop_y)
                and (x < end_x and first_x < stop_x)
            ):
                yield grid.overlapping(region, distance)

    def _remember(self, volume_id: str, box: Box, opened: NDArray[np.uint8]) -> None:
        grid, part = self._grids[volume_id]
        places = np.nonzero(opened)
        if not len(places[0]):
            return
        absolute = tuple(place + side.start for place, side in zip(places, box, strict=True))
        self._reopened.append(part.start + np.ravel_multi_index(absolute, grid.counts))
        self._reopenings += 1

    def _register(
        self, key: Hashable, volume_id: str, bit: np.uint8, box: Box, add: bool = True
    ) -> set[Hashable]:
        """Note or strike out where a region reaches; returns the other ones that reach there or near."""
        sides = [range(side.start // _BUCKET, -(-side.stop // _BUCKET)) for side in box]
        is_large = math.prod(map(len, sides)) > _MANY
        places = [_ANYWHERE] if is_large else list(product(*sides))
        others: set[Hashable] = set()
        for place in places if add else {*places, _ANYWHERE}:
            bucket = (volume_id, int(bit), place)
            if add:
                self._buckets[bucket].add(key)
            elif bucket in self._buckets:
                self._buckets[bucket].discard(key)
                others |= self._buckets[bucket]
                if not self._buckets[bucket]:
                    del self._buckets[bucket]
        if is_large and not add:
            others |= {
                other
                for other, hold in self._holds.items()
                if hold.bits & bit and hold.place.volume_id == volume_id and other != key
            }
        return others

    @staticmethod
    def _count(flags: NDArray[np.uint8]) -> tuple[int, int]:
        return int(np.count_nonzero(flags & TAKEN)), int(np.count_nonzero(flags & (TAKEN | NEAR)))

    def _recount(self, volume_id: str, before: tuple[int, int], flags: NDArray[np.uint8]) -> None:
        for bits, old, new in zip((TAKEN, TAKEN | NEAR), before, self._count(flags), strict=True):
            self._closed[int(bits)][volume_id] += new - old


def _common(one: Box, two: Box) -> Box:
    z, y, x = (
        slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
        for a, b in zip(one, two, strict=True)
    )
    return z, y, x


class View:
    """Candidates of an occupancy, numbered through: all, or those of one volume."""

    def __init__(
        self, occupancy: Occupancy, field: CandidateField, part: slice, volume_ids: tuple[str, ...]
    ) -> None:
        self.field = field
        self._occupancy = occupancy
        self._first = part.start
        self._flags = occupancy._flags[part]
        self._volume_ids = volume_ids
        self._queues: WeakKeyDictionary[Ranking, Queue] = WeakKeyDictionary()

    def queue(self, ranking: Ranking) -> Queue:
        """The open candidates of a ranking, best first; what was found out lives as long as the ranking."""
        found = self._queues.get(ranking)
        if found is None:
            found = self._queues[ranking] = Queue(ranking, self)
        return found

    def is_open(self, candidates: slice | NDArray[np.int64], bits: np.uint8 = TAKEN) -> NDArray[np.bool_]:
        """Which candidates have none of the bits."""
        result: NDArray[np.bool_] = (self._flags[candidates] & bits) == 0
        return result

    def has_open(self, bits: np.uint8) -> bool:
        """Whether any candidate is not taken, or neither taken nor near; a batch at hand does not count."""
        return self._occupancy.closed(bits & ~BATCH, self._volume_ids) < len(self.field)

    def reopened_since(self, serial: int) -> tuple[int, NDArray[np.int64] | None]:
        """As that of the occupancy, for these candidates."""
        now, numbers = self._occupancy.reopened_since(serial)
        if numbers is None:
            return now, None
        mine = numbers - self._first
        return now, mine[(mine >= 0) & (mine < len(self.field))]

    def mark(self, volume_id: str, region: Region) -> None:
        """Note that a region is in the batch at hand."""
        self._occupancy.mark(volume_id, region, BATCH)

    def unmark(self, volume_id: str, region: Region) -> None:
        """Forget it again."""
        self._occupancy.unmark(volume_id, region, BATCH)
