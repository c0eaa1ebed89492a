from __future__ import annotations

import gzip

import nibabel
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
KINDS = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}


def image(data, version=1, unit="micron"):
    """Written by nibabel, whose axes are those of the file, x first."""
    made = KINDS[version](data.T, np.diag([0.0046, 0.005, 0.05, 1.0]), dtype=data.dtype)
    made.header.set_xyzt_units(unit)
    return made


def write(path, data, version=1, unit="micron"):
    nibabel.save(image(data, version, unit), path)
    return path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "f4"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_every_type_of_voxel_is_read_with_its_size(tmp_path, version, dtype, name):
    path, scratch = write(tmp_path / name, noise(dtype), version), tmp_path / "scratch"
    scratch.mkdir()
    before = open_files()
    assert_reads(path, noise(dtype), options(scratch))
    with open_source(path) as source:
        assert source.voxel_size == VOXEL_SIZE
        assert source.format == f"NIfTI-{version}"
    assert opened_since(before) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["i2", "u2", "f4"])
def test_big_endian_files_are_read(tmp_path, version, dtype):
    header = KINDS[version].header_class(endianness=">")
    header.set_data_dtype(np.dtype(dtype).newbyteorder(">"))
    made = KINDS[version](noise(dtype).T, np.eye(4), header)
    nibabel.save(made, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[0] == 0
    assert_reads(tmp_path / "a.nii", noise(dtype))


def test_a_pair_of_header_and_image_is_read(tmp_path):
    made = nibabel.Nifti1Pair(noise("i2").T, np.eye(4), dtype="i2")
    nibabel.save(made, tmp_path / "a.img")
    assert_reads(tmp_path / "a.hdr", noise("i2"))
    (tmp_path / "a.img").rename(tmp_path / "elsewhere")
    assert refused(tmp_path / "a.hdr") == "UNREADABLE_FILE"
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.hdr").rename(tmp_path / "inside/a.hdr")
    (tmp_path / "inside/a.img").symlink_to(tmp_path / "elsewhere")
    assert refused(tmp_path / "inside/a.hdr") == "UNREADABLE_FILE"


def test_a_compressed_pair_is_read(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(noise("i2").T, np.eye(4), dtype="i2"), tmp_path / "a.img")
    (tmp_path / "a.img.gz").write_bytes(gzip.compress((tmp_path / "a.img").read_bytes()))
    (tmp_path / "a.img").unlink()
    assert_reads(tmp_path / "a.hdr", noise("i2"))


def test_what_simpleitk_writes_is_read(tmp_path):
    made = SimpleITK.GetImageFromArray(noise("u2"))
    made.SetSpacing((0.0046, 0.005, 0.05))
    SimpleITK.WriteImage(made, str(tmp_path / "a.nii.gz"))
    assert_reads(tmp_path / "a.nii.gz", noise("u2"))
    with open_source(tmp_path / "a.nii.gz") as source:
        assert source.voxel_size == VoxelSize(5e4, 5e3, 4.6e3)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1), ("mm", 1000)])
def test_the_unit_counts(tmp_path, unit, factor):
    with open_source(write(tmp_path / "a.nii", noise(), unit=unit)) as source:
        assert source.voxel_size == VoxelSize(50 * factor, 5 * factor, 4.6 * factor)


def test_an_unknown_unit_gives_no_voxel_size(tmp_path):
    with open_source(write(tmp_path / "a.nii", noise(), unit="unknown")) as source:
        assert source.voxel_size is None


def test_time_points_and_channels_are_chosen(tmp_path):
    data = noise("u1", (2, 3, *SHAPE))
    path = write(tmp_path / "a.nii", data)
    assert refused(path) == "CHANNEL_MISSING"
    assert refused(path, options(tmp_path, channel=1)) == "TIME_POINT_MISSING"
    assert refused(path, options(tmp_path, channel=1, time_point=3)) == "BAD_TIME_POINT"
    assert_reads(path, data[1, 2], options(tmp_path, channel=1, time_point=2))
    assert_reads(write(tmp_path / "b.nii", data[:1, :1]), data[0, 0])


