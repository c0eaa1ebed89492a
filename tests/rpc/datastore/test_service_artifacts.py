"""Files that a service makes, as the trainer does with tables of objects."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from biosegment_datastore.sql import transfer

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from biosegment.storage.parts import PART_BYTES, PartWriter
from tests.rpc.datastore.test_datastore_transfers import download
from tests.rpc.datastore_server import Caller, RunningDatastore


@pytest.fixture
def trainer(datastore: RunningDatastore) -> Caller:
    return datastore.as_service("trainer")


async def begin(caller: Caller, artifact_id: str, attempt: int) -> Any:
    request = pb.CreateArtifactRequest(parent="projects/em", artifact_id=artifact_id, attempt=attempt)
    return await caller.datastore.CreateArtifact(request)


def write(datastore: RunningDatastore, place: Any, data: bytes) -> Any:
    """Write below a place, and what is to be said about it."""
    key = place.uri.removeprefix(f"{datastore.settings.object_store_url}/")
    assert key != place.uri
    writer = PartWriter(datastore.parts.objects.blocking, key)
    for start in range(0, len(data), 5_000_000):
        writer.write(data[start : start + 5_000_000])
    return volume_pb2.Artifact(
        name=place.name,
        file_name="objects.csv",
        sha256=writer.finish(),
        size_bytes=writer.size_bytes,
        media_type="text/csv",
    )


async def commit(caller: Caller, attempt: int, *artifacts: Any, project: str = "projects/em") -> Any:
    request = pb.CommitArtifactsRequest(parent=project, artifacts=artifacts, attempt=attempt)
    return (await caller.datastore.CommitArtifacts(request)).artifacts


async def is_absent(caller: Caller, name: str) -> bool:
    try:
        await caller.datastore.GetArtifact(pb.GetArtifactRequest(name=name))
    except NotFound as error:
        return error.reason == "ARTIFACT_NOT_FOUND"
    return False


async def test_what_a_service_wrote_is_seen_when_it_is_committed_and_read_in_pieces(
    datastore: RunningDatastore, ada: Caller, project: Any, trainer: Caller
) -> None:
    data = bytes(range(256)) * ((PART_BYTES + 70_000) // 256)
    place = await begin(trainer, "table", 1)
    said = write(datastore, place, data)
    assert said.sha256 == hashlib.sha256(data).hexdigest()
    assert await is_absent(ada, place.name)
    (artifact,) = await commit(trainer, 1, said)
    assert (artifact.name, artifact.size_bytes) == ("projects/em/artifacts/table", len(data))
    assert artifact.HasField("create_time")
    assert await download(ada, artifact.name) == data
    assert await download(ada, artifact.name, len(data) - 9) == data[-9:]
    # Said again, after an answer that was lost: nothing changes.
    assert list(await commit(trainer, 1, said)) == [artifact]
    with pytest.raises(AlreadyExists) as caught:
        await begin(trainer, "table", 2)
    assert caught.value.reason == "ARTIFACT_EXISTS"
    await datastore.parts.collector.collect()
    assert await download(ada, artifact.name) == data


async def test_an_older_attempt_can_neither_begin_nor_commit_and_what_it_wrote_is_removed(
    datastore: RunningDatastore, ada: Caller, project: Any, trainer: Caller
) -> None:
    old = await begin(trainer, "table", 1)
    said = write(datastore, old, b"of an orphan")
    new = await begin(trainer, "table", 2)
    assert new.uri != old.uri
    for call in (begin(trainer, "table", 1), commit(trainer, 1, said)):
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.reason == "ATTEMPT_OUTDATED"
    assert await is_absent(ada, new.name)
    final = write(datastore, new, b"of the newest")
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/artifacts/table/1/") == []
    await commit(trainer, 2, final)
    assert await download(ada, new.name) == b"of the newest"


async def test_of_several_artifacts_all_or_none_are_committed(
    datastore: RunningDatastore, ada: Caller, project: Any, trainer: Caller
) -> None:
    first, second = [await begin(trainer, name, 1) for name in ("one", "two")]
    whole = write(datastore, first, b"whole")
    half = volume_pb2.Artifact()
    half.CopyFrom(write(datastore, second, b"half"))
    half.size_bytes += 1
    with pytest.raises(FailedPrecondition) as caught:
        await commit(trainer, 1, whole, half)
    assert caught.value.reason == "ARTIFACT_INCOMPLETE"
    await begin(trainer, "two", 2)
    half.size_bytes -= 1
    with pytest.raises(Conflict):
        await commit(trainer, 1, whole, half)
    assert await is_absent(ada, first.name)
    assert await is_absent(ada, second.name)


async def test_a_place_that_is_never_committed_is_given_up(
    datastore: RunningDatastore, project: Any, trainer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_ATTEMPT_US", 0)
    place = await begin(trainer, "table", 1)
    said = write(datastore, place, b"too late")
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/artifacts/") == []
    with pytest.raises(FailedPrecondition):
        await commit(trainer, 1, said)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"name": "projects/em/volumes/table"}, InvalidArgument, "BAD_NAME"),
        ({"name": "projects/other/artifacts/table"}, InvalidArgument, "OTHER_PROJECT"),
        ({"file_name": "../table.csv"}, InvalidArgument, "BAD_FILE_NAME"),
        ({"sha256": "x" * 64}, InvalidArgument, "BAD_ARTIFACT"),
        ({"size_bytes": 0}, InvalidArgument, "BAD_ARTIFACT"),
        ({"media_type": ""}, InvalidArgument, "BAD_TEXT"),
        ({"size_bytes": 99}, FailedPrecondition, "ARTIFACT_INCOMPLETE"),
    ],
)
async def test_what_is_wrong_is_refused(
    datastore: RunningDatastore,
    ada: Caller,
    project: Any,
    trainer: Caller,
    change: dict[str, Any],
    kind: type[BiosegmentError],
    reason: str,
) -> None:
    said = write(datastore, await begin(trainer, "table", 1), b"table")
    said.MergeFrom(volume_pb2.Artifact(**change))
    for field, value in change.items():
        setattr(said, field, value)
    with pytest.raises(kind) as caught:
        await commit(trainer, 1, said)
    assert caught.value.reason == reason
    assert await is_absent(ada, "projects/em/artifacts/table")


async def test_names_attempts_and_rights_are_checked(
    datastore: RunningDatastore, ada: Caller, project: Any, trainer: Caller
) -> None:
    for artifact_id, attempt, reason in (("Table", 1, "BAD_ID"), ("table", 0, "BAD_ATTEMPT")):
        with pytest.raises(InvalidArgument) as caught:
            await begin(trainer, artifact_id, attempt)
        assert caught.value.reason == reason
    with pytest.raises(InvalidArgument) as none:
        await commit(trainer, 1)
    assert none.value.reason == "BAD_ARTIFACT"
    with pytest.raises(NotFound):
        await begin(datastore.as_user("eve"), "table", 1)
    with pytest.raises(PermissionDenied):
        await begin(datastore.as_service("sampler"), "table", 1)
