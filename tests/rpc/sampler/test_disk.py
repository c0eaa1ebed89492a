from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from biosegment_sampler.ports import Receipt, Transaction
from biosegment_sampler.sql import SqlLedger

from biosegment.database import Database, migrate
from tests.rpc.sampler.conftest import Platform


class Disk:
    """Stands still when it is told to."""

    def __init__(self) -> None:
        self.goes = threading.Event()
        self.goes.set()
        self.flushes = 0

    def flush(self, descriptor: int) -> None:
        self.flushes += 1
        assert self.goes.wait(30)
        os.fsync(descriptor)

    async def begun(self, flushes: int) -> None:
        async with asyncio.timeout(20):
            while self.flushes < flushes:
                await asyncio.sleep(0.01)


async def test_annotators_get_samples_while_the_disk_stands_still(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(os, "fdatasync", disk.flush)
    names = [sample.name for sample in (await platform.claim("ann", count=3)).samples]
    assert disk.flushes == 0
    disk.goes.clear()
    try:
        releases = [asyncio.create_task(platform.ask("ann", "ReleaseSample", name=names[0]))]
        await disk.begun(1)
        releases += [
            asyncio.create_task(platform.ask("ann", "ReleaseSample", name=name)) for name in names[1:]
        ]
        async with asyncio.timeout(20):
            for name in names:
                while (await platform.ask("bob", "GetSample", name=name)).sample.HasField("lease"):
                    await asyncio.sleep(0.01)
            for count in (1, 2, 3):
                assert len((await platform.claim("bob", count=count)).samples) == count
        assert not any(release.done() for release in releases)
    finally:
        disk.goes.set()
    await asyncio.gather(*releases)
    # Those who came meanwhile shared one.
    assert disk.flushes == 2


async def test_what_is_not_lazy_is_on_the_disk_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sampler.sqlite"
    await asyncio.to_thread(migrate, f"sqlite+aiosqlite:///{file}", "biosegment_sampler")
    on_disk: set[str] = set()

    def flush(descriptor: int) -> None:
        with closing(sqlite3.connect(file)) as connection:
            written = {request_id for (request_id,) in connection.execute("SELECT request_id FROM receipts")}
        os.fsync(descriptor)
        # Others write in the meantime.
        threading.Event().wait(0.02)
        on_disk.update(written)

    monkeypatch.setattr(os, "fdatasync", flush)
    database = Database.open(f"sqlite+aiosqlite:///{file}")
    ledger = SqlLedger(database)

    async def write(number: int) -> None:
        request_id = f"request{number}"

        async def work(transaction: Transaction) -> None:
            await transaction.put_receipt("ann", request_id, Receipt(()))

        await asyncio.sleep(0.005 * number)
        is_lazy = number % 4 == 0
        await ledger.write_at_once("p", work, lazily=is_lazy)
        assert is_lazy or request_id in on_disk

    await asyncio.gather(*map(write, range(40)))
    await database.close()
