from __future__ import annotations

import json
import shutil
import zipfile

import ngff_zarr
import numpy as np
import pytest
import zarr
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.volume import VoxelSize


def axes(names, unit="micrometer"):
    return [
        {"name": name, "type": "space", "unit": unit} if name in "zyx" else {"name": name, "type": "other"}
        for name in names
    ]


def write(folder, data, names="zyx", version="0.5", scale=None, unit="micrometer", path="0"):
    scale = scale or [0.05, 0.005, 0.004][-len(names) :]
    multiscale = {
        "axes": axes(names, unit),
        "datasets": [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    v3 = version == "0.5"
    group = zarr.open_group(folder, mode="w", zarr_format=3 if v3 else 2)
    array = group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=(8,) * data.ndim)
    array[...] = data
    if v3:
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{**multiscale, "version": version}]
    return folder


def refused(folder, **options):
    with pytest.raises(InvalidArgument) as error, open_source(folder, SourceOptions(**options)) as source:
        source.read_slab(0, source.shape.z)
    assert folder.name in error.value.message
    return error.value.reason


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", ">u2"])
def test_both_versions_are_read(tmp_path, version, dtype):
    data = (np.random.default_rng(0).random((20, 33, 17)) * 100).astype(dtype)
    with open_source(write(tmp_path / "a.zarr", data, version=version)) as source:
        assert source.format == f"OME-Zarr {version}"
        assert source.shape == data.shape
        assert source.dtype == np.dtype(dtype).newbyteorder("=")
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert source.slab_planes % 8 == 0
        assert np.array_equal(source.read_slab(3, 18), data[3:18])


def test_channel_and_time_axes_of_length_one_and_another_order_are_understood(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (1, 1, 5, 6, 7), np.uint8)
    folder = write(tmp_path / "a.zarr", data, "tcxyz", scale=[1, 1, 0.004, 0.005, 0.05])
    with open_source(folder) as source:
        assert source.shape == (7, 6, 5)
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 7), data[0, 0].transpose())


def test_an_unknown_unit_means_an_unknown_voxel_size(tmp_path):
    folder = write(tmp_path / "a.zarr", np.zeros((4, 4, 4), np.uint8), unit="parsec")
    with open_source(folder) as source:
        assert source.voxel_size is None


def test_what_is_no_grey_volume_is_refused(tmp_path):
    folder = write(tmp_path / "a", np.zeros((2, 4, 4, 4), np.uint8), "czyx", scale=[1] * 4)
    assert refused(folder) == "CHANNEL_MISSING"
    assert refused(write(tmp_path / "b", np.zeros((4, 4), np.uint8), "yx")) == "NOT_A_VOLUME"
    assert refused(write(tmp_path / "c", np.zeros((4, 4, 4), np.uint32))) == "BAD_DTYPE"


def test_a_plain_zarr_group_and_damaged_metadata_are_refused(tmp_path):
    zarr.open_group(tmp_path / "plain", mode="w")
    assert refused(tmp_path / "plain") == "NO_DATASET"
    folder = write(tmp_path / "damaged", np.zeros((4, 4, 4), np.uint8))
    (folder / "zarr.json").write_text((folder / "zarr.json").read_text()[:50])
    assert refused(folder) == "UNREADABLE_FILE"
    (folder / "zarr.json").write_text(json.dumps([1]))
    assert refused(folder) == "UNREADABLE_FILE"
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == "UNKNOWN_FORMAT"


def test_an_image_cannot_refer_to_arrays_outside_of_its_folder(tmp_path):
    write(tmp_path / "secret", np.zeros((4, 4, 4), np.uint8))
    for path in ("../secret/0", str(tmp_path / "secret" / "0")):
        assert refused(write(tmp_path / "a", np.zeros((4, 4, 4), np.uint8), path=path)) == "UNREADABLE_FILE"
    folder = write(tmp_path / "b", np.zeros((4, 4, 4), np.uint8), path="link")
    (folder / "link").symlink_to(tmp_path / "secret" / "0")
    assert refused(folder) == "UNREADABLE_FILE"


