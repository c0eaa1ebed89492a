from __future__ import annotations

import json
import zipfile

import ngff_zarr
import numpy as np
import pytest
import zarr
from biosegment_datastore.pyramid import downsample
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

from biosegment.volume import Index
from tests.unit.datastore.writers.exported import (
    IMAGE_TYPES,
    INSTANCES_FRAME,
    LABELS_FRAME,
    cut_out,
    image,
    labels,
    written,
)


def group_of(path):
    return zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")


@pytest.mark.parametrize("dtype", [*IMAGE_TYPES, "int8"])
def test_zarr_python_reads_every_level(tmp_path, dtype):
    array = image(dtype)
    group = group_of(written(tmp_path, "ome_zarr", array))
    assert sorted(group.array_keys()) == ["0", "1"]
    assert group["0"].dtype == array.dtype
    np.testing.assert_array_equal(group["0"][:], cut_out(array))
    np.testing.assert_array_equal(group["1"][:], downsample(cut_out(array), Index(1, 2, 2)))


def test_the_image_is_valid_and_lies_where_it_was(tmp_path):
    path = written(tmp_path, "ome_zarr", image("uint8"))
    model = Image.from_zarr(group_of(path))
    (multiscale,) = model.ome_attributes.multiscales
    assert [axis.unit for axis in multiscale.axes] == ["nanometer"] * 3
    scales = [dataset.coordinateTransformations[0].scale for dataset in multiscale.datasets]
    assert scales == [[30, 4.6, 5.2], [30, 9.2, 10.4]]
    translations = [dataset.coordinateTransformations[1].translation for dataset in multiscale.datasets]
    np.testing.assert_allclose(translations, [[60, 13.8, 26], [60, 16.1, 28.6]])


@pytest.mark.parametrize("name", ["brain.ome.zarr.zip", "brain.ozx"])
def test_ngff_zarr_opens_the_archive_under_either_name(tmp_path, name):
    array = image("uint16")
    path = written(tmp_path, "ome_zarr", array)
    path = path.rename(tmp_path / name)
    found = ngff_zarr.from_ngff_zarr(str(path), validate=True).images[0]
    np.testing.assert_array_equal(np.asarray(found.data), cut_out(array))
    assert found.scale == {"z": 30, "y": 4.6, "x": 5.2}


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64"])
def test_coarser_labels_are_the_most_frequent_ones(tmp_path, dtype):
    array = labels(dtype)
    group = group_of(written(tmp_path, "ome_zarr", array, INSTANCES_FRAME))
    np.testing.assert_array_equal(group["0"][:], cut_out(array))
    np.testing.assert_array_equal(group["1"][:], downsample(cut_out(array), Index(1, 2, 2), "mode"))


def test_labels_have_colours_and_names(tmp_path):
    group = group_of(written(tmp_path, "ome_zarr", labels(), LABELS_FRAME))
    ImageLabel.from_zarr(group)
    found = group.attrs["ome"]["image-label"]
    assert found["colors"] == [
        {"label-value": 2, "rgba": [255, 128, 0, 255]},
        {"label-value": 4, "rgba": [0, 128, 255, 255]},
    ]
    assert found["properties"][1] == {"label-value": 4, "name": "Membran, außen"}
    assert group.attrs["ome"]["multiscales"][0]["type"] == "mode"


def test_the_archive_is_uncompressed_and_begins_with_the_metadata(tmp_path):
    path = written(tmp_path, "ome_zarr", image("uint8"))
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
        assert json.loads(archive.comment)["ome"]["version"] == "0.5"
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert [entry.filename for entry in entries[:3]] == ["zarr.json", "0/zarr.json", "1/zarr.json"]
    # What the archive was packed from is gone.
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
