"""Cutting a volume into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from biosegment.volume.geometry import Index, Region


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks of `block` voxels that tile an array of `shape`, the last ones cut at the border; C order."""

    shape: Index
    block: Index

    @property
    def counts(self) -> Index:
        return Index(*(-(-size // edge) for size, edge in zip(self.shape, self.block, strict=True)))

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __getitem__(self, number: int) -> Region:
        if not 0 <= number < len(self):
            raise IndexError(number)
        _, ny, nx = self.counts
        place = Index(number // (ny * nx), number // nx % ny, number % nx)
        start = Index(*(i * edge for i, edge in zip(place, self.block, strict=True)))
        stop = Index(
            *(min(low + edge, size) for low, edge, size in zip(start, self.block, self.shape, strict=True))
        )
        return Region(start, stop)

    def __iter__(self) -> Iterator[Region]:
        return (self[number] for number in range(len(self)))

    def overlapping(self, region: Region) -> Iterator[int]:
        """Numbers of the blocks that share a voxel with `region`."""
        first = Index(*(low // edge for low, edge in zip(region.start, self.block, strict=True)))
        last = Index(*((high - 1) // edge for high, edge in zip(region.stop, self.block, strict=True)))
        _, ny, nx = self.counts
        for z in range(first.z, last.z + 1):
            for y in range(first.y, last.y + 1):
                for x in range(first.x, last.x + 1):
                    yield (z * ny + y) * nx + x
