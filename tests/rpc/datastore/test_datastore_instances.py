"""Instance ids are annotations of a class, and no class values."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import numpy as np
import pytest
from biosegment_trainer.datastore_client import DatastoreClient

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.client.annotations import Annotations
from biosegment.errors import Conflict, InvalidArgument
from tests.rpc.datastore.test_datastore_annotations import OTHER, WHERE, labels, layer
from tests.rpc.datastore_server import Caller, RunningDatastore

NONE = 0xFFFFFFFF
INSTANCES = pb.Annotation.KIND_INSTANCES


def drawn() -> Any:
    """(1, 32, 32) uint32: two objects, one row where there is none, the rest unsaid."""
    ids = np.zeros(WHERE.shape, np.uint32)
    ids[0, :8] = 1
    ids[0, 8:10] = 3_000_000_000
    ids[0, 10] = NONE
    return ids


async def test_instances_are_kept_as_ids_and_counted_and_shown_as_their_class(
    ada: Caller, volume: Any
) -> None:
    client = Annotations(ada.channel)
    made = await client.commit(drawn(), volume=volume.name, region=WHERE, kind="instances", class_scope=[3])
    assert (made.kind, made.class_scope, made.voxel_counts) == ("instances", (3,), {1: 32, 3: 320})
    assert made.labels_sha256 == hashlib.sha256(drawn().tobytes()).hexdigest()
    read = await client.labels(made.name)
    assert read.dtype == np.uint32
    assert (read == drawn()).all()
    shown = (await layer(ada, volume))[WHERE.slices]
    assert (shown[0, :10] == 3).all()
    assert (shown[0, 10] == 1).all()
    assert (shown[0, 11:] == 0).all()


async def test_instances_lie_upon_class_values_whatever_was_committed_first(ada: Caller, volume: Any) -> None:
    first = await ada.commit(volume.name, WHERE, drawn(), kind=INSTANCES, class_scope=[2])
    assert (await layer(ada, volume))[WHERE.slices][0, 0].min() == 2
    painted = labels(1)
    painted[0, 10] = 3
    await ada.commit(volume.name, WHERE, painted)
    shown = (await layer(ada, volume))[WHERE.slices]
    assert (shown[0, :10] == 2).all()
    # 'No object of class 2' says nothing about class 3.
    assert (shown[0, 10] == 3).all()
    assert (shown[0, 11:] == 1).all()
    await ada.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=first.name))
    assert ((await layer(ada, volume))[WHERE.slices] == painted).all()


@pytest.mark.parametrize(
    ("scope", "count", "reason"),
    [
        ([], 4, "BAD_SCOPE"),
        ([2, 3], 4, "BAD_SCOPE"),
        ([9], 4, "UNKNOWN_CLASS"),
        ([2], 1, "LABELS_WRONG_SIZE"),
    ],
)
async def test_instances_of_not_exactly_one_class_or_of_the_wrong_size_are_refused(
    ada: Caller, volume: Any, scope: list[int], count: int, reason: str
) -> None:
    ids = drawn() if count == 4 else labels(2)
    with pytest.raises(InvalidArgument) as caught:
        await ada.commit(volume.name, WHERE, ids, kind=INSTANCES, class_scope=scope)
    assert caught.value.reason == reason


async def test_the_trainer_reads_instances_as_their_class(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    made = await ada.commit(volume.name, WHERE, drawn(), kind=INSTANCES, class_scope=[3])
    dense = await ada.commit(volume.name, OTHER, labels(2))
    trainer = datastore.as_service("trainer")
    client = DatastoreClient(trainer.channel, datastore.settings.object_store_url)
    assert await client.annotation_names("em") == [made.name, dense.name]
    first, second = await client.annotations([made.name, dense.name], with_labels=True)
    read = np.frombuffer(zlib.decompress(first.labels), np.uint8).reshape(WHERE.shape)
    expected = np.zeros(WHERE.shape, np.uint8)
    expected[0, :10], expected[0, 10] = 3, 1
    assert (read == expected).all()
    assert first.scope == {3}
    assert set(zlib.decompress(second.labels)) == {2}


async def test_the_client_hears_which_annotation_is_newer_and_can_merge(ada: Caller, volume: Any) -> None:
    client = Annotations(ada.channel)
    seen = await client.commit(labels(2), volume=volume.name, region=WHERE)
    newer = await client.commit(labels(3), volume=volume.name, region=OTHER)
    with pytest.raises(Conflict) as caught:
        await client.commit(labels(2), volume=volume.name, region=WHERE, base_sequence=seen.sequence)
    name = caught.value.metadata["annotation"]
    assert name == newer.name
    theirs = await client.get(name)
    merged = labels(2)
    shared = theirs.region.intersection(WHERE)
    assert shared is not None
    merged[shared.relative_to(WHERE).slices] = (await client.labels(name))[
        shared.relative_to(theirs.region).slices
    ]
    await client.commit(merged, volume=volume.name, region=WHERE, base_sequence=theirs.sequence)
    history = await client.history(volume.name, WHERE)
    assert [record.action for record in history] == ["committed"] * 3
    assert history[1].committed == newer
