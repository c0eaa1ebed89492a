"""Commits that arrive together share a transaction, and still each stands for itself."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.annotations.annotation import Annotation, AnnotationKind
from biosegment_datastore.request import Request
from biosegment_datastore.sql.commit import Commit, SqlCommits

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.database import Database
from biosegment.errors import AlreadyExists, BiosegmentError, Conflict, InvalidArgument, NotFound
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, RunningDatastore


def place(number: int) -> Region:
    return Region.of_shape((1, 6, 6), (number % 6, 6 * (number // 6), 0))


async def reason(call: Any) -> tuple[str, Any]:
    try:
        return "", await call
    except BiosegmentError as error:
        return error.reason, None


async def test_one_bad_commit_among_many_fails_alone(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    first = await ada.commit(volume.name, place(0), np.full((1, 6, 6), 2))
    calls = []
    for number in range(1, 41):
        options: dict[str, Any] = {"request_id": f"r{number}"}
        where, value = place(number), 2
        if number % 10 == 3:
            options["base_sequence"], where = 0, place(0)  # somebody was there
        if number % 10 == 5:
            value = 9  # no such class
        if number % 10 == 7:
            options["request_id"] = f"r{number - 1}"  # of another commit
        calls.append(reason(ada.commit(volume.name, where, np.full((1, 6, 6), value), **options)))
    answers = await asyncio.gather(*calls)
    made = [annotation for _, annotation in answers if annotation is not None]
    for number, (why, _) in enumerate(answers, 1):
        expected = {3: "BASE_OUTDATED", 5: "UNKNOWN_CLASS"}.get(number % 10, "")
        if number % 10 in (6, 7):
            continue
        assert why == expected, number
    for number in (6, 16, 26, 36):
        # Which of the two came first is open; the other one is refused.
        assert sorted(answers[at - 1][0] for at in (number, number + 1)) == ["", "REQUEST_ID_REUSED"]
    assert sorted(each.sequence for each in made) == list(range(2, len(made) + 2))
    # A transaction has one time: there were fewer of them than commits.
    assert len({each.create_time.ToMicroseconds() for each in made}) < len(made)
    blocks = await datastore.parts.objects.list("projects/em/annotations/")
    assert sorted(key.rpartition("/")[2] for key in blocks) == sorted(
        each.name.rpartition("/")[2] for each in (first, *made)
    )


async def test_the_same_request_many_times_at_once_makes_one_annotation(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    made = await asyncio.gather(
        *(ada.commit(volume.name, place(1), np.full((1, 6, 6), 3), request_id="same") for _ in range(20))
    )
    assert all(each == made[0] for each in made)
    assert len(await datastore.parts.objects.list("projects/em/annotations/")) == 1
    feed = await ada.annotations.ListAnnotationRecords(pb.ListAnnotationRecordsRequest(parent="projects/em"))
    assert len(feed.records) == 1


def new(number: int, project_id: str = "em", volume_id: str = "brain") -> Annotation:
    return Annotation(
        project_id=project_id,
        volume_id=volume_id,
        id=f"a{number}",
        sequence=0,
        region=place(number),
        kind=AnnotationKind.DENSE,
        class_scope=(2,),
        author="ada",
        create_time_us=0,
        sample="",
        strategy="",
        model="",
        work_time_s=0.0,
        labels_sha256="0" * 64,
        voxel_counts={2: 36},
        comment="",
        key=f"projects/{project_id}/annotations/a{number}",
    )


async def test_one_transaction_takes_commits_to_several_projects_and_tells_what_is_wrong_with_each(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    database = Database.open(datastore.settings.database_url)

    def request(name: str, digest: str = "d", scope: str = "em") -> Request:
        return Request(scope, name, digest)

    try:
        commits = SqlCommits(database)
        answers = await commits.commit_many(
            [
                Commit(new(1), request("one")),
                Commit(new(2, volume_id="none"), request("two")),
                Commit(new(3, project_id="none"), request("three", scope="none")),
                Commit(new(4), request("one")),
                Commit(new(5), request("one", "other")),
                # Somebody else in the same batch was there before.
                Commit(new(1), request("six"), base_sequence=0),
                Commit(new(7), request("seven"), base_sequence=0),
            ]
        )
        kinds = [type(each) for each in answers]
        assert kinds == [Annotation, NotFound, NotFound, Annotation, AlreadyExists, Conflict, Annotation]
        assert answers[0] == answers[3]
        assert [each.sequence for each in answers if isinstance(each, Annotation)] == [1, 1, 2]
        assert isinstance(answers[5], Conflict)
        assert answers[5].metadata["annotation"] == new(1).name
        # The same ones again, as after a lost answer.
        (again,) = await commits.commit_many([Commit(new(8), request("seven"), base_sequence=0)])
        assert again == answers[6]
    finally:
        await database.close()


async def test_bad_labels_never_reach_a_batch(ada: Caller, volume: Any) -> None:
    with pytest.raises(InvalidArgument):
        await ada.commit(volume.name, place(0), np.full((1, 6, 7), 2))
