"""Files of any size in the object storage, as parts: object stores cannot append, and no part needs to fit twice.

Part `{prefix}/{offset}` holds the bytes from that offset on, so that the list of keys is the table of contents.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from biosegment.errors import Internal
from biosegment.storage.objects import BlockingObjects, Objects

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

    async def is_complete(self) -> bool:
        """Whether the last part ends where the file does."""
        keys = await self.objects.list(f"{self.prefix}/")
        if not keys:
            return not self.size_bytes
        return int(keys[-1].rpartition("/")[2]) + await self.objects.size(keys[-1]) == self.size_bytes

    def _incomplete(self, offset: int) -> Internal:
        return Internal("FILE_INCOMPLETE", f"the stored file {self.prefix!r} has no byte {offset}")


class PartWriter(io.RawIOBase):
    """Writes a file from its beginning to its end; what is in memory is one part.

    Attributes:
        size_bytes: Written so far.
    """

    def __init__(self, objects: BlockingObjects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        """As `io.RawIOBase`."""
        return True

    def write(self, data: Any) -> int:
        """Append; blocks while a part is stored. Errors as `BlockingObjects.put`."""
        piece = memoryview(data).cast("B")
        self._digest.update(piece)
        self._buffer += piece
        self.size_bytes += len(piece)
        while len(self._buffer) >= PART_BYTES:
            self._store(PART_BYTES)
        return len(piece)

    def finish(self) -> str:
        """Store the rest and return the SHA-256 of the file, in hexadecimal."""
        if self._buffer:
            self._store(len(self._buffer))
        return self._digest.hexdigest()

    def _store(self, size: int) -> None:
        self._objects.put(part_key(self._prefix, self.size_bytes - len(self._buffer)), self._buffer[:size])
        del self._buffer[:size]
