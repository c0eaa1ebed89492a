from __future__ import annotations

import hashlib
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2, project_pb2
from biosegment.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore_server import Caller, RunningDatastore, datastore_settings, running_datastore

WHERE = Region(Index(2, 10, 20), Index(3, 42, 52))
OTHER = Region(Index(2, 26, 36), Index(3, 58, 68))


def labels(value: int, region: Region = WHERE) -> Any:
    return np.full(region.shape, value, np.uint8)


async def layer(caller: Caller, volume: Any) -> Any:
    return await caller.read(f"{volume.name}/layers/annotations")


async def join(datastore: RunningDatastore, ada: Caller, user: str, role: Any) -> Caller:
    member = project_pb2.Member(name=f"projects/em/members/{user}", role=role)
    await ada.datastore.SetMember(datastore_pb2.SetMemberRequest(member=member))
    return datastore.as_user(user)


async def test_a_committed_annotation_is_stored_listed_fed_and_seen_in_the_layer(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    painted = labels(2)
    painted[0, :5] = 0
    painted[0, 5:9] = 1
    made = await ada.commit(volume.name, WHERE, painted, comment="clear", work_time_s=12.5)
    assert (made.sequence, made.author, made.state) == (1, "ada", pb.Annotation.STATE_PENDING)
    assert list(made.class_scope) == [2, 3]
    assert dict(made.voxel_counts) == {1: 4 * 32, 2: 23 * 32}
    assert made.labels_sha256 == hashlib.sha256(painted.tobytes()).hexdigest()
    answer = await ada.annotations.GetAnnotation(pb.GetAnnotationRequest(name=made.name, with_labels=True))
    assert answer.annotation == made
    assert zlib.decompress(answer.labels) == painted.tobytes()
    listed = await ada.annotations.ListAnnotations(pb.ListAnnotationsRequest(parent="projects/em"))
    assert list(listed.annotations) == [made]
    sampler = datastore.as_service("sampler")
    feed = await sampler.annotations.ListAnnotationRecords(
        pb.ListAnnotationRecordsRequest(parent="projects/em")
    )
    assert [record.annotation.name for record in feed.records] == [made.name]
    expected = np.zeros((6, 70, 90), np.uint8)
    expected[WHERE.slices] = painted
    assert (await layer(ada, volume) == expected).all()
    shown = await ada.datastore.GetLayer(
        datastore_pb2.GetLayerRequest(name=f"{volume.name}/layers/annotations")
    )
    assert shown.layer.projected_sequence == 1


async def test_compressed_labels_are_the_same_as_raw_ones(ada: Caller, volume: Any) -> None:
    request = pb.CommitAnnotationRequest(
        parent=volume.name,
        annotation=pb.Annotation(region=region_to_proto(WHERE), kind=pb.Annotation.KIND_SCRIBBLES),
        labels=zlib.compress(labels(3).tobytes()),
        encoding=pb.LABELS_ENCODING_ZLIB,
        request_id=str(uuid.uuid4()),
    )
    made = (await ada.annotations.CommitAnnotation(request)).annotation
    assert dict(made.voxel_counts) == {3: 1024}


def commit_request(volume: Any, **changes: Any) -> pb.CommitAnnotationRequest:
    annotation = {"region": region_to_proto(WHERE), "kind": pb.Annotation.KIND_DENSE}
    names = set(pb.CommitAnnotationRequest.DESCRIPTOR.fields_by_name)
    annotation.update({key: value for key, value in changes.items() if key not in names})
    request = {"parent": volume.name, "labels": labels(2).tobytes(), "request_id": str(uuid.uuid4())}
    request.update({key: value for key, value in changes.items() if key in names})
    return pb.CommitAnnotationRequest(annotation=pb.Annotation(**annotation), **request)


async def test_a_repeated_commit_answers_the_same_and_another_one_with_its_id_is_refused(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    request = commit_request(volume)
    first = await ada.annotations.CommitAnnotation(request)
    again = await ada.annotations.CommitAnnotation(request)
    assert again == first
    assert len(await datastore.parts.objects.list("projects/em/annotations/")) == 1
    other = commit_request(volume, request_id=request.request_id, labels=b"\3" * 1024)
    with pytest.raises(AlreadyExists) as caught:
        await ada.annotations.CommitAnnotation(other)
    assert caught.value.reason == "REQUEST_ID_REUSED"


SAMPLE = "projects/em/samples/s1"


def lease(datastore: RunningDatastore, issuer: str = "sampler", **changes: Any) -> str:
    claims = {
        "sub": "ada",
        "sample": SAMPLE,
        "volume": "projects/em/volumes/brain",
        "region": [list(WHERE.start), list(WHERE.stop)],
        "strategy": "entropy",
        "model": "models/m1",
        "exp": int(time.time()) + 60,
        **changes,
    }
    return datastore.signer(issuer).sign_claims(claims, "datastore")


async def test_a_leased_sample_is_recorded_with_its_strategy_and_model(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    made = await ada.commit(volume.name, WHERE, labels(2), sample=SAMPLE, lease_token=lease(datastore))
    assert (made.sample, made.strategy, made.model) == (SAMPLE, "entropy", "models/m1")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 3600}, "LEASE_EXPIRED"),
        ({"sub": "bob"}, "LEASE_MISMATCH"),
        ({"sample": "projects/em/samples/s2"}, "LEASE_MISMATCH"),
        ({"volume": "projects/em/volumes/other"}, "LEASE_MISMATCH"),
        ({"region": [[2, 10, 20], [3, 42, 51]]}, "LEASE_MISMATCH"),
    ],
)
async def test_a_lease_for_something_else_is_refused(
    datastore: RunningDatastore, ada: Caller, volume: Any, changes: dict[str, Any], reason: str
) -> None:
    request = commit_request(volume, sample=SAMPLE, lease_token=lease(datastore, **changes))
    with pytest.raises(FailedPrecondition) as caught:
        await ada.annotations.CommitAnnotation(request)
    assert caught.value.reason == reason


