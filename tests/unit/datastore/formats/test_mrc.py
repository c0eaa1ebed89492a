from __future__ import annotations

import bz2
import gzip
import shutil

import mrcfile
import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source

from biosegment.volume import VoxelSize
from tests.unit.datastore.formats.reading import (
    SHAPE,
    assert_reads,
    noise,
    open_files,
    opened_since,
    options,
    refused,
)

VOXEL_ANGSTROM = (46.0, 50.0, 500.0)  # x, y, z
VOXEL_SIZE = VoxelSize(50, 5, 4.6)


def write(path, data, **header):
    """Written by mrcfile; then fields of the header are set."""
    with mrcfile.new(path, data) as file:
        file.voxel_size = VOXEL_ANGSTROM
        for name, value in header.items():
            file.header[name] = value
    return path


def patch(path, place, data):
    raw = bytearray(path.read_bytes())
    raw[place : place + len(data)] = data
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4"])
def test_every_type_of_voxel_is_read_with_its_size(tmp_path, dtype):
    path = write(tmp_path / "a.mrc", noise(dtype))
    assert_reads(path, noise(dtype))
    with open_source(path) as source:
        assert source.voxel_size == VOXEL_SIZE
        assert source.format == "MRC"


@pytest.mark.parametrize("dtype", [">i2", ">u2", ">f4"])
def test_big_endian_files_are_read(tmp_path, dtype):
    path = write(tmp_path / "a.mrc", noise(dtype))
    assert path.read_bytes()[212] == 0x11
    assert_reads(path, noise(dtype))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_wrong_machine_stamp_is_seen_through(tmp_path, order):
    path = write(tmp_path / "a.mrc", noise(order + "i2"))
    patch(path, 212, b"\x44\x44" if order == ">" else b"\x11\x11")
    assert_reads(path, noise("i2"))


def test_floats_of_16_bits_become_float32(tmp_path):
    data = noise("f2")
    assert_reads(write(tmp_path / "a.mrc", data), data.astype("f4"))


@pytest.mark.parametrize(("opener", "name"), [(gzip.open, "gz"), (bz2.open, "bz2")])
def test_compressed_files_are_read_and_leave_nothing_behind(tmp_path, opener, name):
    path, scratch = write(tmp_path / "a.mrc", noise("i2")), tmp_path / "scratch"
    scratch.mkdir()
    packed = tmp_path / f"a.mrc.{name}"
    with opener(packed, "wb") as file:
        file.write(path.read_bytes())
    before = open_files()
    assert_reads(packed, noise("i2"), options(scratch))
    assert list(scratch.iterdir()) == []
    assert opened_since(before) == []


def test_an_extended_header_is_stepped_over(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc", noise("i2")) as file:
        file.set_extended_header(np.frombuffer(bytes(range(256)) * 5, "V1"))
    assert_reads(tmp_path / "a.mrc", noise("i2"))


@pytest.mark.parametrize(("flags", "dtype"), [(1, "i1"), (0, "u1"), (16, "u1"), (17, "i1")])
def test_imods_flag_says_whether_bytes_are_signed(tmp_path, flags, dtype):
    path = write(tmp_path / "a.mrc", noise("u1").view("i1"))
    patch(path, 152, (1146047817).to_bytes(4, "little") + flags.to_bytes(4, "little"))
    assert_reads(path, noise("u1").view(dtype))


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-128, 127, "i1"), (0, 255, "u1"), (0, 100, "i1"), (0, -1, "i1"), (3, 128, "u1")],
)
def test_without_imods_stamp_the_range_of_values_says_whether_bytes_are_signed(tmp_path, low, high, dtype):
    path = write(tmp_path / "a.mrc", noise("u1").view("i1"), dmin=low, dmax=high)
    assert_reads(path, noise("u1").view(dtype))


@pytest.mark.parametrize("axes", ["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"])
def test_columns_rows_and_sections_may_be_any_axes(tmp_path, axes):
    data = noise("i2")
    numbers = dict(zip(("mapc", "mapr", "maps"), ("xyz".index(axis) + 1 for axis in axes), strict=True))
    stored = data.transpose(["zyx".index(axis) for axis in reversed(axes)])
    path = tmp_path / "a.mrc"
    with mrcfile.new(path, np.ascontiguousarray(stored)) as file:
        file.header.mx, file.header.my, file.header.mz = SHAPE[::-1]
        cell = [edge * size for edge, size in zip(VOXEL_ANGSTROM, SHAPE[::-1], strict=True)]
        file.header.cella.x, file.header.cella.y, file.header.cella.z = cell
        for name, number in numbers.items():
            file.header[name] = number
    assert_reads(path, data)
    with open_source(path) as source:
        assert source.voxel_size == VOXEL_SIZE


