from __future__ import annotations

import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source

from biosegment.volume import VoxelSize
from tests.unit.datastore.formats.amira_file import BOX, UNITS, write
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


@pytest.mark.parametrize("order", ["<", ">", "text"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize("codec", ["", "HxZip"])
def test_every_type_of_voxel_is_read_with_its_size(tmp_path, order, dtype, codec):
    if order == "text" and codec:
        return  # text is not compressed
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path, before = write(tmp_path / "a.am", noise(dtype), order=order, codec=codec), open_files()
    assert_reads(path, noise(dtype), options(scratch))
    with open_source(path) as source:
        assert source.voxel_size == VOXEL_SIZE
        assert source.format == "AmiraMesh"
    assert opened_since(before) == []
    assert list(scratch.iterdir()) == []


def test_labels_in_runs_are_read(tmp_path):
    labels = np.repeat(noise("u1", (7, 33, 2)) % 4, 24, axis=2)[..., :47]
    labels[3] = 0
    parameters = "Materials {\n Exterior { Id 0 }\n Inside { Color 1 0 0, Id 1 }\n }"
    assert_reads(write(tmp_path / "a.am", labels, codec="HxByteRLE", parameters=parameters), labels)
    assert_reads(write(tmp_path / "b.am", noise(), codec="HxByteRLE"), noise())


def test_runs_that_cross_the_pieces_in_which_they_are_read_are_read(tmp_path):
    data = noise("u1", (5, 500, 500))
    assert_reads(write(tmp_path / "a.am", data, codec="HxByteRLE", shape=data.shape), data)


@pytest.mark.parametrize("order", ["<", "text"])
@pytest.mark.parametrize("codec", ["", "HxZip", "HxByteRLE"])
def test_one_of_several_fields_is_chosen(tmp_path, order, codec):
    fields = noise("u1"), noise("u1")[::-1]
    path = write(tmp_path / "a.am", *fields, order=order, codec="" if order == "text" else codec)
    assert refused(path) == "DATASET_MISSING"
    assert refused(path, options(tmp_path, dataset="Data3")) == "NO_DATASET"
    assert_reads(path, fields[0], options(tmp_path, dataset="Data1"))
    assert_reads(path, fields[1], options(tmp_path, dataset="Data2"))


def test_samples_of_a_voxel_are_channels(tmp_path):
    data = noise("u1", (*SHAPE, 3))
    path = write(tmp_path / "a.am", data)
    assert refused(path) == "CHANNEL_MISSING"
    assert_reads(path, data[..., 2], options(tmp_path, channel=2))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (BOX, None),
        (UNITS, None),
        (f'{BOX},\n Units {{ Coordinates "furlong" }}', None),
        (BOX.replace("BoundingBox 7 ", "BoundingBox nan ") + f",\n {UNITS}", None),
        ('BoundingBox 0 0.2116 0 0.16 0 0.3, Units {\n Coordinates "µm"\n }', VOXEL_SIZE),
        ('BoundingBox "0 2116 0 1600 0 3000", Units { Coordinates "Å" }', VOXEL_SIZE),
    ],
)
def test_the_voxel_size_needs_a_box_and_a_unit(tmp_path, parameters, expected):
    with open_source(write(tmp_path / "a.am", noise(), parameters=parameters)) as source:
        assert source.voxel_size == expected


def test_wide_integers_are_read_as_labels_only(tmp_path):
    path = write(tmp_path / "a.am", noise("i4"))
    assert refused(path) == "BAD_DTYPE"
    assert_reads(path, noise("i4"), labels_too())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Lattice 47", b"Lattice 0", "UNREADABLE_FILE"),
        (b"Lattice 47", b"Lattice 48", "TRUNCATED_FILE"),
        (b"Lattice 47", b"Lattice 99999999999999999999999", "TRUNCATED_FILE"),
        (b"Lattice 47", b"Lattice", "NOT_A_VOLUME"),
        (b"define Lattice", b"define Lattice 1 2 3\ndefine Other", "NOT_A_VOLUME"),
        (b'"uniform"', b'"curvilinear"', "NOT_A_VOLUME"),
        (b"{ byte", b"{ complex", "BAD_DTYPE"),
        (b"Lattice { byte", b"Nodes { byte", "NOT_A_VOLUME"),
        (b"BINARY-LITTLE-ENDIAN", b"SOMETHING", "UNREADABLE_FILE"),
        (b"\n@1\n", b"\n", "TRUNCATED_FILE"),
        (b"define", b"\n" * 3_000_000 + b"define", "IS_READ"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, old, new, reason):
    path = write(tmp_path / "a.am", noise())
    raw = path.read_bytes().rstrip(b"\n")
    assert old in raw
    path.write_bytes(raw.replace(old, new, 1))
    before = open_files()
    if reason == "IS_READ":
        assert_reads(path, noise())
    else:
        assert refused(path) == reason
    assert opened_since(before) == []


@pytest.mark.parametrize("codec", ["", "HxZip", "HxByteRLE"])
def test_truncated_files_and_bombs_are_refused(tmp_path, codec):
    path = write(tmp_path / "a.am", noise(), codec=codec)
    raw = path.read_bytes()
    path.write_bytes(raw[:-20])
    assert refused(path, options(tmp_path)) == "TRUNCATED_FILE"
    if codec:
        bomb = write(tmp_path / "b.am", np.zeros((7, 33, 47000), "u1"), codec=codec)
        assert refused(bomb, options(tmp_path)) == "UNREADABLE_FILE"
        lie = path.write_bytes(raw.replace(b"Lattice 47", b"Lattice 49", 1))
        assert lie
        assert refused(path, options(tmp_path)) == "TRUNCATED_FILE"


def test_damaged_voxels_are_refused(tmp_path):
    path = write(tmp_path / "a.am", noise(), codec="HxZip")
    raw = bytearray(path.read_bytes())
    raw[-3000:-2000] = bytes(1000)
    path.write_bytes(raw)
    assert refused(path, options(tmp_path)) in ("UNREADABLE_FILE", "TRUNCATED_FILE")


def test_a_real_file_is_read(shared):
    with open_source(shared / "data/formats/test9.am") as source:
        assert source.shape == (284, 284, 284)
        assert source.dtype == "u1"
        # Its parameters say nothing about units.
        assert source.voxel_size is None
        assert not source.read_slab(280, 284).any()
