from __future__ import annotations

import bz2
import gzip

import nrrd
import numpy as np
import pytest
import SimpleITK
from biosegment_datastore.formats.detection import open_source

from biosegment.volume import VoxelSize
from tests.unit.datastore.formats.reading import (
    SHAPE,
    assert_reads,
    labels_too,
    noise,
    open_files,
    opened_since,
    options,
    refused,
)

VOXEL_SIZE = VoxelSize(50, 5, 4.6)
GEOMETRY = {
    "space dimension": 3,
    "space directions": np.diag([4.6, 5, 50]),
    "space units": ["nm", "nm", "nm"],
    "kinds": ["domain"] * 3,
}


def write(path, data, header=GEOMETRY, **values):
    """Written by pynrrd; `data` is slowest first."""
    nrrd.write(str(path), data, dict(header), index_order="C", **values)
    return path


def edited(path, old, new):
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new, 1))
    return path


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "f4", ">i2", ">f4"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ASCII"])
def test_every_type_and_encoding_is_read_with_its_voxel_size(tmp_path, dtype, encoding):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = write(tmp_path / "a.nrrd", noise(dtype), {**GEOMETRY, "encoding": encoding})
    before = open_files()
    if encoding == "ASCII" and "f" in dtype:
        with open_source(path) as source:
            assert np.allclose(source.read_slab(0, 7), noise("f4"), rtol=1e-6)
    else:
        assert_reads(path, noise(dtype).astype(np.dtype(dtype).newbyteorder("=")), options(scratch))
    with open_source(path) as source:
        assert source.voxel_size == VOXEL_SIZE
    assert opened_since(before) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_a_header_with_its_data_beside_it_is_read(tmp_path, encoding):
    path = write(tmp_path / "a.nhdr", noise("u2"), {**GEOMETRY, "encoding": encoding}, detached_header=True)
    assert len(list(tmp_path.iterdir())) == 2
    assert_reads(path, noise("u2"))


def test_what_simpleitk_writes_is_read(tmp_path):
    image = SimpleITK.GetImageFromArray(noise("u2"))
    for name, compressed in (("a.nrrd", True), ("b.nrrd", False), ("c.nhdr", False)):
        SimpleITK.WriteImage(image, str(tmp_path / name), compressed)
        assert_reads(tmp_path / name, noise("u2"))
        with open_source(tmp_path / name) as source:
            assert source.voxel_size is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"spacings": [0.0046, 0.005, 0.05], "units": ["um", "um", "um"]}, VOXEL_SIZE),
        ({"spacings": [4.6, 5, 50]}, None),
        ({**GEOMETRY, "space units": ["nm", "nm", "um"]}, VoxelSize(50_000, 5, 4.6)),
        (
            {**GEOMETRY, "space directions": np.array([[3, 4, 0], [-8, 6, 0], [0, 0, 50]])},
            VoxelSize(50, 10, 5),
        ),
        ({**GEOMETRY, "space units": ["pixel"] * 3}, None),
    ],
)
def test_other_ways_to_say_the_voxel_size_are_understood(tmp_path, header, expected):
    with open_source(write(tmp_path / "a.nrrd", noise(), header)) as source:
        assert source.voxel_size == expected


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_micrometre_is_never_taken_for_a_metre(tmp_path, encoding):
    header = {"spacings": [0.0046, 0.005, 0.05], "units": ["um", "um", "um"]}
    path = write(tmp_path / "a.nrrd", noise(), header)
    edited(path, b'"um" "um" "um"', '"µm" "µm" "µm"'.encode(encoding))
    with open_source(path) as source:
        assert source.voxel_size == VOXEL_SIZE


def test_a_list_axis_is_a_channel_wherever_it_is(tmp_path):
    data = noise("u1", (*SHAPE, 3))
    header = {"kinds": ["list", "domain", "domain", "domain"], "encoding": "raw", "space dimension": 3}
    header["space directions"] = np.array([[np.nan] * 3, [4.6, 0, 0], [0, 5, 0], [0, 0, 50]])
    header["space units"] = ["nm"] * 3
    for kinds in (True, False):
        if not kinds:
            del header["kinds"]
        path = write(tmp_path / "a.nrrd", data, header)
        assert refused(path) == "CHANNEL_MISSING"
        assert_reads(path, data[..., 2], options(tmp_path, channel=2))
        with open_source(path, options(tmp_path, channel=0)) as source:
            assert source.voxel_size == VOXEL_SIZE
    slowest = noise("u1", (4, *SHAPE))
    path = write(tmp_path / "b.nrrd", slowest, {"kinds": ["domain", "domain", "domain", "time"]})
    assert_reads(path, slowest[3], options(tmp_path, time_point=3))


def test_four_axes_without_kinds_must_be_named(tmp_path):
    data = noise("u1", (4, *SHAPE))
    path = write(tmp_path / "a.nrrd", data, {})
    assert refused(path) == "BAD_AXES"
    assert_reads(path, data[1], options(tmp_path, axes="czyx", channel=1))


def test_a_segmentation_of_slicer_is_read_layer_by_layer(tmp_path):
    layers = (noise("u1", (*SHAPE, 2)) % 3).astype("u1")
    header = {
        "kinds": ["list", "domain", "domain", "domain"],
        "space": "left-posterior-superior",
        "space directions": np.array([[np.nan] * 3, [4.6, 0, 0], [0, 5, 0], [0, 0, 50]]),
        "encoding": "gzip",
        "Segment0_ID": "mito",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
    }
    path = write(tmp_path / "a.seg.nrrd", layers, header)
    for layer in (0, 1):
        assert_reads(path, layers[..., layer], options(tmp_path, channel=layer))
    with open_source(path, options(tmp_path, channel=0)) as source:
        assert source.format == "NRRD segmentation"


