"""Corrected objects in exports and segmentations."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import tifffile

from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import (
    InvalidArgument,
)
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region
from tests.rpc.datastore.corrections.corrected import FIVE, MEMBRANE, MITOCHONDRIA, half, now, plain
from tests.rpc.datastore.test_datastore_exports import exported, predict, segmentation
from tests.rpc.datastore_server import Caller, RunningDatastore
from tests.unit.datastore.instances.reference import Plain, said


async def test_the_objects_of_a_moment_are_read_and_exported(
    ada: Caller, project: Any, client: Instances, layer: str, objects: Any
) -> None:
    deleted = await client.delete(layer, [9])
    await client.revert(deleted.name)
    await client.merge(layer, [5, 7])
    first, _, last = await client.list(layer)
    with pytest.raises(InvalidArgument) as caught:
        await now(ada, layer, as_of=datetime.now(UTC) + timedelta(hours=1))
    assert caught.value.reason == "BAD_AS_OF"
    assert first.create_time is not None
    assert last.create_time is not None
    without_nine = np.where(objects == 9, 0, objects)
    np.testing.assert_array_equal(await now(ada, layer, as_of=first.create_time), without_nine)
    before = last.create_time - timedelta(microseconds=1)
    np.testing.assert_array_equal(await now(ada, layer, as_of=before), objects)
    merged = np.where(objects == 7, 5, objects)
    np.testing.assert_array_equal(await now(ada, layer), merged)
    for options, expected in (
        ({}, merged),
        ({"without_edits": True}, objects),
        ({"as_of": first.create_time}, without_nine),
    ):
        np.testing.assert_array_equal(await exported_objects(ada, project, layer, **options), expected)


async def exported_objects(caller: Caller, project: Any, layer: str, **options: Any) -> Any:
    _, data = await exported(caller, project, source=layer, **options)
    return tifffile.imread(io.BytesIO(data))


@pytest.fixture
async def found(datastore: RunningDatastore, ada: Caller, volume: Any, objects: Any) -> tuple[str, Any, str]:
    """A prediction, its labels, and the layer of mitochondria that were found in it."""
    labels = np.where(objects > 0, MITOCHONDRIA, 1).astype(np.uint8)
    labels[5] = np.where(labels[5] == 1, MEMBRANE, labels[5])
    prediction = (await predict(datastore, volume, labels, "prediction")).name
    made = await Volumes(ada.channel).write_layer(
        volume.name, objects, kind="instances", class_value=MITOCHONDRIA, source_layer=prediction
    )
    assert (made.source_layer, made.class_value) == (prediction, MITOCHONDRIA)
    return prediction, labels, made.name


async def test_a_segmentation_is_the_prediction_the_annotations_and_then_the_edits_of_objects(
    ada: Caller, project: Any, volume: Any, client: Instances, objects: Any, found: tuple[str, Any, str]
) -> None:
    _, labels, layer = found
    painted = Region.of_shape((1, 30, 30), (3, 35, 45))
    annotation = np.full(painted.shape, MEMBRANE, np.uint8)
    annotation[0, :10] = MITOCHONDRIA
    await ada.commit(volume.name, painted, annotation)
    below = labels.copy()
    below[painted.slices] = annotation
    without = np.where(below == 1, 0, below)
    np.testing.assert_array_equal(await segmentation(ada, project, volume), without)
    edits: list[Plain] = []

    async def check(box: Region | None = None) -> None:
        spoken = said(objects, edits, MITOCHONDRIA)
        # 'None of the class' says nothing about another class.
        spoken = np.where((spoken == 1) & (below >= 2) & (below != MITOCHONDRIA), 0, spoken)
        expected = np.where(spoken == 0, below, spoken)
        expected = np.where(expected == 1, 0, expected)
        options = {} if box is None else {"region": region_to_proto(box)}
        got = await segmentation(ada, project, volume, **options)
        np.testing.assert_array_equal(got, expected if box is None else expected[box.slices])

    edits.append(plain(await client.merge(layer, [5, 7])))
    # The annotation painted over a part of 9; where it says another class, the deletion changes nothing.
    edits.append(plain(await client.delete(layer, [9])))
    await check()
    moved = await client.reclassify(layer, [300], MEMBRANE)
    assert (moved.kind, moved.instances, moved.class_value) == ("reclassify", (300,), MEMBRANE)
    edits.append(plain(moved))
    await check(Region.of_shape((3, 41, 37), (2, 17, 33)))
    assert (await client.at(layer, (0, 1, 1))).instance == 0
    where = Region.of_shape((2, 6, 6), (4, 50, 50))
    grown = await client.reassign(layer, np.ones(where.shape, bool), region=where, instance=5)
    edits.append(plain(grown, np.ones(where.shape, np.uint8)))
    await check()
    split = await client.split(layer, 5, parts=half(FIVE), region=FIVE)
    edits.append(plain(split, await client.labels(split.name)))
    edits.append(plain(await client.delete(layer, list(split.new_instances))))
    await check()
    assert said(objects, edits, MITOCHONDRIA)[FIVE.slices].any()
    # Taken back, and of another moment.
    last = edits.pop()
    assert last.kind == "delete"
    record = (await client.list(layer))[-1]
    await client.revert(record.name)
    await check()
    assert moved.create_time is not None
    await expect_as_of(ada, project, volume, moved.create_time, objects, below, edits[:3])
    for given, reason in ((MITOCHONDRIA, "NOTHING_CHANGES"), (77, "UNKNOWN_CLASS")):
        with pytest.raises(InvalidArgument) as caught:
            await client.reclassify(layer, [5], given)
        assert caught.value.reason == reason


async def expect_as_of(
    ada: Caller, project: Any, volume: Any, moment: datetime, objects: Any, below: Any, edits: list[Plain]
) -> None:
    spoken = said(objects, edits, MITOCHONDRIA)
    spoken = np.where((spoken == 1) & (below == MEMBRANE), 0, spoken)
    expected = np.where(spoken == 0, below, spoken)
    then = await segmentation(ada, project, volume, as_of=moment)
    np.testing.assert_array_equal(then, np.where(expected == 1, 0, expected))


async def test_edits_of_objects_from_elsewhere_leave_a_segmentation_alone(
    datastore: RunningDatastore,
    ada: Caller,
    project: Any,
    volume: Any,
    client: Instances,
    found: tuple[str, Any, str],
    layer: str,
) -> None:
    prediction, labels, of_prediction = found
    expected = np.where(labels == 1, 0, labels)
    await client.delete(layer, [5, 7])
    np.testing.assert_array_equal(await segmentation(ada, project, volume), expected)
    # A later prediction has other objects.
    other = np.full_like(labels, MEMBRANE)
    await predict(datastore, volume, other, "later")
    await client.delete(of_prediction, [5, 7])
    np.testing.assert_array_equal(await segmentation(ada, project, volume), other)
    got = await segmentation(ada, project, volume, prediction=prediction)
    changed = (await ada.read(of_prediction) == 5) | (await ada.read(of_prediction) == 7)
    np.testing.assert_array_equal(got, np.where(changed, 0, expected))
