from __future__ import annotations

import struct

import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source

from biosegment.volume import VoxelSize
from tests.unit.datastore.formats.dm_file import Writer, thumbnails
from tests.unit.datastore.formats.reading import (
    assert_reads,
    labels_too,
    noise,
    open_files,
    opened_since,
    options,
    refused,
)

CALIBRATIONS = [(0.0046, "µm"), (50.0, "Å"), (50.0, "nm")]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "f4"])
def test_every_type_of_voxel_is_read_with_its_size(tmp_path, version, order, dtype):
    writer = Writer(version, order)
    thumbnail = writer.image(np.zeros((150, 150), "i4"), data_type=23)
    image = writer.image(noise(dtype), CALIBRATIONS)
    path = writer.write(tmp_path / "a.dm", thumbnail, image, more=[thumbnails(writer)])
    before = open_files()
    assert_reads(path, noise(dtype))
    with open_source(path) as source:
        assert source.voxel_size == VoxelSize(50, 5, 4.6)
        assert source.format == f"DM{version}"
    assert opened_since(before) == []


def test_the_largest_image_is_read(tmp_path):
    writer = Writer(4)
    images = [
        writer.image(noise("u1", (2, 5, 6))),
        writer.image(noise("u1")),
        writer.image(noise("u1", (3, 5, 6))),
    ]
    assert_reads(writer.write(tmp_path / "a.dm4", *images), noise("u1"))


def test_other_tags_are_stepped_over(tmp_path):
    writer = Writer(3)
    rectangle = writer.value("Rectangle", [15, 0, 4, 0, 4, 0, 4, 0, 5, 0, 6], bytes(12))
    points = writer.value("Points", [20, 15, 0, 2, 0, 6, 0, 6, 100], bytes(800))
    text = writer.value("Text", [18, 5], bytes(10))
    path = writer.write(tmp_path / "a.dm3", writer.image(noise("i2")), more=[rectangle, points, text])
    assert_reads(path, noise("i2"))


@pytest.mark.parametrize(
    "calibrations",
    [(), CALIBRATIONS[:2], [*CALIBRATIONS[:2], (5.0, "eV")], [*CALIBRATIONS[:2], (np.nan, "nm")]],
)
def test_a_size_that_is_not_known_along_every_axis_is_not_known(tmp_path, calibrations):
    writer = Writer(3)
    with open_source(writer.write(tmp_path / "a.dm3", writer.image(noise("i2"), calibrations))) as source:
        assert source.voxel_size is None


def test_four_axes_must_be_named_and_two_are_no_volume(tmp_path):
    writer, data = Writer(4), noise("u1", (3, 7, 33, 47))
    path = writer.write(tmp_path / "a.dm4", writer.image(data))
    assert refused(path) == "BAD_AXES"
    assert_reads(path, data[1], options(tmp_path, axes="tzyx", time_point=1))
    path = writer.write(tmp_path / "b.dm4", writer.image(data[0, 0]))
    assert refused(path) == "NOT_A_VOLUME"


def test_wide_integers_are_read_as_labels_only(tmp_path):
    path = Writer(3).write(tmp_path / "a.dm3", Writer(3).image(noise("i4")))
    assert refused(path) == "BAD_DTYPE"
    assert_reads(path, noise("i4"), labels_too())


@pytest.mark.parametrize("data_type", [3, 13, 23, 99])
def test_voxels_without_grey_values_are_refused(tmp_path, data_type):
    writer = Writer(3)
    assert (
        refused(writer.write(tmp_path / "a.dm3", writer.image(noise("i4"), data_type=data_type)))
        == "BAD_DTYPE"
    )


def test_a_file_without_image_is_refused(tmp_path):
    assert refused(Writer(3).write(tmp_path / "a.dm3")) == "UNREADABLE_FILE"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("kept", [24, 60, 200, 5000, -100])
def test_a_truncated_file_is_refused(tmp_path, version, kept):
    path = Writer(version).write(tmp_path / "a.dm", Writer(version).image(noise("i2"), CALIBRATIONS))
    path.write_bytes(path.read_bytes()[:kept])
    before = open_files()
    assert refused(path) == "TRUNCATED_FILE"
    assert opened_since(before) == []


def test_sizes_that_promise_more_than_there_is_are_refused(tmp_path):
    writer = Writer(3)
    path = writer.write(tmp_path / "a.dm3", writer.image(noise("i2")))
    raw, size = path.read_bytes(), struct.pack("<I", 47)
    for false, reason in ((0, "UNREADABLE_FILE"), (48, "TRUNCATED_FILE"), (2**32 - 1, "TRUNCATED_FILE")):
        path.write_bytes(raw.replace(size, struct.pack("<I", false)))
        assert refused(path) == reason


def test_tags_that_are_nested_without_end_are_refused(tmp_path):
    writer, nested = Writer(3), b""
    for _ in range(300):
        nested = writer.named_group("deeper", nested) if nested else writer.named_group("deepest")
    path = writer.write(tmp_path / "a.dm3", writer.image(noise("i2")), more=[nested])
    assert refused(path) == "UNREADABLE_FILE"


@pytest.mark.parametrize("info", [[99], [20, 20, 4, 1], [15, 0, 3, 0, 4], [], [20, 15, 0, 2**31, 4]])
def test_types_that_do_not_exist_are_refused(tmp_path, info):
    writer = Writer(3)
    path = writer.write(
        tmp_path / "a.dm3", writer.image(noise("i2")), more=[writer.value("odd", info, bytes(8))]
    )
    assert refused(path) == "UNREADABLE_FILE"


@pytest.mark.parametrize("name", ["dm_int16_64x65x66.dm3", "dm_int16_64x65x66.dm4"])
def test_real_files_are_read_with_another_unit_on_every_axis(shared, tmp_path, name):
    raw = (shared / "data/formats" / name).read_bytes()
    place = raw.index(np.arange(64, dtype="<i2").tobytes()) if b"ImageList" in raw else -1
    expected = np.frombuffer(raw, "<i2", 64 * 65 * 66, place).reshape(66, 65, 64)
    assert_reads(shared / "data/formats" / name, expected)
    # 2 pm are less than is believed; make them 20.
    wide = struct.pack("<f", 2.0), struct.pack("<f", 20.0)
    scale = b"%%%%" + (struct.pack(">II", 1, 6) if name.endswith("3") else struct.pack(">QQ", 1, 6))
    assert raw.count(scale + wide[0]) >= 1
    (tmp_path / name).write_bytes(raw.replace(scale + wide[0], scale + wide[1]))
    with open_source(tmp_path / name) as source:
        assert source.voxel_size == VoxelSize(4000, 3, 0.02)
