from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator
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
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.errors import Unavailable
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.volume import Region
from tests.rpc.datastore_server import RunningDatastore, running_datastore

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
    """The trainer as one principal sees it."""

    channel: Any

    def __post_init__(self) -> None:
        self.jobs: Any = job_pb2_grpc.JobServiceStub(self.channel)
        self.models: Any = trainer_pb2_grpc.TrainerServiceStub(self.channel)
        self.segmentation: Any = segmentation_pb2_grpc.SegmentationServiceStub(self.channel)
        self.worker: Any = worker_pb2_grpc.WorkerServiceStub(self.channel)

    async def create_job(self, request_id: str = "", project: str = "projects/em", **spec: Any) -> Any:
        request = job_pb2.CreateJobRequest(
            project=project, spec=job_pb2.JobSpec(**spec), request_id=request_id or str(uuid.uuid4())
        )
        return (await self.jobs.CreateJob(request)).job

    async def job(self, name: str) -> Any:
        return (await self.jobs.GetJob(job_pb2.GetJobRequest(name=name))).job

    async def model(self, name: str) -> Any:
        return (await self.models.GetModel(trainer_pb2.GetModelRequest(name=name))).model

    async def log(self, name: str) -> str:
        answer = await self.jobs.ListJobLogs(job_pb2.ListJobLogsRequest(name=name))
        return "\n".join(line.text for line in answer.lines)

    async def finished(self, job: Any, timeout_s: float = 100) -> Any:
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

    async def succeeded(self, job: Any, timeout_s: float = 100) -> Any:
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
        async with asyncio.timeout(30):
            while True:
                assert self.process.returncode is None, (self.folder / "trainer.log").read_text()[-2000:]
                try:
                    await self.as_user("ada").models.ListMeasures(trainer_pb2.ListMeasuresRequest())
                    return
                except Unavailable:
                    await asyncio.sleep(0.1)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(40):
            return await self.process.wait()

    def stubs(self, issuer: str, principal: Principal) -> Stubs:
        signer = PrincipalSigner(issuer, self.keys / f"{issuer}.key")
        credentials = ServiceCredentials(signer, "trainer")
        channel = connect(
            self.address, credentials=lambda: credentials.token(principal), policy=CallPolicy(attempts=1)
        )
        self.channels = [*(self.channels or []), channel]
        return Stubs(channel)

    def as_user(self, user: str) -> Stubs:
        return self.stubs("gateway", Principal(Kind.USER, user))

    def as_service(self, service: str) -> Stubs:
        return self.stubs(service, Principal(Kind.SERVICE, service))

    async def close(self) -> None:
        for channel in self.channels or []:
            await channel.close()


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
async def datastore(tmp_path: Path, keys: Path) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path, keys) as running:
        yield running


@pytest.fixture
async def em(datastore: RunningDatastore) -> Any:
    """Project `em` of ada with the volume `discs` of 10 nm pixels."""
    from biosegment.api.volume.v1alpha1 import geometry_pb2

    ada = datastore.as_user("ada")
    project = await ada.create_project("em")
    image, _ = image_and_truth()
    size = geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10)
    path = datastore.write_tiff("discs.tif", image)
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
    running = TrainerProcess(tmp_path, keys, datastore, free_address())
    await running.start()
    yield running
    await running.close()
    await running.stop()
