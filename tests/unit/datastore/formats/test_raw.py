from __future__ import annotations

import os
import tracemalloc

import mrcfile
import numpy as np
import pytest
from biosegment_datastore.formats import raw
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.raw import RawArray
from hypothesis import given
from hypothesis import strategies as st

from biosegment.errors import InvalidArgument


@st.composite
def arrays_and_keys(draw):
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    key = []
    for size in shape:
        start = draw(st.integers(0, size - 1))  # regions are never empty
        part = st.sampled_from([slice(None), slice(start, draw(st.integers(start + 1, size)))])
        key.append(draw(st.integers(0, size - 1) | part))
    return (
        tuple(shape),
        tuple(key),
        draw(st.sampled_from(["<i2", ">i2", "u1", ">f4"])),
        draw(st.integers(0, 9)),
    )


@given(arrays_and_keys(), st.sampled_from([1, 16, 100, 32 << 20]))
def test_every_part_is_what_numpy_gives(tmp_path_factory, case, block_bytes):
    shape, key, dtype, offset = case
    data = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    path = tmp_path_factory.mktemp("raw") / "a.raw"
    path.write_bytes(b"x" * offset + data.tobytes())
    with path.open("rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "_BLOCK_BYTES", block_bytes)
        patch.setattr(raw, "_PART_BYTES", block_bytes // 2)
        part = RawArray("a.raw", file, offset, shape, np.dtype(dtype))[key]
    assert part.dtype == dtype
    assert np.array_equal(part, data[key])


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(100))
    with path.open("rb") as file:
        array = RawArray("a.raw", file, 0, (10, 10), np.dtype("u1"))
        os.truncate(path, 55)
        assert array[slice(0, 5), slice(None)].shape == (5, 10)
        with pytest.raises(InvalidArgument) as error:
            array[slice(0, 6), slice(None)]
    assert error.value.reason == "TRUNCATED_FILE"


@pytest.mark.parametrize("axes", ["xyz", "zyx"])
def test_a_slab_of_a_huge_file_needs_the_memory_of_a_slab(tmp_path, axes):
    path, edge = tmp_path / "a.mrc", 2500
    with mrcfile.new(path, np.zeros((1, 1, 1), "i2")) as file:
        file.header.nx, file.header.ny, file.header.nz = edge, edge, edge
        file.header.mapc, file.header.mapr, file.header.maps = ("xyz".index(axis) + 1 for axis in axes)
    size = 1024 + edge**3 * 2
    os.truncate(path, size)  # 31 GB, sparse
    with path.open("r+b") as file:
        first, last = (edge // 2 * edge**2, -1) if axes == "xyz" else (edge // 2, -edge // 2)
        for place in (first, edge**3 + last):
            file.seek(1024 + 2 * place)
            file.write(b"\7\0")
    depth = slice(edge // 2, edge // 2 + 1)
    if axes == "zyx":
        # Planes lie across the whole file here, which would take long to read: look at a part of it.
        with path.open("rb") as file:
            array = RawArray("a.mrc", file, 1024, (edge, edge, edge), np.dtype("<i2"))
            assert peak(lambda: array[slice(0, 3), slice(None), depth]) < 100 << 20
            assert array[slice(0, 3), slice(None), depth][0, 0, 0] == 7
        return
    with open_source(path) as source:
        assert source.shape == (edge, edge, edge)
        assert peak(lambda: source.read_slab(depth.start, depth.stop)) < 100 << 20
        assert source.read_slab(depth.start, depth.stop)[0, 0, 0] == 7
        assert source.read_slab(edge - 1, edge)[0, -1, -1] == 7


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
