"""What we wrote, read by our own readers: the only ones that there are for some formats."""

from __future__ import annotations

import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions
from biosegment_datastore.formats.writers.catalogue import FORMATS

from tests.unit.datastore.writers.exported import (
    INSTANCES_FRAME,
    LABELS_FRAME,
    REGION,
    VOXEL_SIZE,
    cut_out,
    image,
    labels,
    written,
)

IMAGES = [
    (each.key, dtype)
    for each in FORMATS
    for dtype in ("uint8", "int8", "uint16", "int16", "float32")
    if each.holds(dtype, False)
]
IDS = [
    (each.key, dtype)
    for each in FORMATS
    for dtype in ("uint16", "uint32", "uint64")
    if each.holds(dtype, True)
]


def read_back(path, **options):
    with open_source(path, SourceOptions(scratch_dir=path.parent, **options)) as source:
        assert source.shape == REGION.shape
        step = source.slab_planes
        slabs = [
            source.read_slab(start, min(start + step, source.shape.z))
            for start in range(0, source.shape.z, step)
        ]
        return np.concatenate(slabs), source.voxel_size


@pytest.mark.parametrize(("key", "dtype"), IMAGES)
def test_images_come_back_as_they_were(tmp_path, key, dtype):
    array = image(dtype)
    found, voxel_size = read_back(written(tmp_path, key, array))
    assert found.dtype.name == {("mrc", "uint8"): "uint16"}.get((key, dtype), dtype)
    np.testing.assert_array_equal(found, cut_out(array))
    if (key, dtype) in (("tiff", "int8"), ("tiff", "int16")):
        assert voxel_size is None  # plain TIFF has no place for the distance of slices
    else:
        assert list(voxel_size) == pytest.approx(list(VOXEL_SIZE), rel=1e-6)


@pytest.mark.parametrize("key", [each.key for each in FORMATS])
def test_class_labels_come_back_as_they_were(tmp_path, key):
    array = labels()
    found, voxel_size = read_back(written(tmp_path, key, array, LABELS_FRAME), accepted=ACCEPTED_LABELS)
    np.testing.assert_array_equal(found, cut_out(array))
    assert list(voxel_size) == pytest.approx(list(VOXEL_SIZE), rel=1e-6)


@pytest.mark.parametrize(("key", "dtype"), IDS)
def test_instance_ids_come_back_as_they_were(tmp_path, key, dtype):
    array = labels(dtype)
    found, _ = read_back(written(tmp_path, key, array, INSTANCES_FRAME), accepted=ACCEPTED_LABELS)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, cut_out(array))
