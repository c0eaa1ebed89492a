"""A streamed region, put together as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import Internal
from biosegment.rpc.geometry import data_type_from_proto, index_from_proto
from biosegment.rpc.piece import read_piece
from biosegment.rpc.stream import ArrayAssembler
from biosegment.volume import Index


class RegionAssembler:
    """Takes the answers of one ReadRegion call, still serialised, or of a call whose answers look the same.

    Args:
        what: For messages: what is read.
        shape: What must come; any when None.
    """

    def __init__(self, what: str, shape: Index | None = None) -> None:
        self._what = what
        self._shape = shape
        self._array: ArrayAssembler | None = None

    def take(self, message: bytes) -> None:
        """Take the next answer; Internal when it cannot be one, BAD_STREAM or as `ArrayAssembler.place`."""
        piece = read_piece(message)
        if self._array is None:
            if piece.header is None:
                raise Internal("BAD_STREAM", f"the stream of {self._what} began without a header")
            shape = index_from_proto(piece.header.shape)
            if self._shape is not None and shape != self._shape:
                raise Internal(
                    "BAD_STREAM", f"shape {tuple(shape)} came for {self._what}, not {tuple(self._shape)}"
                )
            dtype = data_type_from_proto(piece.header.data_type)
            self._array = ArrayAssembler(np.empty(shape, dtype), Internal)
        self._array.place(piece.data, piece.offset)

    def finish(self) -> NDArray[Any]:
        """The array (z, y, x); Internal BAD_STREAM or TOO_FEW_BYTES when the stream ended early."""
        if self._array is None:
            raise Internal("BAD_STREAM", f"the stream of {self._what} was empty")
        return self._array.finish()
