"""A platform with a project, a volume, a model and many people, for the benchmarks of the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import tifffile

from benchmarks.claims import train
from benchmarks.gateway_load import Specification
from benchmarks.stream import texture
from biosegment.client import AsyncClient, aconnect
from biosegment.client.resources import Job, JobState
from biosegment.supervisor import Addresses, Supervisor
from biosegment.volume import VoxelSize

SHAPE = (128, 1024, 1024)
PART = "16,128,128"
"""Largest image for MONAI Label clients: the volume is offered in 512."""
PROJECT, VOLUME = "projects/bench", "projects/bench/volumes/v"
SERVICES = ("gateway", "datastore", "sampler", "trainer")
_BUNDLE = Path(__file__).parent.parent / "bundles" / "mitochondria_vem_segmentation"
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Stage:
    """A running platform.

    Attributes:
        folder: Of everything; files in it can be imported.
        supervisor: Of the services.
        addresses: Of the services.
        client: The administrator's.
        tokens: API tokens of annotators of the project.
        raw: Voxels of the volume.
    """

    folder: Path
    supervisor: Supervisor
    addresses: Addresses
    client: AsyncClient
    tokens: list[str]
    raw: Any

    @property
    def http(self) -> str:
        """Base address of the HTTP server."""
        return f"http://{self.addresses.http}"

    @property
    def data(self) -> Path:
        """Data folder of the platform."""
        return self.folder / "data"

    def spent(self) -> dict[str, float]:
        """Processor seconds of every service since it began."""
        found = {}
        for name in SERVICES:
            times = psutil.Process(self.supervisor.process_id(name)).cpu_times()
            found[name] = times.user + times.system
        return found

    def kill_gateway(self) -> None:
        """Kill -9."""
        os.kill(self.supervisor.process_id("gateway"), signal.SIGKILL)

    async def load(self, specification: Specification) -> dict[str, Any]:
        """What a load generator, in a process of its own, met with; prints what it cost."""
        path = self.folder / "load.json"
        path.write_text(json.dumps(asdict(specification)))
        before, began = self.spent(), psutil.getloadavg()[0]
        command = [sys.executable, "-m", "benchmarks.gateway_load", str(path)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        if process.returncode:
            raise SystemExit(f"the load generator ended with {process.returncode}")
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        count = max(1, len(found["times_ms"]))
        costs = {name: 1e3 * (now - before[name]) / count for name, now in self.spent().items()}
        print(
            f"load average {began:.1f} before, {psutil.getloadavg()[0]:.1f} after; counts {found['counts']}"
        )
        print(
            "processor time by request: "
            + ", ".join(f"{name} {cost:.2f}" for name, cost in costs.items())
            + f"; load generator {1e3 * found['processor_s'] / count:.2f} ms"
        )
        return found

    @asynccontextmanager
    async def predicting(self) -> AsyncIterator[None]:
        """A prediction of the volume runs inside, another one after it when it ends."""
        job = await self._predicted()
        again = asyncio.create_task(self._keep_predicting(job))
        try:
            yield
        finally:
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
            for each in await self.client.jobs.list(PROJECT):
                if each.kind == "predict" and not each.state.ended:
                    await self.client.jobs.cancel(each.name)

    async def _predicted(self) -> Job:
        """A prediction that has begun with the voxels."""
        made = await self.client.jobs.predict(VOLUME)
        async for job in self.client.jobs.watch(made.name):
            if job.state is JobState.FAILED:
                raise SystemExit(f"the prediction failed: {job.error}")
            if job.state.ended or job.fraction > 0:
                break
        return job

    async def _keep_predicting(self, job: Job) -> None:
        while True:
            async for now in self.client.jobs.watch(job.name):
                job = now
            job = await self._predicted()


@contextmanager
def training() -> Iterator[None]:
    """A training runs inside."""
    process = train()
    try:
        yield
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def stage(folder: Path, people: int, environment: dict[str, str] | None = None) -> AsyncIterator[Stage]:
    """Start a platform in `folder` and fill it."""
    raw = texture(SHAPE)
    tifffile.imwrite(folder / "raw.tif", raw, photometric="minisblack")
    settings = {"BIOSEGMENT_GATEWAY__MONAILABEL_PART": PART, **(environment or {})}
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], environment=settings, say=_say
    )
    began = time.perf_counter()
    addresses = await supervisor.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            await _fill(client, folder)
            tokens = await _invite(client, people)
            print(f"platform with {people} people ready after {time.perf_counter() - began:.0f} s")
            yield Stage(folder, supervisor, addresses, client, tokens, raw)
    finally:
        await supervisor.stop()


def _say(line: str) -> None:
    print(f"  {line.partition(' (log')[0]}")


async def _fill(client: AsyncClient, folder: Path) -> None:
    project = await client.projects.create(
        PROJECT.partition("/")[2], classes=["mitochondria"], working_resolution_nm=10
    )
    job = await client.jobs.import_volume(
        project.name, str(folder / "raw.tif"), voxel_size=VoxelSize(30, 10, 10), volume_id="v"
    )
    await client.jobs.wait(job.name)
    (folder / "raw.tif").unlink()
    await client.samples.configure(project.name, sample_shape=(1, 64, 64), manual_training=True)
    await client.models.import_bundle(project.name, _BUNDLE, display_name="bench")


async def _invite(client: AsyncClient, people: int) -> list[str]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def invite(number: int) -> str:
        async with turns:
            user = f"user{number}"
            await client.platform.create_user(user)
            await client.projects.set_member(PROJECT, user, "annotator")
            return (await client.platform.create_token(user_id=user)).secret

    return list(await asyncio.gather(*map(invite, range(people))))
