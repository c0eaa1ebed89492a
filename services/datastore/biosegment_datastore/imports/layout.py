"""How the levels of an imported image are cut, so that whole shards can be written from bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from biosegment.storage.layout import DEFAULT_CHUNK, DEFAULT_SHARD, ArrayLayout
from biosegment.volume import Index


@dataclass(frozen=True, slots=True)
class ImportMemory:
    """What an import may keep in memory; a process with the defaults stays below 1.5 GB.

    Attributes:
        slab_bytes: A row of shards up to this size is kept; rows of larger planes get flatter shards.
        most_slab_bytes: Of a row of the flattest shards. Two rows of every level are kept: 2.7 times this size when
            planes are halved.
        piece_bytes: Of a part of such a row, when the whole one is too large; two are kept, and encoded ones.
        keep_every_bytes: So many bytes of pieces are written again, at most, after the process was killed.
    """

    slab_bytes: int = 192 << 20
    most_slab_bytes: int = 320 << 20
    piece_bytes: int = 128 << 20
    keep_every_bytes: int = 1 << 30


DEFAULT_MEMORY: Final = ImportMemory()
_STRIP: Final = (DEFAULT_CHUNK[0], 256, 4096)


def fits_slabs(shape: Index, itemsize: int, memory: ImportMemory = DEFAULT_MEMORY) -> bool:
    """Whether a row of the flattest shards fits into the memory."""
    return min(DEFAULT_CHUNK[0], shape.z) * shape.y * shape.x * itemsize <= memory.most_slab_bytes


def import_layout(shape: Index, itemsize: int, memory: ImportMemory = DEFAULT_MEMORY) -> ArrayLayout:
    """Default layout, or flatter and wider shards when a row of default shards is too large for the memory.

    A volume with planes of 20 000 x 20 000 voxels would otherwise need 100 GB to write whole shards. Where even a row
    of the flattest shards is too large, they are as low and long as the strips of planes that are read then.
    """
    if not fits_slabs(shape, itemsize, memory):
        return ArrayLayout(_STRIP, DEFAULT_CHUNK).clamped(shape)
    depth, edge = DEFAULT_SHARD[0], DEFAULT_SHARD[1]
    while depth > DEFAULT_CHUNK[0] and depth * shape.y * shape.x * itemsize > memory.slab_bytes:
        depth //= 2
        edge = edge * 2 if (depth.bit_length() - DEFAULT_SHARD[0].bit_length()) % 2 == 0 else edge
    return ArrayLayout((depth, edge, edge), DEFAULT_CHUNK).clamped(shape)
