"""How the levels of an imported image are cut, so that whole shards can be written from bounded memory."""

from __future__ import annotations

from typing import Final

from biosegment.storage.layout import DEFAULT_CHUNK, DEFAULT_SHARD, ArrayLayout
from biosegment.volume import Index

SLAB_BYTES: Final = 192 << 20
"""A row of shards up to this size is kept in memory; rows of larger planes get flatter shards."""

MOST_SLAB_BYTES: Final = 320 << 20
"""Two rows of every level are in memory at a time: 0.9 GB with the flattest shards of planes of this size."""

_STRIP: Final = (DEFAULT_CHUNK[0], 256, 4096)


def fits_slabs(shape: Index, itemsize: int, most_bytes: int = MOST_SLAB_BYTES) -> bool:
    """Whether a row of the flattest shards fits into the memory."""
    return min(DEFAULT_CHUNK[0], shape.z) * shape.y * shape.x * itemsize <= most_bytes


def import_layout(shape: Index, itemsize: int, slab_bytes: int = SLAB_BYTES) -> ArrayLayout:
    """Default layout, or flatter and wider shards when a row of default shards is too large for the memory.

    A volume with planes of 20 000 x 20 000 voxels would otherwise need 100 GB to write whole shards. Where even a row
    of the flattest shards is too large, they are as low and long as the strips of planes that are read then.
    """
    if not fits_slabs(shape, itemsize):
        return ArrayLayout(_STRIP, DEFAULT_CHUNK).clamped(shape)
    depth, edge = DEFAULT_SHARD[0], DEFAULT_SHARD[1]
    while depth > DEFAULT_CHUNK[0] and depth * shape.y * shape.x * itemsize > slab_bytes:
        depth //= 2
        edge = edge * 2 if (depth.bit_length() - DEFAULT_SHARD[0].bit_length()) % 2 == 0 else edge
    return ArrayLayout((depth, edge, edge), DEFAULT_CHUNK).clamped(shape)
