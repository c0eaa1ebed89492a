"""The services are children of a process that may itself be in the middle of calls, and that may be killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from biosegment.client import AsyncClient, aconnect
from biosegment.client.connection import connection_file
from biosegment.supervisor import Supervisor
from tests.system.platform import Platform, lives, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@asynccontextmanager
async def started(data: Path) -> AsyncIterator[AsyncClient]:
    supervisor = Supervisor(data, grpc_port=0, http_port=0)
    await supervisor.start()
    try:
        async with aconnect(data_dir=data) as client:
            yield client
    finally:
        await supervisor.stop()


async def test_services_are_started_without_a_fork_of_a_process_that_uses_grpc(tmp_path: Path) -> None:
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(os.getpid()))
    for _ in range(2):
        async with started(tmp_path / "data") as client:
            assert not await client.projects.list()
            assert not forks


async def test_while_services_start_nobody_finds_those_of_before(tmp_path: Path) -> None:
    left = connection_file(tmp_path / "data")
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    supervisor = Supervisor(tmp_path / "data", grpc_port=0, http_port=0)
    starting = asyncio.create_task(supervisor.start())
    await asyncio.sleep(0)
    assert not starting.done()
    assert not left.exists()
    await starting
    assert left.exists()
    await supervisor.stop()


def test_services_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    platform = Platform(tmp_path, import_root=tmp_path)
    platform.start()
    _, *services = platform.processes()
    assert len(services) >= 4
    platform.kill_supervisor()
    until(lambda: not any(map(lives, services)), 60, "what it had started has ended")
    # What they held is free: the same folder serves again.
    connection_file(platform.data_dir).unlink()
    platform.start()
    with platform.connect() as client:
        assert not client.projects.list()
    platform.stop()