def test_one_volume_of_a_stack_is_chosen(tmp_path):
    data = noise("i2", (3, *SHAPE))
    with mrcfile.new(tmp_path / "a.mrc", data) as file:
        assert file.is_volume_stack()
    assert refused(tmp_path / "a.mrc") == "TIME_POINT_MISSING"
    assert_reads(tmp_path / "a.mrc", data[2], options(tmp_path, time_point=2))


@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
def test_a_header_without_stamp_is_told_by_making_sense(tmp_path, dtype):
    path = write(tmp_path / "old.mrc", noise(dtype))
    patch(path, 208, bytes(8))
    assert_reads(path, noise("i2"))


def test_a_cell_without_size_gives_no_voxel_size(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc", noise("i2")) as file:
        file.header.cella = (0, 0, 0)
    with open_source(tmp_path / "a.mrc") as source:
        assert source.voxel_size is None


@pytest.mark.parametrize(
    ("mode", "reason"), [(101, "BAD_DTYPE"), (4, "BAD_DTYPE"), (3, "BAD_DTYPE"), (77, "UNREADABLE_FILE")]
)
def test_modes_without_grey_values_are_refused(tmp_path, mode, reason):
    assert refused(write(tmp_path / "a.mrc", noise("i1"), mode=mode)) == reason


@pytest.mark.parametrize("kept", [300, 1023, 1024, 1025, 5000, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = write(tmp_path / "a.mrc", noise("i2"))
    path.write_bytes(path.read_bytes()[:kept])
    before = open_files()
    assert refused(path) == "TRUNCATED_FILE"
    assert opened_since(before) == []


@pytest.mark.parametrize("opener", [gzip, bz2])
def test_a_compressed_file_that_is_truncated_damaged_or_a_bomb_is_refused(tmp_path, opener):
    plain = write(tmp_path / "a.mrc", noise("i2"))
    raw, path = plain.read_bytes(), tmp_path / "b.mrc"
    packed = opener.compress(raw)
    path.write_bytes(packed[:-3])
    assert refused(path, options(tmp_path)) == "TRUNCATED_FILE"
    path.write_bytes(opener.compress(raw[:-10]))
    assert refused(path, options(tmp_path)) == "TRUNCATED_FILE"
    path.write_bytes(packed[:-4] + bytes(4))
    assert refused(path, options(tmp_path)) in ("UNREADABLE_FILE", "TRUNCATED_FILE")
    path.write_bytes(opener.compress(raw + bytes(50 << 20)))
    assert refused(path, options(tmp_path)) == "UNREADABLE_FILE"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.mrc", "b.mrc"]


def test_a_compressed_header_that_promises_more_than_could_be_there_is_refused_before_unpacking(tmp_path):
    path = write(tmp_path / "a.mrc", noise("i2"), nz=40_000, ny=40_000)
    (tmp_path / "b.mrc").write_bytes(gzip.compress(path.read_bytes()))
    assert refused(tmp_path / "b.mrc", options(tmp_path)) == "TRUNCATED_FILE"


def test_what_unpacks_to_more_than_the_disk_holds_is_refused_before_unpacking(tmp_path):
    # A million to one: bzip2 can do that with voxels that are all alike.
    depth = 2 * shutil.disk_usage(tmp_path).free // 2_000_000 + 1
    path = write(tmp_path / "a.mrc", np.zeros(SHAPE, "i2"), nz=depth, ny=1000, nx=1000)
    (tmp_path / "b.mrc").write_bytes(bz2.compress(path.read_bytes()) + bytes(depth))
    assert refused(tmp_path / "b.mrc", options(tmp_path)) == "DISK_FULL"


@pytest.mark.parametrize("field", ["nx", "ny", "nz"])
def test_an_axis_without_voxels_is_refused(tmp_path, field):
    assert refused(write(tmp_path / "a.mrc", noise("i2"), **{field: 0})) == "UNREADABLE_FILE"


def test_a_header_that_promises_more_than_memory_holds_is_refused(tmp_path):
    path = write(tmp_path / "a.mrc", noise("i2"), nx=2**31 - 1, ny=2**31 - 1, nz=2**31 - 1)
    assert refused(path) == "TRUNCATED_FILE"


def test_a_single_image_is_no_volume_unless_it_is_one_plane(tmp_path):
    path = write(tmp_path / "a.mrc", noise("i2", (1, 20, 30)))
    with open_source(path) as source:
        assert source.shape == (1, 20, 30)


def test_a_real_map_is_read_as_mrcfile_reads_it(shared):
    path = shared / "data/formats/EMD-3197.map"
    with mrcfile.open(path) as file:
        assert_reads(path, np.array(file.data))
    with open_source(path) as source:
        assert source.voxel_size == VoxelSize(1.14, 1.14, 1.14)
