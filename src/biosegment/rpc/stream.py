"""Arrays as streams of byte chunks: C order, little-endian, offsets in bytes."""

from __future__ import annotations

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
    """Fills an array from chunks that arrive in order; nothing is copied twice.

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
