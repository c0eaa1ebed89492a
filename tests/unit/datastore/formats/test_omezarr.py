from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from biosegment_datastore.formats.detection import open_source

from biosegment.errors import InvalidArgument
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


def refused(folder):
    with pytest.raises(InvalidArgument) as error, open_source(folder) as source:
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
