"""Messages that carry voxels, written and read without copying the voxels through protobuf objects.

A `ReadRegionResponse` holds one `ArrayChunk`, which holds up to a megabyte of bytes. Building it from Python copies
these four times, and taking it apart three times; here it is once each way. The bytes on the wire are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from biosegment.api.datastore.v1alpha1.datastore_pb2 import ReadRegionResponse
from biosegment.api.volume.v1alpha1.geometry_pb2 import ArrayChunk, ArrayHeader

_LENGTH: Final = 2
_CHUNK_TAG: Final = ReadRegionResponse.CHUNK_FIELD_NUMBER << 3 | _LENGTH
_DATA_TAG: Final = ArrayChunk.DATA_FIELD_NUMBER << 3 | _LENGTH


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an array.

    Attributes:
        header: What the array is; in the first message only.
        offset: Of `data` in bytes.
        data: Little-endian voxels in C order.
    """

    header: ArrayHeader | None
    offset: int
    data: memoryview


def write_piece(header: ArrayHeader | None, offset: int, data: memoryview) -> bytes:
    """A serialised ReadRegionResponse."""
    fields = ArrayChunk(header=header, offset=offset).SerializeToString()
    length = len(fields) + 1 + len(_varint(len(data))) + len(data)
    head = (bytes((_CHUNK_TAG,)), _varint(length), fields, bytes((_DATA_TAG,)), _varint(len(data)))
    return b"".join((*head, data))


def read_piece(message: bytes) -> Piece:
    """Take a serialised ReadRegionResponse apart; `data` refers to `message`.

    Raises:
        google.protobuf.message.DecodeError: It is none.
    """
    data = _data_at_end(memoryview(message))
    if data is None:  # another implementation may write the same fields in another order
        chunk = ReadRegionResponse.FromString(message).chunk
        return Piece(chunk.header if chunk.HasField("header") else None, chunk.offset, memoryview(chunk.data))
    fields_start, fields_stop, payload = data
    chunk = ArrayChunk.FromString(message[fields_start:fields_stop])
    return Piece(chunk.header if chunk.HasField("header") else None, chunk.offset, payload)


def _data_at_end(message: memoryview) -> tuple[int, int, memoryview] | None:
    """Where the fields before `data` are, and `data`, when it is the last field of the only field."""
    if not message or message[0] != _CHUNK_TAG:
        return None
    length, place = _read_varint(message, 1)
    if place + length != len(message):
        return None
    start = place
    while place < len(message):
        tag, after = _read_varint(message, place)
        if tag & 7 not in (0, _LENGTH):
            return None
        value, after = _read_varint(message, after)
        if tag == _DATA_TAG:
            return (start, place, message[after:]) if after + value == len(message) else None
        place = after + (value if tag & 7 == _LENGTH else 0)
    return None


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    return value, place
