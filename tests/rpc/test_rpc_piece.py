from __future__ import annotations

import itertools

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from biosegment.api.datastore.v1alpha1.datastore_pb2 import ReadRegionResponse
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import Internal
from biosegment.rpc.piece import read_piece, write_piece
from biosegment.rpc.stream import ArrayAssembler

HEADERS = st.none() | st.builds(
    lambda z, y, x: geometry_pb2.ArrayHeader(shape=geometry_pb2.Index(z=z, y=y, x=x), data_type=1),
    *(st.integers(0, 2**40),) * 3,
)
DATA = st.binary(max_size=300) | st.integers(0, 70_000).map(lambda size: bytes([size % 251]) * size)


@given(header=HEADERS, offset=st.integers(0, 2**40), data=DATA)
def test_what_is_written_is_what_protobuf_reads(
    header: geometry_pb2.ArrayHeader | None, offset: int, data: bytes
) -> None:
    message = ReadRegionResponse.FromString(write_piece(header, offset, memoryview(data)))
    chunk = geometry_pb2.ArrayChunk(header=header, offset=offset, data=data)
    assert message == ReadRegionResponse(chunk=chunk)


@given(header=HEADERS, offset=st.integers(0, 2**40), data=DATA)
def test_what_protobuf_writes_is_what_is_read(
    header: geometry_pb2.ArrayHeader | None, offset: int, data: bytes
) -> None:
    chunk = geometry_pb2.ArrayChunk(header=header, offset=offset, data=data)
    piece = read_piece(ReadRegionResponse(chunk=chunk).SerializeToString())
    assert (piece.header, piece.offset, bytes(piece.data)) == (header, offset, data)


def test_fields_in_another_order_are_read_too() -> None:
    data = geometry_pb2.ArrayChunk(data=b"voxels").SerializeToString()
    offset = geometry_pb2.ArrayChunk(offset=7).SerializeToString()
    inner = data + offset
    piece = read_piece(bytes((0x0A, len(inner))) + inner)
    assert (piece.header, piece.offset, bytes(piece.data)) == (None, 7, b"voxels")


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_are_refused_or_read_as_protobuf_reads_them(message: bytes) -> None:
    try:
        expected = ReadRegionResponse.FromString(message).chunk
    except DecodeError:
        # Data that ends where the message ends is taken as it is; everything else is an error here too.
        try:
            piece = read_piece(message)
        except DecodeError:
            return
        assert message.endswith(bytes(piece.data))
        return
    piece = read_piece(message)
    assert (piece.offset, bytes(piece.data)) == (expected.offset, expected.data)


@given(st.data())
def test_chunks_in_any_order_fill_an_array(data: st.DataObject) -> None:
    array = np.arange(data.draw(st.integers(1, 200)), dtype=np.uint16)
    raw = memoryview(array).cast("B")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)) | {0, len(raw)})
    spans = data.draw(st.permutations(list(itertools.pairwise(cuts))))
    assembler = ArrayAssembler(np.zeros(array.shape, np.uint16), Internal)
    for start, stop in spans:
        assembler.place(raw[start:stop], start)
    np.testing.assert_array_equal(assembler.finish(), array)


@pytest.mark.parametrize(
    ("offset", "size", "reason"),
    [(0, 4, "CHUNK_OVERLAPS"), (6, 4, "CHUNK_OVERLAPS"), (3, 2, "CHUNK_OVERLAPS"), (12, 5, "TOO_MANY_BYTES")],
)
def test_a_byte_that_comes_twice_or_belongs_nowhere_is_refused(offset: int, size: int, reason: str) -> None:
    assembler = ArrayAssembler(np.zeros(16, np.uint8), Internal)
    assembler.place(b"\1" * 4, 8)
    assembler.place(b"\1" * 4, 0)
    with pytest.raises(Internal) as caught:
        assembler.place(b"\2" * size, offset)
    assert caught.value.reason == reason
    assert 2 not in assembler._array
    with pytest.raises(Internal) as missing:
        assembler.finish()
    assert missing.value.reason == "TOO_FEW_BYTES"
