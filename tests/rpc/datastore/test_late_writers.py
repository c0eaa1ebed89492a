"""What is written below a prefix after it was deleted goes, too: by a projector at work, or by anybody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from biosegment_datastore.annotations import laying, projector
from biosegment_datastore.clock import now_us
from biosegment_datastore.sql import transfer
from biosegment_datastore.sql.tables import GARBAGE
from biosegment_datastore.sql.transfer import SqlGarbage, SqlTransfers, owner_of

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.errors import Conflict
from biosegment.volume import Region
from tests.rpc.datastore.test_reservation import artifact
from tests.rpc.datastore_server import Caller, RunningDatastore

REGION = Region.of_shape((2, 10, 10), (1, 5, 5))


class Hold:
    """Stops the projector between reading a shard and writing it, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reached, self._let_go = threading.Event(), threading.Event()
        overlay_all = laying._overlay_all

        def held(*args: Any) -> Any:
            laid = overlay_all(*args)
            self._reached.set()
            assert self._let_go.wait(60)
            return laid

        monkeypatch.setattr(laying, "_overlay_all", held)
        monkeypatch.setattr(projector, "_PAUSE_S", 0.02)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 60)

    def let_go(self) -> None:
        self._let_go.set()


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    made = Hold(monkeypatch)
    yield made
    made.let_go()


async def doomed(datastore: RunningDatastore) -> dict[str, int]:
    async with datastore.parts.database.read() as connection:
        rows = await connection.execute(sa.select(GARBAGE.c.prefix, GARBAGE.c.due_us))
        return {row.prefix: row.due_us for row in rows}


async def pass_time(datastore: RunningDatastore) -> None:
    """As if everything that waits had waited long enough."""
    async with datastore.parts.database.write() as connection:
        await connection.execute(sa.update(GARBAGE).values(due_us=now_us() - 1))


async def delete_late(datastore: RunningDatastore, ada: Caller, request: Any, hold: Hold) -> list[str]:
    """Delete something while the projector is about to write there; what is left when it has written."""
    await hold.reached()
    await (
        ada.datastore.DeleteProject(request)
        if isinstance(request, pb.DeleteProjectRequest)
        else ada.datastore.DeleteVolume(request)
    )
    await datastore.parts.collector.collect()
    assert [key for key in await datastore.parts.objects.list("projects/") if "/layers/" in key] == []
    hold.let_go()
    async with asyncio.timeout(60):
        while not (late := await datastore.parts.objects.list("projects/em/layers/")):
            await asyncio.sleep(0.02)
    return late


@pytest.mark.parametrize(
    "request_",
    [
        pb.DeleteProjectRequest(name="projects/em", force=True),
        pb.DeleteVolumeRequest(name="projects/em/volumes/brain", force=True),
    ],
    ids=["project", "volume"],
)
async def test_a_shard_that_the_projector_writes_after_the_deletion_is_removed(
    datastore: RunningDatastore, ada: Caller, volume: Any, hold: Hold, request_: Any
) -> None:
    await ada.commit(volume.name, REGION, np.full(REGION.shape, 2))
    late = await delete_late(datastore, ada, request_, hold)
    # Not before everybody has noticed: another one may follow.
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/layers/") == late
    await pass_time(datastore)
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/layers/") == []
    assert await doomed(datastore) == {}


async def test_what_was_emptied_waits_once_for_late_writers_and_is_then_forgotten(
    datastore: RunningDatastore, project: Any
) -> None:
    garbage, collector = SqlGarbage(datastore.parts.database), datastore.parts.collector
    await garbage.reserve("projects/em/artifacts/x", "datastore-job", 1)
    await garbage.abandon(owner_of("datastore-job", 1))
    await collector.collect()
    due_us = (await doomed(datastore))["projects/em/artifacts/x"]
    assert 0 < due_us - now_us() <= transfer._LATE_US
    # Neither an owner whose job is gone, nor due for anybody yet, nor postponed by a second instance.
    assert await garbage.owners() == []
    assert await garbage.due() == []
    await garbage.removed("projects/em/artifacts/x")
    await collector.collect()
    assert (await doomed(datastore))["projects/em/artifacts/x"] == due_us
    await datastore.parts.objects.put("projects/em/artifacts/x/late", b"late")
    await pass_time(datastore)
    await collector.collect()
    assert await datastore.parts.objects.list("projects/em/artifacts/") == []
    assert await doomed(datastore) == {}


async def test_what_was_emptied_is_taken_into_use_by_nobody_while_it_waits(
    datastore: RunningDatastore, project: Any
) -> None:
    garbage, transfers = SqlGarbage(datastore.parts.database), SqlTransfers(datastore.parts.database)
    await garbage.reserve("projects/em/artifacts/x", "datastore-job", 1)
    await garbage.abandon(owner_of("datastore-job", 1))
    await datastore.parts.collector.collect()
    with pytest.raises(Conflict) as caught:
        await transfers.create_artifact(artifact("projects/em/artifacts/x"))
    assert caught.value.reason == "ATTEMPT_OUTDATED"


async def test_an_attempt_begins_again_where_an_earlier_one_was_emptied(
    datastore: RunningDatastore, project: Any
) -> None:
    transfers = SqlTransfers(datastore.parts.database)
    first = await transfers.reserve_artifact("em", "x", 1)
    second = await transfers.reserve_artifact("em", "x", 2)
    await datastore.parts.collector.collect()
    assert await transfers.reserve_artifact("em", "x", 2) == second
    waiting = await doomed(datastore)
    # The emptied one still waits for its own late writers.
    assert now_us() < waiting[first] < waiting[second]
