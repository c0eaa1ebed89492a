"""Samples of several annotators: leases that somebody took over, and how far two annotations agree."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from tests.rpc.datastore.test_datastore_annotations import OTHER, SAMPLE, WHERE, commit_request, labels, lease
from tests.rpc.datastore_server import Caller, RunningDatastore


async def end(caller: Caller, term: int, successor: str = "mia", name: str = "Mia M.") -> None:
    request = pb.EndLeaseRequest(sample=SAMPLE, term=term, successor=successor, successor_name=name)
    await caller.annotations.EndLease(request)


async def test_a_lease_that_was_taken_over_commits_nothing_and_names_who_has_it_now(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    sampler = datastore.as_service("sampler")
    await end(sampler, 2)
    await end(sampler, 1, "late", "")
    for claims in ({}, {"term": 1}):
        request = commit_request(volume, sample=SAMPLE, lease_token=lease(datastore, **claims))
        with pytest.raises(FailedPrecondition, match="Mia M") as caught:
            await ada.annotations.CommitAnnotation(request)
        assert (caught.value.reason, caught.value.metadata["holder"]) == ("LEASE_TAKEN_OVER", "mia")
    assert await datastore.parts.objects.list("projects/em/annotations/") == []
    # What was drawn is not lost: the same request without the sample.
    request.annotation.sample = ""
    assert (await ada.annotations.CommitAnnotation(request)).annotation.sample == ""
    made = await ada.commit(
        volume.name, WHERE, labels(2), sample=SAMPLE, lease_token=lease(datastore, term=2)
    )
    assert made.sample == SAMPLE


async def test_a_lease_that_was_given_back_commits_nothing(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    await end(datastore.as_service("sampler"), 1, "", "")
    request = commit_request(volume, sample=SAMPLE, lease_token=lease(datastore))
    with pytest.raises(FailedPrecondition, match="given back") as caught:
        await ada.annotations.CommitAnnotation(request)
    assert caught.value.reason == "LEASE_GIVEN_BACK"
    request.lease_token = lease(datastore, term=1)
    assert (await ada.annotations.CommitAnnotation(request)).annotation.sample == SAMPLE


async def test_records_of_a_deleted_project_are_told_from_those_of_one_that_never_was(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    sampler = datastore.as_service("sampler")
    await ada.datastore.DeleteProject(datastore_pb2.DeleteProjectRequest(name="projects/em", force=True))
    for name, deleted in (("em", "true"), ("none", None)):
        with pytest.raises(NotFound) as caught:
            await sampler.annotations.ListAnnotationRecords(
                pb.ListAnnotationRecordsRequest(parent=f"projects/{name}")
            )
        assert (caught.value.reason, caught.value.metadata.get("deleted")) == ("PROJECT_NOT_FOUND", deleted)


async def test_what_was_committed_before_a_take_over_stands_and_is_answered_again(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    request = commit_request(volume, sample=SAMPLE, lease_token=lease(datastore))
    first = await ada.annotations.CommitAnnotation(request)
    await end(datastore.as_service("sampler"), 1)
    assert await ada.annotations.CommitAnnotation(request) == first


async def test_commits_and_a_take_over_at_once_come_one_after_the_other(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    sampler = datastore.as_service("sampler")
    requests = [commit_request(volume, sample=SAMPLE, lease_token=lease(datastore)) for _ in range(12)]

    async def commit(request: Any) -> str:
        """'' when it was stored, else why not."""
        try:
            await ada.annotations.CommitAnnotation(request)
        except FailedPrecondition as error:
            return error.reason
        return ""

    early = asyncio.gather(*map(commit, requests[:8]))
    await end(sampler, 1)
    listed = await ada.annotations.ListAnnotations(pb.ListAnnotationsRequest(parent="projects/em"))
    assert await asyncio.gather(*map(commit, requests[8:])) == ["LEASE_TAKEN_OVER"] * 4
    outcomes = await early
    assert set(outcomes) <= {"", "LEASE_TAKEN_OVER"}
    assert len(listed.annotations) == outcomes.count("")


async def test_only_the_sampler_ends_leases(datastore: RunningDatastore, ada: Caller, volume: Any) -> None:
    for caller in (ada, datastore.as_user("root", is_admin=True), datastore.as_service("trainer")):
        with pytest.raises(PermissionDenied) as caught:
            await end(caller, 1)
        assert caught.value.reason == "SAMPLER_ONLY"
    with pytest.raises(NotFound):
        await datastore.as_service("sampler").annotations.EndLease(
            pb.EndLeaseRequest(sample="projects/absent/samples/s", term=1)
        )


async def test_two_annotations_are_compared_where_both_say_something(ada: Caller, volume: Any) -> None:
    one, other = labels(2), labels(1, OTHER)
    other[0, :8] = 2
    other[0, 8:10] = 0
    first = await ada.commit(volume.name, WHERE, one)
    second = await ada.commit(volume.name, OTHER, other)
    request = pb.CompareAnnotationsRequest(first=first.name, second=second.name)
    answer = await ada.annotations.CompareAnnotations(request)
    # They share 16 x 16 voxels; in two of the rows the second says nothing.
    assert (answer.compared_voxels, answer.agreed_voxels) == (14 * 16, 8 * 16)
    found = {each.class_value: (each.intersection_voxels, each.union_voxels) for each in answer.classes}
    assert found == {2: (8 * 16, 14 * 16), 3: (0, 0)}


async def test_large_annotations_are_compared_and_wrong_names_are_refused(
    datastore: RunningDatastore, ada: Caller, project: Any
) -> None:
    shape = (5, 300, 300)
    big = await ada.import_volume(
        project.name, datastore.write_tiff("big.tif", np.zeros(shape, np.uint8)), "big"
    )
    values = np.random.default_rng(2).integers(1, 3, (2, *shape), np.uint8)
    everywhere = WHERE.of_shape(shape)
    names = [(await ada.commit(big.name, everywhere, each)).name for each in values]
    answer = await ada.annotations.CompareAnnotations(
        pb.CompareAnnotationsRequest(first=names[0], second=names[1])
    )
    both, either = (values == 2).all(0).sum(), (values == 2).any(0).sum()
    assert (answer.classes[0].intersection_voxels, answer.classes[0].union_voxels) == (both, either)
    assert answer.agreed_voxels == (values[0] == values[1]).sum()
    elsewhere = names[1].replace("/volumes/big/", "/volumes/other/")
    with pytest.raises(InvalidArgument) as caught:
        await ada.annotations.CompareAnnotations(
            pb.CompareAnnotationsRequest(first=names[0], second=elsewhere)
        )
    assert caught.value.reason == "DIFFERENT_VOLUMES"
