"""Unfinished work, which only its author sees."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2, project_pb2
from biosegment.client.annotations import Annotations
from biosegment.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore.test_datastore_annotations import OTHER, WHERE, join, labels
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore


@pytest.fixture
async def datastore(tmp_path: Path, keys: Path) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path, keys, max_drafts=3, collect_every_s=3600.0) as running:
        yield running


def named(volume: Any, draft_id: str = "mine") -> str:
    return f"{volume.name}/drafts/{draft_id}"


async def save(caller: Caller, name: str, painted: Any, etag: str = "", **fields: Any) -> Any:
    fields.setdefault("region", region_to_proto(WHERE))
    fields.setdefault("kind", pb.Annotation.KIND_DENSE)
    base_sequence = fields.pop("base_sequence", 0)
    draft = pb.Draft(name=name, annotation=pb.Annotation(**fields), base_sequence=base_sequence, etag=etag)
    request = pb.SaveDraftRequest(draft=draft, labels=np.asarray(painted).tobytes())
    return (await caller.annotations.SaveDraft(request)).draft


async def get(caller: Caller, name: str) -> Any:
    return await caller.annotations.GetDraft(pb.GetDraftRequest(name=name))


async def listed(caller: Caller, parent: str, **query: Any) -> Any:
    return await caller.annotations.ListDrafts(pb.ListDraftsRequest(parent=parent, **query))


async def kept(datastore: RunningDatastore) -> list[str]:
    """Label blocks of drafts after everything that is garbage was collected."""
    await datastore.parts.collector.collect()
    return await datastore.parts.objects.list("projects/em/drafts/")


async def test_a_draft_is_read_as_it_was_saved_and_saved_again_in_its_place(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    painted = labels(0)
    painted[0, :3] = 2
    fields = {"comment": "half", "work_time_s": 7.5, "class_scope": [2], "sample": "projects/em/samples/s"}
    saved = await save(ada, named(volume), painted, base_sequence=4, **fields)
    assert (saved.author, saved.base_sequence, saved.annotation.comment) == ("ada", 4, "half")
    answer = await get(ada, named(volume))
    assert answer.draft == saved
    assert zlib.decompress(answer.labels) == painted.tobytes()
    assert list(saved.annotation.class_scope) == [2]
    painted[0, 3:9] = 2
    again = await save(ada, named(volume), painted, etag=saved.etag)
    assert again.etag != saved.etag
    assert zlib.decompress((await get(ada, named(volume))).labels) == painted.tobytes()
    assert len(await kept(datastore)) == 1
    # It is part of nothing.
    records = await ada.annotations.ListAnnotationRecords(
        pb.ListAnnotationRecordsRequest(parent="projects/em")
    )
    assert not records.records


async def test_a_machine_that_was_slower_is_refused_and_loses_nothing(ada: Caller, volume: Any) -> None:
    first = await save(ada, named(volume), labels(2))
    second = await save(ada, named(volume), labels(3), etag=first.etag)
    with pytest.raises(Conflict) as caught:
        await save(ada, named(volume), labels(1), etag=first.etag)
    assert (caught.value.reason, caught.value.metadata["etag"]) == ("ETAG_MISMATCH", second.etag)
    assert set(zlib.decompress((await get(ada, named(volume))).labels)) == {3}
    # Its answer was lost on the way: the same again is no conflict.
    assert await save(ada, named(volume), labels(3), etag=first.etag) == second
    await ada.annotations.DeleteDraft(pb.DeleteDraftRequest(name=named(volume)))
    with pytest.raises(Conflict):
        await save(ada, named(volume), labels(1), etag=second.etag)


async def test_nobody_else_sees_a_draft_not_even_owners_and_administrators(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    bob = await join(datastore, ada, "bob", project_pb2.ROLE_ANNOTATOR)
    await save(bob, named(volume), labels(2))
    for other in (ada, datastore.as_user("root", is_admin=True)):
        for call in (
            other.annotations.GetDraft(pb.GetDraftRequest(name=named(volume))),
            other.annotations.DeleteDraft(pb.DeleteDraftRequest(name=named(volume))),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            assert caught.value.reason == "DRAFT_NOT_FOUND"
        assert not (await listed(other, "projects/em")).drafts
    # The same id is another draft for another person.
    await save(ada, named(volume), labels(3))
    assert set(zlib.decompress((await get(bob, named(volume))).labels)) == {2}
    for caller in (datastore.as_service("trainer"), datastore.as_service("gateway")):
        with pytest.raises(PermissionDenied):
            await listed(caller, "projects/em")
    viewer = await join(datastore, ada, "vic", project_pb2.ROLE_VIEWER)
    with pytest.raises(PermissionDenied):
        await save(viewer, named(volume), labels(2))


async def test_drafts_are_listed_newest_first_in_pages_and_are_limited_in_number(
    ada: Caller, volume: Any
) -> None:
    for number in (1, 2, 3, 1):
        await save(ada, named(volume, f"d{number}"), labels(2), comment=f"{number}", work_time_s=number)
    await save(ada, named(volume, "d1"), labels(3))
    first = await listed(ada, "projects/em", page_size=2)
    last = await listed(ada, "projects/em", page_size=2, page_token=first.next_page_token)
    names = [draft.name.rpartition("/")[2] for page in (first, last) for draft in page.drafts]
    assert names == ["d1", "d3", "d2"]
    assert last.next_page_token == ""
    assert len((await listed(ada, volume.name)).drafts) == 3
    with pytest.raises(ResourceExhausted) as caught:
        await save(ada, named(volume, "d4"), labels(2))
    assert caught.value.reason == "TOO_MANY_DRAFTS"
    await ada.annotations.DeleteDraft(pb.DeleteDraftRequest(name=named(volume, "d2")))
    await save(ada, named(volume, "d4"), labels(2))


async def test_a_commit_deletes_the_draft_that_it_finishes_and_a_refused_one_keeps_it(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    bob = await join(datastore, ada, "bob", project_pb2.ROLE_ANNOTATOR)
    await save(bob, named(volume), labels(3))
    await save(ada, named(volume), labels(2))
    await ada.commit(volume.name, WHERE, labels(2))
    with pytest.raises(Conflict):
        await ada.commit(volume.name, WHERE, labels(2), base_sequence=0, draft=named(volume))
    assert (await get(ada, named(volume))).draft.name == named(volume)
    made = await ada.commit(volume.name, WHERE, labels(2), draft=named(volume), request_id="once")
    with pytest.raises(NotFound):
        await get(ada, named(volume))
    # Bob's, of the same id, is not Ada's to finish.
    assert (await get(bob, named(volume))).draft.author == "bob"
    assert await ada.commit(volume.name, WHERE, labels(2), draft=named(volume), request_id="once") == made
    assert len(await kept(datastore)) == 1


async def test_nothing_is_left_of_drafts_of_a_deleted_volume_or_project(
    datastore: RunningDatastore, ada: Caller, volume: Any, image: Any
) -> None:
    await save(ada, named(volume), labels(2))
    other = await ada.import_volume("projects/em", datastore.write_tiff("other.tif", image), "other")
    await save(ada, named(other), labels(2))
    await ada.datastore.DeleteVolume(datastore_pb2.DeleteVolumeRequest(name=volume.name))
    assert len((await listed(ada, "projects/em")).drafts) == 1
    assert len(await kept(datastore)) == 1
    await ada.datastore.DeleteProject(datastore_pb2.DeleteProjectRequest(name="projects/em", force=True))
    assert await kept(datastore) == []


@pytest.mark.parametrize(
    ("fields", "painted", "reason"),
    [
        ({"region": region_to_proto(Region(Index(5, 0, 0), Index(7, 10, 10)))}, 2, "REGION_OUT_OF_BOUNDS"),
        ({"region": region_to_proto(Region.of_shape((1, 2, 2)))}, 2, "LABELS_WRONG_SIZE"),
        ({"class_scope": [3]}, 2, "UNKNOWN_CLASS"),
        ({"kind": pb.Annotation.KIND_UNSPECIFIED}, 2, "BAD_KIND"),
        ({"name": "projects/em/volumes/brain/drafts/Mine"}, 2, "BAD_NAME"),
    ],
)
async def test_a_wrong_draft_is_refused_and_leaves_nothing(
    datastore: RunningDatastore, ada: Caller, volume: Any, fields: dict[str, Any], painted: int, reason: str
) -> None:
    name = fields.get("name", named(volume))
    fields = {key: value for key, value in fields.items() if key != "name"}
    with pytest.raises(InvalidArgument) as caught:
        await save(ada, name, labels(painted), **fields)
    assert caught.value.reason == reason
    assert await datastore.parts.objects.list("projects/em/drafts/") == []


async def test_the_client_saves_resumes_and_finishes_a_draft(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    client = Annotations(ada.channel)
    ids = np.zeros(OTHER.shape, np.uint32)
    ids[0, :4] = 70_000
    name = named(volume, "objects")
    saved = await client.save_draft(
        name, ids, region=OTHER, kind="instances", class_scope=[2], comment="first four", base_sequence=3
    )
    assert [draft.name for draft in await client.drafts("projects/em")] == [name]
    found, resumed = await client.draft(name)
    assert (found, found.volume, found.base_sequence) == (saved, volume.name, 3)
    assert resumed.dtype == np.uint32
    assert (resumed == ids).all()
    await client.commit(
        resumed, volume=volume.name, region=found.region, kind=found.kind, class_scope=[2], draft=name
    )
    assert await client.drafts(volume.name) == []
    await client.save_draft(name, labels(2), region=WHERE)
    await client.delete_draft(name)
    with pytest.raises(NotFound):
        await client.draft(name)
