"""What held at any moment, and the history of a region."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from biosegment_datastore.sql.annotation import SqlAnnotations

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.database import Database
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore.test_datastore_annotations import OTHER, WHERE, labels
from tests.rpc.datastore_server import Caller, RunningDatastore

FAR = Region(Index(5, 60, 80), Index(6, 70, 90))


@pytest.fixture
async def rows(datastore: RunningDatastore) -> AsyncIterator[SqlAnnotations]:
    database = Database.open(datastore.settings.database_url)
    yield SqlAnnotations(database)
    await database.close()


async def moments(caller: Caller, parent: str) -> list[int]:
    """When each record was made, microseconds since 1970."""
    request = pb.ListAnnotationRecordsRequest(parent=parent)
    feed = await caller.annotations.ListAnnotationRecords(request)
    return [record.create_time.ToMicroseconds() for record in feed.records]


async def test_what_held_can_be_asked_for_any_moment(ada: Caller, volume: Any, rows: SqlAnnotations) -> None:
    first = await ada.commit(volume.name, WHERE, labels(2))
    second = await ada.commit(volume.name, OTHER, labels(3))
    review = pb.ReviewAnnotationRequest(name=first.name, accepted=True, comment="good")
    await ada.annotations.ReviewAnnotation(review)
    await ada.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=second.name))
    reject = pb.ReviewAnnotationRequest(name=first.name, accepted=False, comment="too wide")
    await ada.annotations.ReviewAnnotation(reject)
    third = await ada.commit(volume.name, FAR, labels(2, FAR))
    times = await moments(ada, "projects/em")
    assert times == sorted(set(times))

    async def held(as_of_us: int | None, region: Region | None = None) -> list[tuple[str, str, str]]:
        found = await rows.holding("em", "brain", region, as_of_us)
        return [(each.name, each.state.value, each.review_comment) for each in found]

    pending = [(each.name, "pending", "") for each in (first, second, third)]
    accepted = (first.name, "accepted", "good")
    assert await held(times[0] - 1) == []
    assert await held(times[0]) == pending[:1]
    assert await held(times[1]) == pending[:2]
    assert await held(times[2]) == [accepted, pending[1]]
    assert await held(times[3]) == [accepted]
    assert await held(times[4]) == []
    assert await held(times[5]) == [pending[2]] == await held(None)
    assert await held(times[2], OTHER) == [accepted, pending[1]]
    assert await held(times[2], Region(Index(2, 50, 60), Index(3, 58, 68))) == [pending[1]]
    assert await held(times[5], WHERE) == []


async def test_instances_are_laid_after_all_annotations_of_class_values(
    ada: Caller, volume: Any, rows: SqlAnnotations
) -> None:
    ids = labels(7).astype("<u4")
    instances = pb.Annotation.KIND_INSTANCES
    first = await ada.commit(volume.name, WHERE, ids, kind=instances, class_scope=[2])
    second = await ada.commit(volume.name, WHERE, labels(3))
    third = await ada.commit(volume.name, OTHER, ids, kind=instances, class_scope=[3])
    found = await rows.holding("em", "brain")
    assert [each.name for each in found] == [second.name, first.name, third.name]


async def test_the_history_of_a_region_tells_who_did_what_when(ada: Caller, volume: Any) -> None:
    first = await ada.commit(volume.name, WHERE, labels(2), comment="first")
    await ada.commit(volume.name, FAR, labels(2, FAR))
    second = await ada.commit(volume.name, OTHER, labels(3))
    await ada.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=second.name))
    review = pb.ReviewAnnotationRequest(name=first.name, accepted=False, comment="too wide")
    await ada.annotations.ReviewAnnotation(review)

    async def history(region: Region | None, **query: Any) -> list[Any]:
        request = pb.ListAnnotationRecordsRequest(parent="projects/em", **query)
        if region is not None:
            request.region.CopyFrom(region_to_proto(region))
        return list((await ada.annotations.ListAnnotationRecords(request)).records)

    found = await history(WHERE, volume=volume.name)
    assert [record.sequence for record in found] == [1, 3, 4, 5]
    assert found[0].annotation.name == first.name
    assert found[0].annotation.comment == "first"
    assert found[2].reverted == second.name
    assert (found[3].review.annotation, found[3].review.comment) == (first.name, "too wide")
    assert {record.author for record in found} == {"ada"}
    assert [record.sequence for record in await history(FAR, volume=volume.name)] == [2]
    assert [record.sequence for record in await history(None, volume=volume.name)] == [1, 2, 3, 4, 5]
    assert [
        record.sequence for record in await history(WHERE, volume=volume.name, after_sequence=3, page_size=1)
    ] == [4]
    for wrong, reason in (
        ({}, "BAD_PARENT"),
        ({"volume": "projects/other/volumes/brain"}, "BAD_PARENT"),
        ({"volume": "projects/em"}, "BAD_NAME"),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await history(WHERE, **wrong)
        assert caught.value.reason == reason  # type: ignore[attr-defined]