def test_a_damaged_chunk_is_refused(tmp_path):
    folder = write(tmp_path / "a", np.random.default_rng(0).integers(0, 255, (4, 4, 4), np.uint8))
    chunk = folder / "0" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:5])
    assert refused(folder) == "UNREADABLE_FILE"


def noise(shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channel_and_time_point_are_chosen(tmp_path, version):
    data = noise((3, 2, 9, 7, 5))
    folder = write(tmp_path / "a.zarr", data, "tczyx", version, [1, 1, 0.05, 0.005, 0.004])
    with open_source(folder, SourceOptions(time_point=2, channel=1)) as source:
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 9), data[2, 1])
    assert refused(folder, time_point=2) == "CHANNEL_MISSING"
    assert refused(folder, channel=0) == "TIME_POINT_MISSING"
    assert refused(folder, channel=0, time_point=3) == "BAD_TIME_POINT"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_another_library_wrote_is_read_at_every_level(tmp_path, version):
    data = noise((20, 66, 47), "uint16")
    image = ngff_zarr.to_ngff_image(
        data,
        ["z", "y", "x"],
        {"z": 0.05, "y": 0.005, "x": 0.004},
        axes_units=dict.fromkeys("zyx", "micrometer"),
    )
    scales = ngff_zarr.to_multiscales(image, [{"z": 1, "y": 2, "x": 2}], chunks=16)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "a.zarr"), scales, version=version)
    with open_source(tmp_path / "a.zarr") as source:
        assert source.format == f"OME-Zarr {version}"
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 20), data)
    with open_source(tmp_path / "a.zarr", SourceOptions(dataset=scales.metadata.datasets[1].path)) as source:
        assert source.shape == (20, 33, 23)
        assert source.voxel_size == VoxelSize(50, 10, 8)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_other_images_below_the_root_are_named(tmp_path, version):
    labels = noise((9, 7, 5), "uint32", 1)
    folder = write(tmp_path / "a.zarr", noise((9, 7, 5)), version=version)
    write(folder / "labels" / "cells", labels, version=version)
    with open_source(folder) as source:
        assert np.array_equal(source.read_slab(0, 9), noise((9, 7, 5)))
    for dataset in ("labels/cells", "/labels/cells/0"):
        with open_source(folder, SourceOptions(dataset=dataset, accepted=ACCEPTED_LABELS)) as source:
            assert source.voxel_size == VoxelSize(50, 5, 4)
            assert np.array_equal(source.read_slab(0, 9), labels)
    assert refused(folder, dataset="labels/none") == "NO_DATASET"
    assert refused(folder, dataset="../a.zarr") == "UNREADABLE_FILE"


def test_one_of_several_series_must_be_named_as_bioformats2raw_has_them(tmp_path):
    folder = tmp_path / "a.zarr"
    zarr.open_group(folder, mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write(folder / "0", noise((9, 7, 5)), version="0.4")
    with open_source(folder) as source:
        assert np.array_equal(source.read_slab(0, 9), noise((9, 7, 5)))
    write(folder / "1", noise((9, 7, 5), seed=1), version="0.4")
    with pytest.raises(InvalidArgument, match="'0', '1'") as error:
        open_source(folder)
    assert error.value.reason == "DATASET_MISSING"
    with open_source(folder, SourceOptions(dataset="1")) as source:
        assert np.array_equal(source.read_slab(0, 9), noise((9, 7, 5), seed=1))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_array_is_a_volume_without_a_voxel_size(tmp_path, zarr_format):
    data = noise((9, 7, 5))
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(4, 4, 4), zarr_format=zarr_format)
    with open_source(tmp_path / "a.zarr") as source:
        assert source.format == f"Zarr v{zarr_format}"
        assert source.voxel_size is None
        assert np.array_equal(source.read_slab(0, 9), data)
    with open_source(tmp_path / "a.zarr", SourceOptions(axes="xyz")) as source:
        assert np.array_equal(source.read_slab(0, 5), data.transpose())


