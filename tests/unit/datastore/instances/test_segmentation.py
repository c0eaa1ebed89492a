"""Edits of a coarse layer of objects, laid upon a segmentation at level 0."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.annotations.annotation import encode_block
from biosegment_datastore.exports.source import EditedObjects, Overlay, SegmentationSource
from biosegment_datastore.instances.composition import Composition
from biosegment_datastore.instances.edit import EditKind, Step
from biosegment_datastore.label_blocks import LabelBlocks

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Index, Region

SHAPE, FACTOR = (5, 30, 45), Index(1, 2, 4)
STEPS = [
    Step(1, EditKind.DELETE, (5,)),
    Step(2, EditKind.RECLASSIFY, (7,), class_value=3),
    Step(3, EditKind.MERGE, (8, 9), 8),
]


def enlarged(coarse: Any) -> Any:
    whole = np.repeat(np.repeat(coarse, FACTOR.y, 1), FACTOR.x, 2)
    return whole[:, : SHAPE[1], : SHAPE[2]]


@pytest.fixture
def coarse() -> Any:
    """(5, 15, 12) uint32: 5 and 8 touch; 7 lies apart, and so does 9."""
    ids = np.zeros((5, 15, 12), np.uint32)
    ids[1:4, 2:5, 1:3] = 5
    ids[1:4, 5:7, 1:3] = 8
    ids[1:4, 2:5, 7:9] = 7
    ids[1:4, 10:13, 7:9] = 9
    return ids


def without_background(labels: Any) -> Any:
    return np.where(labels == 1, 0, labels)


def test_objects_that_ended_leave_no_rim_and_their_neighbours_are_left_alone(
    tmp_path: Path, coarse: Any
) -> None:
    store = ObjectStoreSettings(object_store_url=f"file://{tmp_path}")
    arrays, blocks = Arrays(store), LabelBlocks(open_blocking_objects(store))
    array = arrays.create("layers/x", coarse.shape, "uint32")
    array.write(Region.of_shape(coarse.shape), coarse)
    entry = ["layers/x", list(FACTOR), 2, [step.written() for step in STEPS]]
    objects = EditedObjects.read(entry, arrays)
    # As interpolated labels are: a voxel of level 0 more in every direction.
    found = enlarged(coarse)
    wide = np.zeros(SHAPE, np.uint32)
    for each in (5, 7, 9, 8):
        mask = found == each
        grown = mask.copy()
        for axis in (1, 2):
            for step in (-1, 1):
                grown |= np.roll(mask, step, axis)
        wide[grown & ((found == 0) | mask)] = each
    labels = np.where(wide > 0, 2, 1).astype(np.uint8)
    labels[0] = 3
    expected = labels.copy()
    expected[wide == 5] = 1
    expected[wide == 7] = 3
    # The rim near 8 may be either's: it is left alone.
    free = (wide == 5) & (found == 0) & (np.arange(SHAPE[1]) >= 8)[None, :, None]
    prediction = arrays.create("prediction", SHAPE, "uint8")
    prediction.write(Region.of_shape(SHAPE), labels)
    source = SegmentationSource(prediction, [], blocks, [objects])
    for region in (Region.of_shape(SHAPE), Region(Index(1, 3, 5), Index(4, 17, 41))):
        wrong = (source.read(region) != without_background(expected[region.slices])) & ~free[region.slices]
        assert not wrong.any()
    assert Composition(STEPS).says_classes


def test_what_somebody_annotated_beside_a_deleted_object_stays(tmp_path: Path) -> None:
    store = ObjectStoreSettings(object_store_url=f"file://{tmp_path}")
    objects = open_blocking_objects(store)
    arrays, blocks = Arrays(store), LabelBlocks(objects)
    ids = np.zeros((1, 6, 6), np.uint32)
    ids[:, :2, :2] = 5
    array = arrays.create("layers/x", ids.shape, "uint32")
    array.write(Region.of_shape(ids.shape), ids)
    shape = (1, 24, 24)
    predicted = np.ones(shape, np.uint8)
    predicted[:, :9, :9] = 2
    prediction = arrays.create("prediction", shape, "uint8")
    prediction.write(Region.of_shape(shape), predicted)
    where = Region(Index(0, 0, 8), Index(1, 24, 24))
    annotation = np.full(where.shape, 2, np.uint8)
    objects.put("annotation", encode_block(annotation))
    deleted = EditedObjects(array, Index(1, 4, 4), 2, Composition([Step(1, EditKind.DELETE, (5,))]))
    overlay = Overlay(where, (2,), "annotation", hashlib.sha256(annotation.tobytes()).hexdigest())
    found = SegmentationSource(prediction, [overlay], blocks, [deleted]).read(Region.of_shape(shape))
    assert (found[where.slices] == 2).all()
    # The rim that the prediction had around the object went with it.
    assert not found[:, :, :8].any()
