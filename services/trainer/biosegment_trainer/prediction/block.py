"""How a volume is cut for prediction, so that every block writes whole shards of every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from biosegment.volume import BlockGrid, Index, Region

CELL: Final = 16
"""Edge of a score cell in working pixels."""
_CHUNK: Final = Index(16, 128, 128)
_SHARD: Final = 256
_MAX_SHARD_VOXELS: Final = 1 << 24
_MAX_BLOCK_VOXELS: Final = 1 << 26
_MAX_DEPTH: Final = 256
_MAX_EDGE: Final = 1024
"""A tile may be larger."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Blocks and layouts for one factor.

    Attributes:
        factor: Level-0 voxels per working pixel.
        block: Level-0 voxels of a block; bounds the memory of a worker.
        region: What is computed, level-0 voxels.
    """

    factor: int
    block: Index
    region: Region

    @classmethod
    def of(cls, factor: int, region: Region, tile: tuple[int, int, int] = (1, 1024, 1024)) -> BlockPlan:
        """Blocks of whole tiles and whole shards of all layers, of at most 64 Mi voxels when the tile allows.

        Args:
            factor: Level-0 voxels per working pixel.
            region: What is computed.
            tile: What the network computes at once, working voxels (z, y, x).
        """
        depth, edge = max(_CHUNK.z, tile[0]), tile[1] * factor
        while 2 * edge <= _MAX_EDGE and depth * (2 * edge) ** 2 <= _MAX_BLOCK_VOXELS:
            edge *= 2
        while 2 * depth <= _MAX_DEPTH and 2 * depth * edge**2 <= _MAX_BLOCK_VOXELS:
            depth *= 2
        return cls(factor, Index(depth, edge, edge), region)

    @property
    def labels_layout(self) -> tuple[Index, Index]:
        """Chunk and shard of labels, level 0."""
        return self._layout(self.block.y)

    @property
    def probabilities_layout(self) -> tuple[Index, Index]:
        """Chunk and shard of probabilities, working pixels in y and x."""
        return self._layout(self.block.y // self.factor)

    @property
    def scores_layout(self) -> tuple[Index, Index]:
        """Chunk and shard of score maps, cells in y and x; a shard is a block."""
        edge = self.block.y // (CELL * self.factor)
        return Index(_CHUNK.z, edge, edge), Index(self.block.z, edge, edge)

    def _layout(self, block_edge: int) -> tuple[Index, Index]:
        chunk = math.gcd(_CHUNK.y, block_edge)
        # A small tile may be no multiple of the usual shard, nor an odd number of them: then a shard is a block.
        edge = _SHARD if block_edge % _SHARD == 0 else block_edge
        while block_edge % (2 * edge) == 0 and self.block.z * (2 * edge) ** 2 <= _MAX_SHARD_VOXELS:
            edge *= 2
        return Index(_CHUNK.z, chunk, chunk), Index(self.block.z, edge, edge)

    @property
    def probabilities_downsampling(self) -> Index:
        return Index(1, self.factor, self.factor)

    @property
    def scores_downsampling(self) -> Index:
        return Index(1, CELL * self.factor, CELL * self.factor)


@dataclass(frozen=True, slots=True, order=True)
class BlockId:
    """A block of a job: number `number` of the volume at `part` in the job's list."""

    part: int
    number: int


@dataclass(frozen=True, slots=True)
class VolumeBlocks:
    """The blocks of one volume.

    Attributes:
        shape: Of the volume, level-0 voxels.
        plan: How it is cut, and what is wanted.
    """

    shape: Index
    plan: BlockPlan

    @property
    def grid(self) -> BlockGrid:
        return BlockGrid(self.shape, self.plan.block)

    def numbers(self) -> tuple[int, ...]:
        """Of all blocks that hold something of the region, in C order."""
        return tuple(self.grid.overlapping(self.plan.region))

    def computed(self, number: int) -> Region:
        """What the network looks at: the region grown to whole cells, as far as it lies in the block."""
        whole = Region(Index(0, 0, 0), self.shape)
        part = self.grid[number].intersection(aligned(self.plan.region, CELL * self.plan.factor, whole))
        assert part is not None
        return part

    def written(self, number: int) -> Region:
        """What of the block lies in the region."""
        part = self.grid[number].intersection(self.plan.region)
        assert part is not None
        return part

    def place(self, number: int) -> Index:
        """In the grid of blocks."""
        _, rows, columns = self.grid.counts
        return Index(number // (rows * columns), number // columns % rows, number % columns)

    def pixels(self, number: int) -> int:
        """Working pixels that are computed."""
        return downsampled(self.computed(number), self.plan.probabilities_downsampling).size

    def shards(self, number: int, downsampling: Index, shard: Index) -> Iterator[str]:
        """Names, below the key of a layer's array, of the objects that the block's part of the layer lies in.

        Args:
            number: Of the block.
            downsampling: Level-0 voxels per voxel of the layer.
            shard: Voxels of the layer in one object; a block is a whole number of them.
        """
        part = downsampled(self.written(number), downsampling)
        first = [low // edge for low, edge in zip(part.start, shard, strict=True)]
        stop = [-(-high // edge) for high, edge in zip(part.stop, shard, strict=True)]
        for z in range(first[0], stop[0]):
            for y in range(first[1], stop[1]):
                for x in range(first[2], stop[2]):
                    yield f"c/{z}/{y}/{x}"


def aligned(region: Region, edge: int, within: Region) -> Region:
    """`region` grown in y and x to multiples of `edge`, cut to `within`."""
    z, y, x = region.start
    start = Index(z, y - y % edge, x - x % edge)
    z, y, x = region.stop
    stop = Index(z, min(-(-y // edge) * edge, within.stop.y), min(-(-x // edge) * edge, within.stop.x))
    return Region(start, stop)


def downsampled(region: Region, factor: Index) -> Region:
    """The voxels of a layer downsampled by `factor` that `region`, level 0, touches."""
    start = Index(*(low // f for low, f in zip(region.start, factor, strict=True)))
    stop = Index(*(-(-high // f) for high, f in zip(region.stop, factor, strict=True)))
    return Region(start, stop)
