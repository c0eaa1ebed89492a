"""What a backup keeps for itself, and for how long."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from biosegment_datastore.sql.transfer import SqlGarbage

from biosegment.backup.hold import CollectorHold, Keeper, TargetLock, kept
from biosegment.database import Database, open_engine
from biosegment.errors import FailedPrecondition
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from tests.unit.backup.small import Small


@pytest.fixture
def target(tmp_path: Path) -> BlockingObjects:
    return open_blocking_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}/target"))


async def test_the_collector_finds_nothing_due_while_a_hold_is_good(tmp_path: Path) -> None:
    small = Small.at(tmp_path / "platform")
    small.insert("datastore", "garbage", {"prefix": "projects/em/old", "due_us": 1})
    url = small.installation.databases["datastore"]
    engine, database = open_engine(url), Database.open(url)
    garbage = SqlGarbage(database)
    assert await garbage.due() == ["projects/em/old"]
    hold = CollectorHold(engine)
    hold.take(60.0)
    assert await garbage.due() == []
    assert hold.prolong(60.0)
    hold.release()
    assert await garbage.due() == ["projects/em/old"]
    dead = CollectorHold(engine)
    dead.take(0.0)
    assert await garbage.due() == ["projects/em/old"]
    # It ran out; something may have been removed since.
    assert not dead.prolong(60.0)
    await database.close()
    engine.dispose()


def test_holds_are_prolonged_while_they_are_needed_and_released_at_the_end(target: BlockingObjects) -> None:
    with kept([TargetLock(target)], lifetime_s=6.0) as keeper:
        first = json.loads(target.get("lock"))["expires_s"]
        deadline = time.monotonic() + 30
        while json.loads(target.get("lock"))["expires_s"] == first:
            assert time.monotonic() < deadline, "the hold was not prolonged"
            time.sleep(0.05)
        keeper.require()
    assert not target.exists("lock")


def test_a_hold_that_somebody_else_took_is_lost(target: BlockingObjects) -> None:
    with kept([TargetLock(target)], lifetime_s=0.3) as keeper:
        target.put("lock", json.dumps({"owner": "other", "expires_s": 9e12, "process": "x/1"}).encode())
        deadline = time.monotonic() + 30
        while not _is_lost(keeper):
            assert time.monotonic() < deadline, "the loss was not noticed"
            time.sleep(0.05)
    # Not ours any more, and not released by us.
    assert target.exists("lock")


def _is_lost(keeper: Keeper) -> bool:
    try:
        keeper.require()
    except FailedPrecondition as error:
        return error.reason == "HOLD_LOST"
    return False


def test_a_target_is_taken_over_from_a_lock_that_ran_out_and_from_a_process_that_died(
    target: BlockingObjects,
) -> None:
    with pytest.raises(FailedPrecondition, match="another backup"), kept([TargetLock(target)]):
        TargetLock(target).take(60.0)
    TargetLock(target).take(-1.0)
    TargetLock(target).take(60.0)
    code = "import os, socket; print(f'{socket.gethostname()}/{os.getpid()}')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    content = {"owner": "dead", "expires_s": time.time() + 600, "process": process.strip()}
    target.put("lock", json.dumps(content).encode())
    TargetLock(target).take(60.0)
    target.put("lock", json.dumps({**content, "process": "another-host/1"}).encode())
    with pytest.raises(FailedPrecondition) as caught:
        TargetLock(target).take(60.0)
    assert caught.value.reason == "TARGET_BUSY"