def test_the_names_of_the_axes_of_a_plain_array_are_followed(tmp_path):
    data = noise((9, 7, 5))
    names = {"dimension_names": ("x", "y", "z")}
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(4, 4, 4), zarr_format=3, **names)
    with open_source(tmp_path / "a.zarr") as source:
        assert np.array_equal(source.read_slab(0, 5), data.transpose())


def zipped(folder, path, compression=zipfile.ZIP_STORED, top=""):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                archive.write(each, f"{top}{each.relative_to(folder)}")
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "a.zarr/"])
def test_a_zipped_image_is_read_and_nothing_is_left_of_it(tmp_path, version, compression, top):
    data = noise((20, 33, 17))
    path = zipped(write(tmp_path / "a.zarr", data, version=version), tmp_path / "a.ozx", compression, top)
    shutil.rmtree(tmp_path / "a.zarr")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with open_source(path, SourceOptions(scratch_dir=scratch)) as source:
        assert source.format == f"OME-Zarr {version}"
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(3, 18), data[3:18])
    assert not list(scratch.iterdir())
    assert refused(path, scratch_dir=scratch, channel=3) == "BAD_CHANNEL"
    assert not list(scratch.iterdir())


def test_shards_in_a_zip_file_are_read(tmp_path):
    # Several inner chunks of several shards at once, which tensorstore's own reader of zip files never finishes.
    data = noise((20, 140, 300), "uint16")
    layout = {"chunks": (16, 64, 64), "shards": (32, 192, 192)}
    zarr.create_array(tmp_path / "a.zarr", data=data, zarr_format=3, **layout)
    with open_source(zipped(tmp_path / "a.zarr", tmp_path / "a.zip")) as source:
        step = source.slab_planes
        slabs = [source.read_slab(z, min(z + step, 20)) for z in range(0, 20, step)]
        assert np.array_equal(np.concatenate(slabs), data)


def test_names_in_a_zip_file_that_lead_out_of_it_are_refused(tmp_path):
    path = zipped(write(tmp_path / "a.zarr", noise((8, 8, 8))), tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("0/../../../escaped", b"x")
    (tmp_path / "b" / "c").mkdir(parents=True)
    assert refused(path, scratch_dir=tmp_path / "b" / "c") == "UNREADABLE_FILE"
    assert not list((tmp_path / "b").rglob("escaped"))
    assert not list((tmp_path / "b" / "c").iterdir())


def test_a_zip_file_that_unpacks_to_more_than_there_is_room_for_is_refused(tmp_path, monkeypatch):
    path = zipped(write(tmp_path / "a.zarr", noise((8, 8, 8))), tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        needed = sum(entry.file_size for entry in archive.infolist() if entry.filename.startswith("0/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, needed - 1))
    with pytest.raises(ResourceExhausted) as error:
        open_source(path)
    assert error.value.reason == "DISK_FULL"


def test_a_zip_file_whose_metadata_do_not_unpack_is_refused(tmp_path):
    folder = write(tmp_path / "a.zarr", noise((8, 8, 8)))
    path = zipped(folder, tmp_path / "a.zip", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("zarr.json")
    data = bytearray(path.read_bytes())
    start = entry.header_offset + 30 + len(entry.filename)
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    assert refused(path) == "UNREADABLE_FILE"


def test_a_chunk_that_is_a_link_to_another_file_is_refused(tmp_path):
    folder = write(tmp_path / "a.zarr", noise((8, 8, 8)))
    chunk = folder / "0" / "c" / "0" / "0" / "0"
    (tmp_path / "secret").write_bytes(chunk.read_bytes())
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    assert refused(folder) == "UNREADABLE_FILE"


def test_chunks_that_are_too_large_for_the_memory_are_refused(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(4096, 1024, 1024), chunks=(2048, 1024, 1024), dtype="u1")
    assert refused(tmp_path / "a.zarr") == "IMAGE_TOO_LARGE"