async def test_the_same_request_with_a_renewed_lease_is_accepted(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    request = commit_request(volume, sample=SAMPLE, lease_token=lease(datastore, exp=int(time.time()) - 60))
    with pytest.raises(FailedPrecondition):
        await ada.annotations.CommitAnnotation(request)
    request.lease_token = lease(datastore)
    first = await ada.annotations.CommitAnnotation(request)
    # And, once stored, again without a valid one: the answer was lost on its way.
    request.lease_token = lease(datastore, exp=int(time.time()) - 60)
    assert await ada.annotations.CommitAnnotation(request) == first


async def test_a_lease_that_another_service_signed_is_refused(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    request = commit_request(volume, sample=SAMPLE, lease_token=lease(datastore, "trainer"))
    with pytest.raises(InvalidArgument) as caught:
        await ada.annotations.CommitAnnotation(request)
    assert caught.value.reason == "BAD_LEASE"


async def test_a_commit_on_an_outdated_base_names_the_newer_annotation(ada: Caller, volume: Any) -> None:
    first = await ada.commit(volume.name, WHERE, labels(2))
    second = await ada.commit(volume.name, OTHER, labels(3), base_sequence=first.sequence)
    with pytest.raises(Conflict) as caught:
        await ada.commit(volume.name, WHERE, labels(2), base_sequence=first.sequence)
    assert (caught.value.reason, caught.value.metadata["annotation"]) == ("BASE_OUTDATED", second.name)
    await ada.commit(volume.name, WHERE, labels(2), base_sequence=second.sequence)


async def test_reverting_shows_what_was_there_before_and_happens_once(ada: Caller, volume: Any) -> None:
    await ada.commit(volume.name, WHERE, labels(2))
    before = await layer(ada, volume)
    second = await ada.commit(volume.name, OTHER, labels(3))
    assert (await layer(ada, volume))[OTHER.slices].min() == 3
    request = pb.RevertAnnotationRequest(name=second.name, request_id="undo")
    reverted = (await ada.annotations.RevertAnnotation(request)).annotation
    assert reverted.state == pb.Annotation.STATE_REVERTED
    assert (await layer(ada, volume) == before).all()
    assert (await ada.annotations.RevertAnnotation(request)).annotation == reverted
    with pytest.raises(FailedPrecondition) as caught:
        await ada.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=second.name))
    assert caught.value.reason == "ALREADY_REVERTED"


