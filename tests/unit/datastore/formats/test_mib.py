from __future__ import annotations

import h5py
import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize
from tests.unit.datastore.matlab_reader import load_matlab

SHAPE = (7, 13, 9)
LABELS = SourceOptions(accepted=ACCEPTED_LABELS)


def variable(file, name, data, kind):
    """As MATLAB does: its first axis is the last one of HDF5."""
    file.create_dataset(name, data=np.asarray(data).T, chunks=True, compression="gzip")
    file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    if kind == "char":
        file[name].attrs["MATLAB_int_decode"] = np.int32(2)


def characters(word):
    return np.array([[ord(letter) for letter in word]], np.uint16)


def write(path, model, version=2):
    """`model` is (y, x, z) or (y, x, z, t)."""
    names = ("modelVariable", "BoundingBox") if version == 2 else ("model_var", "bounding_box")
    with h5py.File(path, "w", userblock_size=512) as file:
        variable(file, "mibModel", model, str(model.dtype))
        variable(file, names[0], characters("mibModel"), "char")
        # 4 nm in x, 5 nm in y and 50 nm in z between the centres of the first and the last voxel.
        variable(file, names[1], [[1, 1.032, 2, 2.06, 0, 0.3]], "double")
        variable(file, "modelMaterialColors", np.eye(3), "double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(124) + bytes([0, 2]) + b"IM")
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_model_is_read_as_matlab_shows_it(tmp_path, dtype, version):
    labels = np.random.default_rng(0).integers(0, 5, SHAPE).astype(dtype)
    path = write(tmp_path / "Labels_a.model", labels.transpose(1, 2, 0), version)
    assert np.array_equal(load_matlab(path)["mibModel"], labels.transpose(1, 2, 0))
    with open_source(path, LABELS) as source:
        assert source.format == "MIB model"
        assert source.shape == SHAPE
        assert source.dtype == dtype
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 7), labels)
        assert np.array_equal(source.read_slab(3, 5), labels[3:5])


def test_a_time_point_of_a_model_is_chosen(tmp_path):
    labels = np.random.default_rng(0).integers(0, 5, (3, *SHAPE)).astype(np.uint8)
    path = write(tmp_path / "a.model", labels.transpose(2, 3, 1, 0))
    with open_source(path, SourceOptions(time_point=1)) as source:
        assert np.array_equal(source.read_slab(0, 7), labels[1])
    with pytest.raises(InvalidArgument) as error:
        open_source(path)
    assert error.value.reason == "TIME_POINT_MISSING"


def test_a_model_without_its_array_is_refused(tmp_path):
    path = write(tmp_path / "a.model", np.zeros((4, 5, 6), np.uint8))
    with h5py.File(path, "r+") as file:
        del file["mibModel"]
    with pytest.raises(InvalidArgument) as error:
        open_source(path)
    assert error.value.reason == "UNREADABLE_FILE"


def test_another_file_of_matlab_has_the_same_order_of_axes(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    path = write(tmp_path / "a.mat", data.transpose(1, 2, 0))
    with h5py.File(path, "r+") as file:
        del file["modelVariable"]
        file.move("mibModel", "img")
    with open_source(path) as source:
        assert source.voxel_size is None
        assert np.array_equal(source.read_slab(0, 7), data)


def test_an_image_that_was_saved_as_hdf5_is_read(tmp_path):
    # MATLAB's [height, width, colours, depth, time], with ilastik's tags in the order of HDF5.
    data = np.random.default_rng(0).integers(0, 255, (1, *SHAPE[:1], 2, SHAPE[2], SHAPE[1])).astype(np.uint8)
    axes = ", ".join(
        f'{{"key": "{key}", "typeFlags": 2, "resolution": 0, "description": ""}}' for key in "tzcxy"
    )
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("MIB_Export", data=data, chunks=(1, 4, 1, 8, 8))
        file["MIB_Export"].attrs["axistags"] = np.bytes_(f'{{\n"axes": [\n{axes}]\n}}')
    with open_source(tmp_path / "a.h5", SourceOptions(channel=1)) as source:
        assert source.shape == SHAPE
        assert np.array_equal(source.read_slab(0, 7), data[0, :, 1].transpose(0, 2, 1))