def test_wide_integers_are_read_as_labels_only(tmp_path):
    for dtype in ("i4", "u4", "i8", "u8"):
        path = write(tmp_path / "a.nrrd", noise(dtype))
        assert refused(path) == "BAD_DTYPE"
        assert_reads(path, noise(dtype), labels_too())


@pytest.mark.parametrize("skip", [b"line skip: 2\nbyte skip: 3\n", b"byte skip: -1\n"])
def test_lines_and_bytes_before_the_voxels_are_skipped(tmp_path, skip):
    data = noise("u2")
    (tmp_path / "a.dat").write_bytes(b"one\ntwo\nxyz" + data.tobytes())
    header = b"NRRD0004\ntype: ushort\ndimension: 3\nsizes: 47 33 7\nendian: little\nencoding: raw\n"
    (tmp_path / "a.nhdr").write_bytes(header + skip + b"data file: a.dat\n")
    assert_reads(tmp_path / "a.nhdr", data)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.raw", "inside/a.raw", "inside\\a.raw", "a\0b", "..", "gone.raw"]
)
def test_data_anywhere_else_than_beside_the_header_is_refused(tmp_path, name):
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    path = write(folder / "a.nhdr", noise("u1"), {**GEOMETRY, "encoding": "raw"}, detached_header=True)
    for place in (tmp_path, folder / "inside"):
        (place / "a.raw").write_bytes((folder / "a.raw").read_bytes())
    edited(path, b"data file: a.raw", b"data file: " + name.encode())
    assert refused(path) == "UNREADABLE_FILE"


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    path = write(tmp_path / "folder/a.nhdr", noise("u1"), {"encoding": "raw"}, detached_header=True)
    (tmp_path / "folder/a.raw").rename(tmp_path / "secret")
    (tmp_path / "folder/a.raw").symlink_to(tmp_path / "secret")
    before = open_files()
    assert refused(path) == "UNREADABLE_FILE"
    assert opened_since(before) == []


@pytest.mark.parametrize("names", [b"LIST", b"a%03d.raw 1 7 1"])
def test_voxels_in_several_files_are_refused(tmp_path, names):
    path = write(tmp_path / "a.nhdr", noise("u1"), {"encoding": "raw"}, detached_header=True)
    assert refused(edited(path, b"data file: a.raw", b"data file: " + names)) == "UNREADABLE_FILE"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"sizes: 47", b"sizes: 0 ", "UNREADABLE_FILE"),
        (b"sizes: 47", b"sizes: -7", "UNREADABLE_FILE"),
        (b"sizes: 47", b"sizes: 48", "TRUNCATED_FILE"),
        (b"sizes: 47", b"sizes: 999999999999", "TRUNCATED_FILE"),
        (b"sizes: 47", b"sizes: 5 47", "UNREADABLE_FILE"),
        (b"dimension: 3", b"dimension: x", "UNREADABLE_FILE"),
        (b"encoding: raw", b"encoding: hex", "UNREADABLE_FILE"),
        (b"endian: little", b"endian: middle", "UNREADABLE_FILE"),
        (b"type: uint16", b"type: block", "BAD_DTYPE"),
        (b"type: uint16", b"type: double", "TRUNCATED_FILE"),
        (b"encoding: raw\n", b"", "UNREADABLE_FILE"),
        (b"encoding: raw\n", b"encoding: raw\nbyte skip: -9\n", "UNREADABLE_FILE"),
        (b"encoding: raw\n", b"encoding: raw\nline skip: 99999999999\n", "UNREADABLE_FILE"),
        (b"NRRD0005", b"NRRD0099", "UNREADABLE_FILE"),
        (b"encoding: raw", b"encoding: raw\n" + b"x: y\n" * 1_000_000, "UNREADABLE_FILE"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, old, new, reason):
    path = write(tmp_path / "a.nrrd", noise("u2"), {"encoding": "raw"})
    path.write_bytes(path.read_bytes().replace(b"NRRD0004", b"NRRD0005"))
    before = open_files()
    assert refused(edited(path, old, new)) == reason
    assert opened_since(before) == []


@pytest.mark.parametrize(
    ("encoding", "packer"), [("raw", bytes), ("gzip", gzip.compress), ("bzip2", bz2.compress)]
)
def test_truncated_files_and_bombs_are_refused(tmp_path, encoding, packer):
    path = write(tmp_path / "a.nrrd", noise("u2"), {"encoding": encoding})
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] if encoding == "raw" else raw[:-9])
    assert refused(path) == "TRUNCATED_FILE"
    head = raw.partition(b"\n\n")[0] + b"\n\n"
    if encoding != "raw":
        path.write_bytes(head + packer(noise("u2").tobytes() + bytes(50 << 20)))
        assert refused(path) == "UNREADABLE_FILE"
        path.write_bytes(head + packer(noise("u2").tobytes())[:40] + b"damage" * 1000)
        assert refused(path) in ("UNREADABLE_FILE", "TRUNCATED_FILE")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"1 2 3", "TRUNCATED_FILE"),
        (b"1 x " * 12000, "UNREADABLE_FILE"),
        (b"1 256 " * 9000, "UNREADABLE_FILE"),
    ],
)
def test_text_that_holds_too_little_or_no_numbers_is_refused(tmp_path, text, reason):
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 47 33 7\nencoding: ascii\n\n" + text)
    assert refused(path) == reason


def test_a_real_file_is_read_as_pynrrd_reads_it(shared):
    path = shared / "data/formats/BallBinary30x30x30_gz.nrrd"
    assert_reads(path, nrrd.read(str(path), index_order="C")[0])