async def test_rejecting_hides_and_accepting_shows_again(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    first = await ada.commit(volume.name, WHERE, labels(2))
    await ada.commit(volume.name, OTHER, labels(3))
    both = await layer(ada, volume)
    reviewer = await join(datastore, ada, "rev", project_pb2.ROLE_REVIEWER)
    reject = pb.ReviewAnnotationRequest(name=first.name, accepted=False, comment="too wide")
    rejected = (await reviewer.annotations.ReviewAnnotation(reject)).annotation
    assert (rejected.state, rejected.review_comment) == (pb.Annotation.STATE_REJECTED, "too wide")
    hidden = np.zeros_like(both)
    hidden[OTHER.slices] = 3
    assert (await layer(ada, volume) == hidden).all()
    await reviewer.annotations.ReviewAnnotation(pb.ReviewAnnotationRequest(name=first.name, accepted=True))
    # The later annotation still lies on top.
    assert (await layer(ada, volume) == both).all()
    feed = await ada.annotations.ListAnnotationRecords(pb.ListAnnotationRecordsRequest(parent="projects/em"))
    assert [record.WhichOneof("record") for record in feed.records] == [
        "annotation",
        "annotation",
        "review",
        "review",
    ]
    assert feed.records[0].annotation.state == pb.Annotation.STATE_PENDING


async def test_roles_limit_what_one_may_do_to_annotations(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    made = await ada.commit(volume.name, WHERE, labels(2))
    annotator = await join(datastore, ada, "ann", project_pb2.ROLE_ANNOTATOR)
    viewer = await join(datastore, ada, "vic", project_pb2.ROLE_VIEWER)
    own = await annotator.commit(volume.name, OTHER, labels(3))
    for call in (
        annotator.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=made.name)),
        annotator.annotations.ReviewAnnotation(pb.ReviewAnnotationRequest(name=own.name, accepted=True)),
        viewer.annotations.CommitAnnotation(commit_request(volume)),
        datastore.as_service("trainer").annotations.CommitAnnotation(commit_request(volume)),
    ):
        with pytest.raises(PermissionDenied):
            await call
    await annotator.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=own.name))
    with pytest.raises(NotFound) as caught:
        await datastore.as_user("stranger").annotations.GetAnnotation(pb.GetAnnotationRequest(name=made.name))
    assert caught.value.reason == "PROJECT_NOT_FOUND"


async def test_a_rejection_needs_a_comment(ada: Caller, volume: Any) -> None:
    made = await ada.commit(volume.name, WHERE, labels(2))
    with pytest.raises(InvalidArgument) as caught:
        await ada.annotations.ReviewAnnotation(pb.ReviewAnnotationRequest(name=made.name))
    assert caught.value.reason == "COMMENT_MISSING"


async def test_none_of_a_scope_says_nothing_about_other_classes(ada: Caller, volume: Any) -> None:
    await ada.commit(volume.name, WHERE, labels(2), class_scope=[2])
    await ada.commit(volume.name, WHERE, labels(1), class_scope=[3])
    assert (await layer(ada, volume))[WHERE.slices].min() == 2
    await ada.commit(volume.name, WHERE, labels(1), class_scope=[2])
    assert (await layer(ada, volume))[WHERE.slices].max() == 1


async def test_a_rebuilt_layer_is_the_same_to_the_last_voxel(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    random = np.random.default_rng(5)
    made = []
    for _ in range(25):
        corner = random.integers(0, (5, 40, 60))
        region = Region.of_shape((1, 24, 30), tuple(int(c) for c in corner))
        scope = [int(random.choice([2, 3]))]
        painted = random.choice([0, 1, scope[0]], region.shape).astype(np.uint8)
        made.append(await ada.commit(volume.name, region, painted, class_scope=scope))
    for annotation in made[3:20:4]:
        await ada.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=annotation.name))
    before = await layer(ada, volume)
    old = await ada.datastore.GetLayer(
        datastore_pb2.GetLayerRequest(name=f"{volume.name}/layers/annotations")
    )
    answer = await ada.annotations.RebuildAnnotationsLayer(
        pb.RebuildAnnotationsLayerRequest(parent=volume.name)
    )
    assert answer.projected_sequence == 30
    new = await ada.datastore.GetLayer(datastore_pb2.GetLayerRequest(name=answer.layer))
    assert new.layer.uri != old.layer.uri
    assert (await layer(ada, volume) == before).all()
    await ada.commit(volume.name, WHERE, labels(3))
    assert (await layer(ada, volume))[WHERE.slices].min() == 3


