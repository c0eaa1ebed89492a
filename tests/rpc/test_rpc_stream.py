from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biosegment.errors import Internal, InvalidArgument
from biosegment.rpc.stream import CHUNK_BYTES, ArrayAssembler, chunks

DTYPES = st.sampled_from(["uint8", "uint16", "int64", "float16", "float32", ">u2", ">f4", "bool"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(max_dims=4, max_side=7))


def _assembled(array: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    assembler = ArrayAssembler(np.empty(array.shape, array.dtype.newbyteorder("<")))
    for chunk in chunks(array, size):
        assembler.append(chunk, assembler.filled)
    return assembler.finish()


@given(array=ARRAYS, size=st.integers(1, 64))
def test_any_array_comes_back_whatever_the_size_of_the_chunks(array: np.ndarray[Any, Any], size: int) -> None:
    np.testing.assert_array_equal(_assembled(array, size), array)


@given(array=ARRAYS, size=st.integers(1, 64))
def test_views_that_are_not_contiguous_come_back(array: np.ndarray[Any, Any], size: int) -> None:
    np.testing.assert_array_equal(_assembled(array.T[::-1], size), array.T[::-1])


@given(array=ARRAYS, size=st.integers(1, 64))
def test_chunks_have_the_size_asked_for_and_the_last_one_the_rest(
    array: np.ndarray[Any, Any], size: int
) -> None:
    lengths = [len(chunk) for chunk in chunks(array, size)]
    assert sum(lengths) == array.nbytes
    assert all(length == size for length in lengths[:-1])
    assert 0 < lengths[-1] <= size


def test_bytes_on_the_wire_are_little_endian_and_in_c_order() -> None:
    array = np.array([[1, 2], [3, 4]], dtype=">u2", order="F")
    assert b"".join(chunks(array)) == bytes([1, 0, 2, 0, 3, 0, 4, 0])


def test_an_empty_array_has_no_chunks() -> None:
    assert list(chunks(np.empty((0, 3), np.uint8))) == []
    assert ArrayAssembler(np.empty((0, 3), np.uint8)).finish().shape == (0, 3)


def test_a_large_array_is_cut_into_messages_of_a_mebibyte() -> None:
    array = np.arange(3 * CHUNK_BYTES // 4 + 5, dtype=np.float32)
    lengths = [len(chunk) for chunk in chunks(array)]
    assert lengths == [CHUNK_BYTES] * 3 + [20]


@pytest.mark.parametrize("error", [InvalidArgument, Internal])
def test_a_short_stream_is_refused(error: type[InvalidArgument] | type[Internal]) -> None:
    assembler = ArrayAssembler(np.empty(10, np.uint8), error)
    assembler.append(b"123456789")
    with pytest.raises(error, match="only 9 of 10 bytes") as caught:
        assembler.finish()
    assert caught.value.reason == "TOO_FEW_BYTES"


def test_a_long_stream_is_refused_and_nothing_beyond_the_array_is_written() -> None:
    backing = np.zeros(12, np.uint8)
    assembler = ArrayAssembler(backing[:10])
    assembler.append(b"12345678")
    with pytest.raises(InvalidArgument) as caught:
        assembler.append(b"90x")
    assert caught.value.reason == "TOO_MANY_BYTES"
    assert not backing[10:].any()


@pytest.mark.parametrize("offset", [0, 3, 5, -1])
def test_a_chunk_out_of_order_is_refused(offset: int) -> None:
    assembler = ArrayAssembler(np.empty(10, np.uint8))
    assembler.append(b"1234", 0)
    with pytest.raises(InvalidArgument) as caught:
        assembler.append(b"5678", offset)
    assert caught.value.reason == "CHUNK_OUT_OF_ORDER"
    assembler.append(b"567890", 4)
    assert assembler.finish().tobytes() == b"1234567890"


def test_only_memory_that_can_be_filled_in_order_is_accepted() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        ArrayAssembler(np.empty((4, 4), np.uint8).T[::2])
