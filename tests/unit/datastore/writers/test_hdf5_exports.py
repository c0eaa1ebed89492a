"""HDF5, Imaris and MIB models."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import h5py
import numpy as np
import pytest
from biosegment_datastore.pyramid import downsample
from imaris_ims_file_reader.ims import ims

from biosegment.volume import Index
from tests.unit.datastore.matlab_reader import load_matlab
from tests.unit.datastore.writers.exported import (
    CLASSES,
    IMAGE_TYPES,
    INSTANCES_FRAME,
    LABELS_FRAME,
    cut_out,
    image,
    labels,
    written,
)


@pytest.mark.parametrize("dtype", [*IMAGE_TYPES, "int8"])
def test_an_hdf5_file_has_the_voxels_and_what_ilastik_asks_for(tmp_path, dtype):
    array = image(dtype)
    with h5py.File(written(tmp_path, "hdf5", array)) as file:
        data = file["data"]
        assert (data.dtype, data.compression, data.chunks) == (array.dtype, "gzip", (16, 128, 128))
        np.testing.assert_array_equal(data[:], cut_out(array))
        assert [axis["key"] for axis in json.loads(data.attrs["axistags"])["axes"]] == ["z", "y", "x"]
        assert data.attrs["element_size_um"].tolist() == [0.03, 0.0046, 0.0052]
        assert data.attrs["origin_um"].tolist() == [0.06, 0.0138, 0.026]


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_an_hdf5_file_keeps_instance_ids(tmp_path, dtype):
    array = labels(dtype)
    with h5py.File(written(tmp_path, "hdf5", array, INSTANCES_FRAME)) as file:
        np.testing.assert_array_equal(file["data"][:], cut_out(array))


def test_an_hdf5_file_names_the_classes(tmp_path):
    with h5py.File(written(tmp_path, "hdf5", labels(), LABELS_FRAME)) as file:
        attributes = dict(file["data"].attrs)
    assert attributes["class_values"].tolist() == [2, 4]
    assert attributes["class_names"].tolist() == ["mitochondria", "Membran, außen"]
    assert attributes["class_colors"].tolist() == ["#ff8000", "#0080ff"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_imaris_file_is_the_same_to_another_reader(tmp_path, dtype):
    array = image(dtype)
    expected = cut_out(array)
    found = ims(str(written(tmp_path, "ims", array)), resolution_decimal_places=None)
    try:
        assert (found.dtype, found.shape) == (array.dtype, (1, 1, *expected.shape))
        np.testing.assert_array_equal(np.asarray(found[0, 0]).reshape(expected.shape), expected)
        assert found.resolution == pytest.approx((0.03, 0.0046, 0.0052))
        assert found.ResolutionLevels == 2
        assert found.metaData[1, 0, 0, "shape"] == (1, 1, 37, 66, 151)
        found.change_resolution_lock(1)
        coarse = np.asarray(found[0, 0]).reshape(37, 66, 151)
        np.testing.assert_array_equal(coarse, downsample(expected, Index(1, 2, 2)))
        assert found.metaData[0, 0, 0, "HistogramMax"] == (255 if dtype == "uint8" else int(expected.max()))
    finally:
        found.close()


def test_an_imaris_file_counts_every_voxel_and_lies_where_it_was(tmp_path):
    array = image("uint16")
    with h5py.File(written(tmp_path, "ims", array)) as file:
        channel = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
        histogram = channel["Histogram"][:]
        information = {
            key: b"".join(value).decode() for key, value in file["DataSetInfo/Image"].attrs.items()
        }
    expected, _ = np.histogram(cut_out(array), 256, (cut_out(array).min(), cut_out(array).max()))
    assert histogram.tolist() == expected.tolist()
    assert information["Unit"] == "um"
    ends = [float(information[f"Ext{end}{axis}"]) for axis in range(3) for end in ("Min", "Max")]
    assert ends == pytest.approx(
        [
            0.026 - 0.0026,
            0.026 + 301.5 * 0.0052,
            0.0138 - 0.0023,
            0.0138 + 130.5 * 0.0046,
            0.06 - 0.015,
            0.06 + 36.5 * 0.03,
        ]
    )


def test_coarse_labels_in_an_imaris_file_are_labels(tmp_path):
    array = labels("uint32")
    with h5py.File(written(tmp_path, "ims", array, INSTANCES_FRAME)) as file:
        coarse = file["DataSet/ResolutionLevel 1/TimePoint 0/Channel 0/Data"][:]
    assert set(np.unique(coarse)) <= set(np.unique(array))
    np.testing.assert_array_equal(coarse, downsample(cut_out(array), Index(1, 2, 2), "mode"))


@pytest.mark.parametrize(("dtype", "kind"), [("uint8", 63), ("uint16", 65535), ("uint32", 4294967295)])
def test_a_mib_model_is_the_same_to_a_matlab_reader(tmp_path, dtype, kind):
    array = labels(dtype)
    frame = LABELS_FRAME if dtype == "uint8" else INSTANCES_FRAME
    found = load_matlab(written(tmp_path, "mib_model", array, frame))
    model = found["mibModel"]
    # MATLAB's order: height, width, depth.
    assert (model.dtype, model.shape) == (array.dtype, (131, 302, 37))
    np.testing.assert_array_equal(model.transpose(2, 0, 1), cut_out(array))
    assert (found["modelVariable"], int(found["modelType"])) == ("mibModel", kind)
    assert found["BoundingBox"].tolist() == pytest.approx([0.026, 1.5912, 0.0138, 0.6118, 0.06, 1.14])


def test_materials_of_a_mib_model_stand_at_their_values(tmp_path):
    found = load_matlab(written(tmp_path, "mib_model", labels(), LABELS_FRAME))
    names = [name for (name,) in found["modelMaterialNames"]]
    assert names == ["unused 1", "mitochondria", "unused 3", "Membran, außen"]
    colors = (found["modelMaterialColors"] * 255).round().astype(int).tolist()
    assert [colors[1], colors[3]] == [[255, 128, 0], [0, 128, 255]]


def test_many_materials_make_a_mib_model_of_the_larger_kind(tmp_path):
    frame = dataclasses.replace(LABELS_FRAME, classes=(dataclasses.replace(CLASSES[0], value=200),))
    with h5py.File(written(tmp_path, "mib_model", labels(), frame)) as file:
        assert file["modelType"][()].item() == 255
        assert file["modelMaterialNames"].shape == (1, 200)


def test_a_mib_model_begins_as_files_of_matlab_do(tmp_path):
    path = written(tmp_path, "mib_model", labels(), LABELS_FRAME)
    data = path.read_bytes()
    assert data.startswith(b"MATLAB 7.3 MAT-file")
    assert (data[124:128], data[512:520]) == (b"\x00\x02IM", b"\x89HDF\r\n\x1a\n")
    told = subprocess.run(["file", "-b", str(path)], capture_output=True, text=True, check=False)
    if told.returncode == 0:
        assert "Matlab" in told.stdout
