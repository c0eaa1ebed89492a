"""Two gigabytes of region reads by 16 clients at once: no error, bounded memory, nobody left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.auth import SERVICES, Kind, Principal, PrincipalSigner, generate_key
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.geometry import region_to_proto
from biosegment.supervisor import MALLOC
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, datastore_settings
from tests.servers.port import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

CLIENTS = 16
SHAPE = (64, 1448, 1448)
BYTES = SHAPE[0] * SHAPE[1] * SHAPE[2]
"""134 MB for each client: 2.1 GB in all, several parts for each."""
READ_MEMORY = 128 << 20


@asynccontextmanager
async def datastore_process(folder: Path, **extra: Any) -> AsyncIterator[tuple[psutil.Process, Any]]:
    """A datastore in a process of its own, and a function that makes callers."""
    for service in SERVICES:
        generate_key(service, folder / "keys")
    settings = datastore_settings(folder, folder / "keys", listen=f"127.0.0.1:{free_port()}")
    names = ("listen", "object_store_url", "database_url", "signing_key_file", "public_keys_dir")
    values: dict[str, Any] = {
        name: getattr(settings, name) for name in (*names, "import_roots", "scratch_dir")
    }
    environment = {f"BIOSEGMENT_DATASTORE__{k.upper()}": str(v) for k, v in (values | extra).items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "biosegment_datastore", env={**os.environ, **MALLOC, **environment}
    )
    credentials = ServiceCredentials(PrincipalSigner("gateway", folder / "keys" / "gateway.key"), "datastore")
    token = credentials.token(Principal(Kind.USER, "ada"))
    channels = []

    def caller() -> Caller:
        channel = connect(settings.listen, credentials=lambda: token, policy=CallPolicy(attempts=200))
        channels.append(channel)
        return Caller(channel)

    try:
        # May be repeated, so that it waits for the process.
        await caller().datastore.ListProjects(pb.ListProjectsRequest())
        yield psutil.Process(process.pid), caller
    finally:
        for channel in channels:
            await channel.close()
        process.terminate()
        await process.wait()


def request(name: str) -> pb.ReadRegionRequest:
    return pb.ReadRegionRequest(name=name, region=region_to_proto(Region.of_shape(SHAPE)))


async def prepared(folder: Path, ada: Caller) -> tuple[str, Any]:
    image = np.random.default_rng(3).integers(0, 256, SHAPE, np.uint8)
    path = folder / "imports" / "stack.tif"
    await asyncio.to_thread(tifffile.imwrite, path, image, photometric="minisblack")
    project = await ada.create_project("em")
    return (await ada.import_volume(project.name, path)).name, image


async def test_sixteen_clients_read_two_gigabytes_in_bounded_memory_and_side_by_side(tmp_path: Path) -> None:
    async with datastore_process(tmp_path, read_memory_bytes=READ_MEMORY) as (process, caller):
        name, image = await prepared(tmp_path, caller())
        raw = memoryview(image.reshape(-1))
        received, spread, memory = [0] * CLIENTS, [], []
        idle = process.memory_full_info().pss

        async def read(number: int) -> None:
            stub = caller().datastore
            async for answer in stub.ReadRegion(request(name)):
                data, offset = answer.chunk.data, answer.chunk.offset
                assert data == raw[offset : offset + len(data)]
                received[number] += len(data)

        async def sample() -> None:
            while True:
                await asyncio.sleep(0.05)
                memory.append(process.memory_full_info().pss)
                if all(received) and max(received) < BYTES:
                    spread.append(max(received) - min(received))

        sampling = asyncio.ensure_future(sample())
        await asyncio.gather(*(read(number) for number in range(CLIENTS)))
        sampling.cancel()
        print(
            f"idle {idle >> 20} MiB, most {max(memory) >> 20} MiB, spread {max(spread, default=0) / BYTES:.2f}"
        )
        assert received == [BYTES] * CLIENTS
        # Beside the parts: decoded chunks, and a few messages for each stream.
        assert max(memory) - idle < READ_MEMORY + CLIENTS * (8 << 20) + (160 << 20), (idle, max(memory))
        assert spread
        assert max(spread) < BYTES / 2  # while all were reading nobody was half a region ahead of another


async def test_readers_that_stop_reading_keep_neither_memory_nor_others(tmp_path: Path) -> None:
    async with datastore_process(tmp_path, read_memory_bytes=READ_MEMORY) as (_, caller):
        name, image = await prepared(tmp_path, caller())
        stalled = [caller().datastore.ReadRegion(request(name)) for _ in range(CLIENTS)]
        for call in stalled:
            await call.read()
        async with asyncio.timeout(120):
            assert (await caller().read(name, Region.of_shape(SHAPE)) == image).all()
        # One of them comes back and misses nothing.
        total = 0
        async for answer in stalled[0]:
            total += len(answer.chunk.data)
        assert BYTES - (2 << 20) <= total < BYTES
        for call in stalled:
            call.cancel()
