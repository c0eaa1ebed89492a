from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.api.trainer.v1alpha1 import (
    segmentation_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
    worker_pb2_grpc,
)
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.errors import Unavailable
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.volume import Region
from tests.rpc.datastore_server import RunningDatastore, running_datastore
from tests.servers.port import free_port

SHAPE = (4, 160, 160)


def image_and_truth() -> tuple[Any, Any]:
    """A small volume with bright discs on a dark, noisy ground: uint8 image, and 1 or 2 per voxel."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    truth = np.ones(SHAPE, np.uint8)
    for z in range(SHAPE[0]):
        for cy, cx in ((40, 40), (110, 60), (70, 120)):
            truth[z][(y - cy - z) ** 2 + (x - cx) ** 2 < 18**2] = 2
    image = np.where(truth == 2, 170, 90) + rng.normal(0, 20, SHAPE)
    return image.clip(0, 255).astype(np.uint8), truth


@dataclass
class Stubs:
    """The trainer as one principal sees it, at work in one project."""

    channel: Any
    project: str = "projects/em"

    def __post_init__(self) -> None:
        self.jobs: Any = job_pb2_grpc.JobServiceStub(self.channel)
        self.models: Any = trainer_pb2_grpc.TrainerServiceStub(self.channel)
        self.segmentation: Any = segmentation_pb2_grpc.SegmentationServiceStub(self.channel)
        self.worker: Any = worker_pb2_grpc.WorkerServiceStub(self.channel)

    async def create_job(self, **spec: Any) -> Any:
        request = job_pb2.CreateJobRequest(
            project=self.project, spec=job_pb2.JobSpec(**spec), request_id=str(uuid.uuid4())
        )
        return (await self.jobs.CreateJob(request)).job

    async def listed_jobs(self) -> list[Any]:
        """All jobs of the project."""
        return list((await self.jobs.ListJobs(job_pb2.ListJobsRequest(project=self.project))).jobs)

    async def listed_models(self) -> list[Any]:
        """All models of the project."""
        request = trainer_pb2.ListModelsRequest(project=self.project)
        return list((await self.models.ListModels(request)).models)

    async def job(self, name: str) -> Any:
        return (await self.jobs.GetJob(job_pb2.GetJobRequest(name=name))).job

    async def model(self, name: str) -> Any:
        return (await self.models.GetModel(trainer_pb2.GetModelRequest(name=name))).model

    async def log(self, name: str) -> str:
        answer = await self.jobs.ListJobLogs(job_pb2.ListJobLogsRequest(name=name))
        return "\n".join(line.text for line in answer.lines)

    async def finished(self, job: Any, timeout_s: float = 200) -> Any:
        """The job when it has ended, whatever restarts in between."""
        last = job
        async with asyncio.timeout(timeout_s):
            while last.state in (job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING):
                try:
                    request = job_pb2.WatchJobRequest(name=job.name, after_revision=last.revision)
                    async for answer in self.jobs.WatchJob(request):
                        last = answer.job
                except Unavailable:
                    await asyncio.sleep(0.2)
        return last

    async def succeeded(self, job: Any, timeout_s: float = 200) -> Any:
        last = await self.finished(job, timeout_s)
        assert last.state == job_pb2.Job.STATE_SUCCEEDED, (last, await self.log(job.name))
        return last


@dataclass
class TrainerProcess:
    """A trainer in a process of its own, with a Ray of its own."""

    folder: Path
    keys: Path
    datastore: RunningDatastore
    address: str
    process: asyncio.subprocess.Process | None = None
    channels: Any = None

    async def start(self, **environment: str) -> None:
        prefix = "BIOSEGMENT_TRAINER__"
        own = {
            "LISTEN": self.address,
            "DATABASE_URL": f"sqlite+aiosqlite:///{self.folder}/trainer.sqlite",
            "OBJECT_STORE_URL": f"file://{self.folder / 'objects'}",
            "SIGNING_KEY_FILE": str(self.keys / "trainer.key"),
            "PUBLIC_KEYS_DIR": str(self.keys),
            "DATASTORE_ADDRESS": self.datastore.address,
            "RAY_CPUS": "1",
            "SHIPPED_BUNDLES_DIR": "",
        }
        with (self.folder / "trainer.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "biosegment_trainer",
                stdout=log,
                stderr=log,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("BIOSEGMENT_")},
                    "MALLOC_TOP_PAD_": "67108864",
                    **{prefix + k: v for k, v in own.items()},
                    **environment,
                },
            )
        ada = self.as_user("ada")
        async with asyncio.timeout(90):
            while True:
                assert self.process.returncode is None, (self.folder / "trainer.log").read_text()[-2000:]
                try:
                    await ada.models.ListMeasures(trainer_pb2.ListMeasuresRequest())
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
            # Those of before, which try nothing twice, have seen that it was away.
            for channel in self.channels:
                await channel.channel_ready()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(40):
            return await self.process.wait()

    def stubs(self, issuer: str, principal: Principal, project: str = "projects/em") -> Stubs:
        signer = PrincipalSigner(issuer, self.keys / f"{issuer}.key")
        credentials = ServiceCredentials(signer, "trainer")
        channel = connect(
            self.address, credentials=lambda: credentials.token(principal), policy=CallPolicy(attempts=1)
        )
        self.channels = [*(self.channels or []), channel]
        return Stubs(channel, project)

    def as_user(self, user: str, project: str = "projects/em") -> Stubs:
        return self.stubs("gateway", Principal(Kind.USER, user), project)

    def as_service(self, service: str, project: str = "projects/em") -> Stubs:
        return self.stubs(service, Principal(Kind.SERVICE, service), project)

    async def close(self) -> None:
        for channel in self.channels or []:
            await channel.close()


@asynccontextmanager
async def running_trainer(
    folder: Path, keys: Path, datastore: RunningDatastore, *, start: bool = True
) -> AsyncIterator[TrainerProcess]:
    """Start one, unless the caller does; it is stopped also when it does not come up in time."""
    running = TrainerProcess(folder, keys, datastore, free_address())
    try:
        if start:
            await running.start()
        yield running
    finally:
        await running.close()
        await running.stop()


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
async def datastore(tmp_path: Path, keys: Path) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path, keys) as running:
        yield running


@pytest.fixture
async def em(datastore: RunningDatastore) -> Any:
    return await import_discs(datastore, "em")


async def import_discs(datastore: RunningDatastore, project_id: str) -> Any:
    """Volume `discs` of 10 nm pixels in a new project of ada."""
    ada = datastore.as_user("ada")
    project = await ada.create_project(project_id)
    image, _ = image_and_truth()
    size = geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10)
    path = datastore.write_tiff(f"{project_id}.tif", image)
    return await ada.import_volume(project.name, path, "discs", voxel_size=size)


async def annotate(datastore: RunningDatastore, volume: Any, slices: tuple[int, ...] = (0, 2)) -> list[str]:
    """Dense annotations of whole slices, from the truth."""
    ada = datastore.as_user("ada")
    _, truth = image_and_truth()
    names = []
    for z in slices:
        region = Region((z, 0, 0), (z + 1, *SHAPE[1:]))
        names.append((await ada.commit(volume.name, region, truth[z : z + 1])).name)
    return names


@pytest.fixture
async def trainer(tmp_path: Path, keys: Path, datastore: RunningDatastore) -> AsyncIterator[TrainerProcess]:
    async with running_trainer(tmp_path, keys, datastore) as running:
        yield running


@pytest.fixture
async def stopped_trainer(
    tmp_path: Path, keys: Path, datastore: RunningDatastore
) -> AsyncIterator[TrainerProcess]:
    """For a test that starts it with settings of its own: a start takes seconds."""
    async with running_trainer(tmp_path, keys, datastore, start=False) as running:
        yield running