async def test_annotations_are_listed_by_state_region_and_sample_in_pages(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    first = await ada.commit(volume.name, WHERE, labels(2))
    far = await ada.commit(volume.name, Region.of_shape((1, 4, 4)), labels(2, Region.of_shape((1, 4, 4))))
    leased = await ada.commit(volume.name, WHERE, labels(2), sample=SAMPLE, lease_token=lease(datastore))
    await ada.annotations.RevertAnnotation(pb.RevertAnnotationRequest(name=first.name))

    async def names(**query: Any) -> list[str]:
        request = pb.ListAnnotationsRequest(parent=volume.name, **query)
        return [each.name for each in (await ada.annotations.ListAnnotations(request)).annotations]

    assert await names() == [first.name, far.name, leased.name]
    assert await names(states=[pb.Annotation.STATE_PENDING]) == [far.name, leased.name]
    assert await names(region=region_to_proto(OTHER)) == [first.name, leased.name]
    assert await names(sample=SAMPLE) == [leased.name]
    page = await ada.annotations.ListAnnotations(pb.ListAnnotationsRequest(parent=volume.name, page_size=2))
    assert await names(page_size=2, page_token=page.next_page_token) == [leased.name]
    for wrong in ({"page_token": page.next_page_token, "sample": SAMPLE}, {"page_size": 1001}):
        with pytest.raises(InvalidArgument):
            await names(**wrong)
    with pytest.raises(InvalidArgument) as caught:
        await ada.annotations.ListAnnotations(
            pb.ListAnnotationsRequest(parent="projects/em", region=region_to_proto(WHERE))
        )
    assert caught.value.reason == "BAD_PARENT"


async def test_everything_is_found_again_after_a_restart_and_orphans_are_gone(
    tmp_path: Path, keys: Path, image: Any
) -> None:
    async with running_datastore(tmp_path, keys) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image), "brain")
        made = await ada.commit(volume.name, WHERE, labels(2))
        # A block whose row was never written; long ago, by its id.
        old, young = "0" * 26, made.name.rpartition("/")[2][:-2] + "zz"
        for orphan in (old, young):
            await datastore.parts.objects.put(f"projects/em/annotations/{orphan}", b"lost")
    async with running_datastore(tmp_path, keys) as datastore:
        ada = datastore.as_user("ada")
        answer = await ada.annotations.GetAnnotation(pb.GetAnnotationRequest(name=made.name))
        assert answer.annotation == made
        assert (await layer(ada, volume))[WHERE.slices].min() == 2
        assert (await ada.read(volume.name) == image).all()
        await datastore.parts.collector.remove_orphans()
        blocks = await datastore.parts.objects.list("projects/em/annotations/")
        assert blocks == sorted(
            f"projects/em/annotations/{each}" for each in (made.name.rpartition("/")[2], young)
        )


async def test_two_instances_share_one_projection(tmp_path: Path, keys: Path, image: Any) -> None:
    async with running_datastore(tmp_path, keys) as one:
        assert datastore_settings(tmp_path, keys) == one.settings
        async with running_datastore(tmp_path, keys) as two:
            ada, also_ada = one.as_user("ada"), two.as_user("ada")
            project = await ada.create_project("em")
            volume = await ada.import_volume(project.name, one.write_tiff("stack.tif", image), "brain")
            expected = np.zeros_like(image)
            for step in range(12):
                caller = (ada, also_ada)[step % 2]
                region = Region.of_shape((1, 20, 20), (step // 3, 4 * step, 5 * step))
                await caller.commit(volume.name, region, labels(2 if step % 3 else 1, region))
                expected[region.slices] = 2 if step % 3 else 1
            assert (await layer(ada, volume) == expected).all()
            assert (await layer(also_ada, volume) == expected).all()
