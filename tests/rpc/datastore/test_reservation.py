"""What is reserved in the object storage: nobody dooms what somebody else has taken into use, or is writing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from biosegment_datastore.clock import now_us
from biosegment_datastore.sql import layer as sql_layer
from biosegment_datastore.sql.layer import SqlLayers
from biosegment_datastore.sql.tables import GARBAGE, HOLDS
from biosegment_datastore.sql.transfer import SqlGarbage, SqlTransfers, owner_of
from biosegment_datastore.transfer import Artifact

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.errors import BiosegmentError, Conflict
from biosegment.volume import Region
from tests.rpc.datastore.test_datastore_layers import create
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore

REGION = Region.of_shape((2, 10, 10), (1, 5, 5))


def artifact(key: str) -> Artifact:
    return Artifact("em", "x", "x.tif", 1, "0" * 64, "image/tiff", key, now_us())


async def doomed(datastore: RunningDatastore) -> set[str]:
    async with datastore.parts.database.read() as connection:
        return set((await connection.execute(sa.select(GARBAGE.c.prefix))).scalars())


async def test_an_attempt_that_ends_late_leaves_the_prefix_of_the_next_one_alone(
    datastore: RunningDatastore, project: Any
) -> None:
    garbage = SqlGarbage(datastore.parts.database)
    first, second = "projects/em/artifacts/first", "projects/em/artifacts/second"
    await garbage.reserve(first, "datastore-job", 1)
    await garbage.reserve(second, "datastore-job", 2)
    await garbage.abandon(owner_of("datastore-job", 1))
    assert list(await garbage.due()) == [first]
    transfers = SqlTransfers(datastore.parts.database)
    with pytest.raises(Conflict) as caught:
        await transfers.create_artifact(artifact(first))
    assert caught.value.reason == "ATTEMPT_OUTDATED"
    await transfers.create_artifact(artifact(second))
    assert await doomed(datastore) == {first}


async def test_a_prefix_that_was_given_up_is_taken_into_use_by_nobody(
    datastore: RunningDatastore, project: Any
) -> None:
    garbage, transfers = SqlGarbage(datastore.parts.database), SqlTransfers(datastore.parts.database)
    await garbage.reserve("projects/em/artifacts/x", "datastore-job", 1)
    await garbage.abandon(owner_of("datastore-job", 1))
    with pytest.raises(Conflict):
        await transfers.create_artifact(artifact("projects/em/artifacts/x"))
    with pytest.raises(BiosegmentError, match="there is no artifact"):
        await transfers.artifact("em", "x")


async def test_of_layers_that_are_restarted_at_once_the_new_place_is_not_garbage(
    datastore: RunningDatastore, volume: Any
) -> None:
    trainer = datastore.as_service("trainer")
    made = await create(trainer, volume, "prediction")
    layers = SqlLayers(datastore.parts.database)
    before = await layers.get("em", "brain", "prediction")
    request = pb.RestartLayerRequest(name=made.name)
    answers = await asyncio.gather(
        *(trainer.datastore.RestartLayer(request) for _ in range(4)), return_exceptions=True
    )
    assert any(not isinstance(each, Exception) for each in answers)
    present = await layers.get("em", "brain", "prediction")
    # Who still looks at the attempt before cannot have the present one removed.
    with pytest.raises(Conflict):
        await layers.reserve_next(before)
    assert present.attempt > before.attempt
    assert present.key not in await doomed(datastore)


async def test_a_rebuild_whose_place_may_be_gone_does_not_become_the_layer(
    datastore: RunningDatastore, ada: Caller, volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ada.commit(volume.name, REGION, np.full(REGION.shape, 2))
    before = await ada.read(f"{volume.name}/layers/annotations")
    request = annotation_pb2.RebuildAnnotationsLayerRequest(parent=volume.name)
    root = datastore.as_user("root", is_admin=True)
    with monkeypatch.context() as patch:
        patch.setattr(sql_layer, "OLD_ATTEMPT_GRACE_US", 0)  # as if it took longer than that
        with pytest.raises(Conflict) as caught:
            await root.annotations.RebuildAnnotationsLayer(request)
    assert caught.value.reason == "ATTEMPT_OUTDATED"
    assert (await ada.read(f"{volume.name}/layers/annotations") == before).all()
    await root.annotations.RebuildAnnotationsLayer(request)
    assert (await ada.read(f"{volume.name}/layers/annotations") == before).all()


async def test_label_blocks_of_a_deleted_volume_stay_while_a_backup_holds(
    tmp_path: Path, keys: Path, image: Any
) -> None:
    async with running_datastore(tmp_path, keys, collect_every_s=3600, orphan_grace_s=0) as datastore:
        ada, database = datastore.as_user("ada"), datastore.parts.database
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image), "brain")
        await ada.commit(volume.name, REGION, np.full(REGION.shape, 2))
        blocks = await datastore.parts.objects.list("projects/em/annotations/")
        assert len(blocks) == 1
        async with database.write() as connection:
            await connection.execute(sa.insert(HOLDS).values(id="backup", expire_time_us=now_us() + 10**9))
        await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=volume.name, force=True))
        assert await datastore.parts.collector.remove_orphans() == 0
        assert await datastore.parts.objects.list("projects/em/annotations/") == blocks
        async with database.write() as connection:
            await connection.execute(sa.delete(HOLDS))
        assert await datastore.parts.collector.remove_orphans() == 1


async def test_what_is_in_use_is_asked_for_in_one_statement(datastore: RunningDatastore, volume: Any) -> None:
    """In several, PostgreSQL may show a prefix neither as reserved nor as a layer, although it always was one."""
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "garbage" in statement.lower() and "volumes" in statement.lower():
            statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        used = await SqlGarbage(datastore.parts.database).used()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(statements) == 1
    assert volume.uri.rpartition("/objects/")[2].strip("/") in used
