"""Arrays as streams of byte chunks: C order, little-endian, offsets in bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import BiosegmentError, InvalidArgument

CHUNK_BYTES: Final = 1024 * 1024


def chunks(array: NDArray[Any], size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Cut an array of any shape into `bytes` of `size`, the last one shorter; an empty array gives none.

    Each byte is copied once (protobuf fields hold `bytes`), and once more when an array of several chunks is
    not contiguous.
    """
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.nbytes == 0:
        return
    if array.nbytes <= size:
        yield array.tobytes()
        return
    view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    for offset in range(0, len(view), size):
        yield view[offset : offset + size].tobytes()


class ArrayAssembler:
    """Fills an array from chunks; nothing is copied twice.

    `append` takes chunks that arrive in order, `place` such as arrive in any order, each byte once.

    Args:
        array: Preallocated by the caller, who checked its size; C contiguous, little-endian.
        error: Class to raise for a wrong stream: InvalidArgument from a client, Internal from a server.
    """

    def __init__(self, array: NDArray[Any], error: type[BiosegmentError] = InvalidArgument) -> None:
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError("the array to fill must be C contiguous and writeable")
        self._array = array
        self._view = array.reshape(-1).view(np.uint8).data
        self._error = error
        self._filled = 0
        self._spans: list[tuple[int, int]] = []

    @property
    def filled(self) -> int:
        """Bytes that have arrived."""
        return self._filled

    def append(self, chunk: bytes | memoryview, offset: int | None = None) -> None:
        """Take the next chunk.

        Args:
            chunk: Bytes that follow the ones before.
            offset: Where the sender says that they belong, in bytes; checked when given.

        Raises:
            BiosegmentError: CHUNK_OUT_OF_ORDER or TOO_MANY_BYTES, of the class given.
        """
        if offset is not None and offset != self._filled:
            raise self._error(
                "CHUNK_OUT_OF_ORDER", f"a chunk for byte {offset} came where byte {self._filled} was expected"
            )
        end = self._filled + len(chunk)
        if end > len(self._view):
            raise self._error(
                "TOO_MANY_BYTES",
                f"at least {end} bytes came for an array of {len(self._view)} ({self._what})",
            )
        self._view[self._filled : end] = chunk
        self._filled = end

    def place(self, chunk: bytes | memoryview, offset: int) -> None:
        """Take a chunk that belongs at `offset`, in bytes.

        Raises:
            BiosegmentError: CHUNK_OVERLAPS or TOO_MANY_BYTES, of the class given.
        """
        end = offset + len(chunk)
        if not 0 <= offset <= end <= len(self._view):
            raise self._error(
                "TOO_MANY_BYTES",
                f"bytes {offset} to {end} came for an array of {len(self._view)} ({self._what})",
            )
        self._enter(offset, end)
        self._view[offset:end] = chunk
        self._filled += len(chunk)

    def _enter(self, start: int, stop: int) -> None:
        # Neighbours are joined, so that few spans are known at any time.
        spans, number = self._spans, bisect_right(self._spans, (start, stop))
        before = spans[number - 1] if number else (-1, -1)
        after = spans[number] if number < len(spans) else (len(self._view) + 1, 0)
        if before[1] > start or after[0] < stop:
            raise self._error("CHUNK_OVERLAPS", f"bytes {start} to {stop} came twice ({self._what})")
        first, last = number, number
        if before[1] == start:
            first, start = number - 1, before[0]
        if after[0] == stop:
            last, stop = number + 1, after[1]
        spans[first:last] = [(start, stop)]

    def finish(self) -> NDArray[Any]:
        """Return the array; TOO_FEW_BYTES when the stream ended early."""
        if self._filled != len(self._view):
            raise self._error(
                "TOO_FEW_BYTES",
                f"only {self._filled} of {len(self._view)} bytes came ({self._what}); send it again",
            )
        return self._array

    @property
    def _what(self) -> str:
        return f"shape {self._array.shape}, {self._array.dtype}"
