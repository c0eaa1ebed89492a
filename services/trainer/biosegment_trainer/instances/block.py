"""How a layer is cut, and what lies on the faces of a block, where objects are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import BlockGrid, Index, Region

Ids = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class BlockCut:
    """The blocks of a layer: whole shards, so that two workers never write the same object.

    Attributes:
        shape: Voxels of the layer.
        block: Voxels of a shard.
        domain: Part of the layer that was computed; outside of it nothing is known.
    """

    shape: Index
    block: Index
    domain: Region

    @property
    def grid(self) -> BlockGrid:
        return BlockGrid(self.shape, self.block)

    def numbers(self) -> tuple[int, ...]:
        """Of all blocks that hold something of the domain, in C order."""
        return tuple(self.grid.overlapping(self.domain))

    def core(self, number: int) -> Region:
        """What a block decides."""
        core = self.grid[number].intersection(self.domain)
        assert core is not None
        return core

    def with_seam(self, number: int) -> Region:
        """The core and the voxels behind it: any two neighbours lie together in one of these."""
        core = self.core(number)
        stop = Index(*(min(high + 1, end) for high, end in zip(core.stop, self.domain.stop, strict=True)))
        return Region(core.start, stop)

    def around(self, number: int, margin: Index) -> Region:
        """The core grown by a margin of at least 1, cut to the domain."""
        return self.core(number).padded(margin, self.domain)

    def behind(self, number: int) -> tuple[int, ...]:
        """The up to seven blocks that lie behind a block in any axes."""
        seam = self.with_seam(number)
        return tuple(other for other in self.grid.overlapping(seam) if other != number)


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Ids on one plane of voxels: (z, y, x) with an edge of 1 along `axis`."""

    axis: int
    region: Region
    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """What others need to know of a block's surface.

    Attributes:
        own: The first planes of the core along z, y and x.
        seams: The planes behind the core, as far as there are any; no voxel twice.
    """

    own: tuple[Plane, ...]
    seams: tuple[Plane, ...]

    @classmethod
    def of(cls, ids: Ids, core: Region, seam: Region) -> Faces:
        """Cut out the planes; `ids` are those of the core and the seam behind it."""
        return cls.at(core, seam, lambda region: np.ascontiguousarray(ids[region.relative_to(seam).slices]))

    @classmethod
    def at(cls, core: Region, seam: Region, ids: Callable[[Region], Ids]) -> Faces:
        """Ask for the ids of all planes: first of its own, then of those behind."""
        own = [(axis, core.start, _with(core.stop, axis, core.start[axis] + 1)) for axis in range(3)]
        # Along earlier axes only the core: the rest is on their planes.
        behind = [
            (axis, _with(core.start, axis, core.stop[axis]), [*core.stop[:axis], *seam.stop[axis:]])
            for axis in range(3)
            if seam.stop[axis] > core.stop[axis]
        ]

        def plane(axis: int, start: Sequence[int], stop: Sequence[int]) -> Plane:
            region = Region(Index(*start), Index(*stop))
            return Plane(axis, region, ids(region))

        return cls(tuple(plane(*each) for each in own), tuple(plane(*each) for each in behind))

    def meetings(self, behind: Faces) -> Iterator[tuple[Ids, Ids]]:
        """Ids of this block and of one behind it at the voxels that both know; neither is 0."""
        for seam in self.seams:
            own = behind.own[seam.axis]
            common = seam.region.intersection(own.region)
            if common is None:
                continue
            one = seam.ids[common.relative_to(seam.region).slices]
            two = own.ids[common.relative_to(own.region).slices]
            both = (one != 0) & (two != 0)
            yield one[both], two[both]


def _with(edges: Sequence[int], axis: int, value: int) -> list[int]:
    changed = list(edges)
    changed[axis] = value
    return changed
