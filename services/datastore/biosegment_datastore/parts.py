"""Files of any size in the object storage, as parts: object stores cannot append, and no part needs to fit twice.

Part `{prefix}/{offset}` holds the bytes from that offset on, so that the list of keys is the table of contents.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass

from biosegment.errors import Internal
from biosegment.storage.objects import Objects

PART_BYTES = 16 << 20
_DIGITS = 16


def part_key(prefix: str, offset: int) -> str:
    """Key of the part that begins at `offset`."""
    return f"{prefix}/{offset:0{_DIGITS}d}"


@dataclass(frozen=True, slots=True)
class Parts:
    """A stored file of `size_bytes` below `prefix`."""

    objects: Objects
    prefix: str
    size_bytes: int

    async def read(self, offset: int, piece_bytes: int) -> AsyncIterator[tuple[int, bytes]]:
        """Offsets and pieces of at most `piece_bytes`, from `offset` to the end.

        Raises:
            Internal: FILE_INCOMPLETE when a part is missing.
        """
        keys = await self.objects.list(f"{self.prefix}/")
        starts = [int(key.rpartition("/")[2]) for key in keys]
        while offset < self.size_bytes:
            number = bisect_right(starts, offset) - 1
            if number < 0:
                raise self._incomplete(offset)
            part = await self.objects.get(keys[number])
            inside = offset - starts[number]
            if inside >= len(part):
                raise self._incomplete(offset)
            end = min(len(part), inside + self.size_bytes - offset)
            for start in range(inside, end, piece_bytes):
                piece = part[start : min(start + piece_bytes, end)]
                yield offset, piece
                offset += len(piece)

    def _incomplete(self, offset: int) -> Internal:
        return Internal("FILE_INCOMPLETE", f"the stored file {self.prefix!r} has no byte {offset}")