def test_colour_has_channels(tmp_path):
    data = noise("u1", (*SHAPE, 3))
    colour = np.ascontiguousarray(data.transpose(2, 1, 0, 3)).view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour[..., 0], np.eye(4)), tmp_path / "a.nii")
    assert refused(tmp_path / "a.nii") == "CHANNEL_MISSING"
    assert_reads(tmp_path / "a.nii", data[..., 1], options(tmp_path, channel=1))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize(("slope", "inter"), [(2, 0), (0.5, -3), (1, 1000)])
def test_a_scale_factor_that_keeps_values_exact_gives_float32(tmp_path, dtype, slope, inter):
    path = write(tmp_path / "a.nii", noise(dtype))
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.array([slope, inter], "<f4").tobytes())
    expected = nibabel.load(path).get_fdata().T
    assert np.array_equal(expected.astype("f4"), expected)
    assert_reads(path, expected.astype("f4"))


@pytest.mark.parametrize(
    ("dtype", "slope", "inter"), [("i2", 0.1, 0), ("f4", 2, 0), ("u2", 1e38, 0), ("u1", 1, np.nan)]
)
def test_a_scale_factor_that_would_round_is_refused(tmp_path, dtype, slope, inter):
    path = write(tmp_path / "a.nii", noise(dtype))
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.array([slope, inter], "<f4").tobytes())
    assert refused(path) == "BAD_DTYPE"


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_scale_factor_that_is_none_is_ignored(tmp_path, slope):
    path = write(tmp_path / "a.nii", noise("i2"))
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.array([slope, 7], "<f4").tobytes())
    assert_reads(path, noise("i2"))


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_wide_integers_are_read_as_labels_only(tmp_path, dtype):
    path = write(tmp_path / "a.nii", noise(dtype))
    assert refused(path) == "BAD_DTYPE"
    assert_reads(path, noise(dtype), labels_too())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kept", [540, 600, 5000, -1])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, version, kept, name):
    path = write(tmp_path / name, noise("i2"), version)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(path) in (
        ("TRUNCATED_FILE",) if name == "a.nii" or kept < 0 else ("TRUNCATED_FILE", "UNKNOWN_FORMAT")
    )


@pytest.mark.parametrize("place", [42, 44, 46])
@pytest.mark.parametrize(
    ("size", "reason"), [(0, "UNREADABLE_FILE"), (-5, "UNREADABLE_FILE"), (32000, "TRUNCATED_FILE")]
)
def test_sizes_that_cannot_be_are_refused(tmp_path, place, size, reason):
    path = write(tmp_path / "a.nii", noise("i2"))
    with path.open("r+b") as file:
        file.seek(place)
        file.write(np.array([size], "<i2").tobytes())
    assert refused(path) == reason


@pytest.mark.parametrize("offset", [np.nan, np.inf, -8.0, 352.5])
def test_an_offset_that_cannot_be_is_refused(tmp_path, offset):
    path = write(tmp_path / "a.nii", noise("i2"))
    with path.open("r+b") as file:
        file.seek(108)
        file.write(np.array([offset], "<f4").tobytes())
    assert refused(path) == "UNREADABLE_FILE"


def test_a_bomb_is_refused(tmp_path):
    path = write(tmp_path / "a.nii", noise("i2"))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(50 << 20)))
    assert refused(tmp_path / "b.nii.gz", options(tmp_path)) == "UNREADABLE_FILE"


def test_a_real_file_is_read_as_nibabel_reads_it(shared):
    path = shared / "data/formats/anatomical.nii"
    loaded = nibabel.load(path)
    assert_reads(path, np.asanyarray(loaded.dataobj.get_unscaled()).T.astype("i2"))
