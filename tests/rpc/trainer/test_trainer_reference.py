"""Training and predicting on volumes whose voxels only the datastore can reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ngff_zarr
import numpy as np
import pytest
from biosegment_trainer.compute import voxel_stream
from biosegment_trainer.compute.report import Reporter, Stopped
from biosegment_trainer.compute.task import Callback
from biosegment_trainer.compute.voxel_stream import StreamedVoxels
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.service import WorkerReads, WorkerReports
from biosegment_trainer.servicer import WORKER_SERVICE, WorkerServicer

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1.worker_pb2_grpc import add_WorkerServiceServicer_to_server
from biosegment.auth import Kind, Principal, PrincipalSigner, PrincipalVerifier
from biosegment.database import Database, migrate
from biosegment.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unavailable
from biosegment.jobs import JobSignal, JobState, SqlJobs
from biosegment.jobs.job import Job, NewJob
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.server import RpcServer
from biosegment.volume import Index, Region
from tests.rpc.trainer.conftest import SHAPE, image_and_truth


def write(folder: Path, image: Any, version: str) -> None:
    """An image with levels that are not those that an import makes, in chunks that fit none of ours."""
    scale, units = {"z": 0.03, "y": 0.005, "x": 0.005}, dict.fromkeys("zyx", "micrometer")
    picture = ngff_zarr.to_ngff_image(image, ["z", "y", "x"], scale, axes_units=units)
    multiscales = ngff_zarr.to_multiscales(picture, [{"z": 1, "y": 4, "x": 4}], chunks=48)
    ngff_zarr.to_ngff_zarr(str(folder), multiscales, version=version)


async def volume_of(
    datastore: Any, path: Path, volume_id: str, reference: bool, project: str = "projects/em"
) -> Any:
    ada = datastore.as_user("ada")
    spec = job_pb2.ImportVolumeSpec(volume_id=volume_id, uri=str(path), reference=reference)
    job = await ada.finished(await ada.create_job(project, import_volume=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job
    request = datastore_pb2.GetVolumeRequest(name=job.result.volume)
    return (await ada.datastore.GetVolume(request)).volume


@pytest.fixture
async def project(datastore: Any) -> str:
    return str((await datastore.as_user("ada").create_project("em")).name)


@dataclass(frozen=True, slots=True)
class Work:
    """A running job and what its worker reads with."""

    jobs: SqlJobs
    job: Job
    reporter: Reporter
    callback: Callback

    def voxels(self, volume: str, give_up_s: float = 5.0) -> StreamedVoxels:
        return StreamedVoxels(volume, self.callback, self.reporter, give_up_s)


@pytest.fixture
async def work(tmp_path: Path, keys: Path, datastore: Any) -> AsyncIterator[Work]:
    """What of a trainer serves workers, in this process."""
    url = f"sqlite+aiosqlite:///{tmp_path}/work.sqlite"
    await asyncio.to_thread(migrate, url, "biosegment_trainer")
    database = Database.open(url)
    jobs = SqlJobs(database, "trainer", JobSignal())
    await jobs.create(NewJob("em", "train", b"", "", "one"))
    job = await jobs.claim("here", ["train"])
    assert job is not None
    signer = PrincipalSigner("trainer", keys / "trainer.key")
    channel = connect(
        datastore.address, credentials=ServiceCredentials(signer, "datastore"), policy=CallPolicy(attempts=1)
    )
    client = DatastoreClient(channel, datastore.settings.object_store_url)
    server = RpcServer("127.0.0.1:0", PrincipalVerifier.from_folder("trainer", keys))
    servicer = WorkerServicer(WorkerReports(jobs), WorkerReads(jobs, client))
    server.add(add_WorkerServiceServicer_to_server, servicer, WORKER_SERVICE)
    address = await server.start()
    token = signer.sign(Principal(Kind.JOB, job.job_id), "trainer")
    callback = Callback(address, token, job.job_id, job.attempt)
    reporter = await asyncio.to_thread(Reporter(callback).__enter__)
    yield Work(jobs, job, reporter, callback)
    await asyncio.to_thread(reporter.__exit__, None, None, None)
    await server.stop(0)
    await channel.close()
    await database.close()


@pytest.fixture
async def source(datastore: Any, project: str) -> Any:
    """The referenced volume, and its image."""
    folder = datastore.imports / "source.ome.zarr"
    image = image_and_truth()[0]
    write(folder, image, "0.4")
    return await volume_of(datastore, folder, "referred", True), image, folder


def read(voxels: StreamedVoxels, region: Region) -> Any:
    with voxels:
        return voxels.read(region)


@pytest.mark.parametrize("limit", [1, 100, 161, 160 * 161, 1 << 25])
async def test_a_region_is_the_same_in_however_many_calls_it_comes(
    source, work: Work, monkeypatch: pytest.MonkeyPatch, limit: int
):
    monkeypatch.setattr(voxel_stream, "_CALL_VOXELS", limit)
    volume, image, _ = source
    region = Region.of_shape(SHAPE) if limit > 160 else Region(Index(1, 30, 5), Index(3, 34, 12))
    seen = await asyncio.to_thread(read, work.voxels(volume.name), region)
    assert np.array_equal(seen, image[region.slices])


async def test_only_the_running_attempt_reads_and_only_in_its_own_project(datastore, source, work: Work):
    volume, _, _ = source
    region = Region.of_shape((1, 2, 3))
    await datastore.as_user("ada").create_project("other")
    other = f"projects/other/volumes/{volume.name.rpartition('/')[2]}"
    for name, callback, error in (
        (other, work.callback, InvalidArgument),
        ("projects/em/volumes/absent", work.callback, NotFound),
        (volume.name, replace(work.callback, attempt=9), Conflict),
        (volume.name, replace(work.callback, job_id="trainer-other"), PermissionDenied),
    ):
        with pytest.raises(error):
            await asyncio.to_thread(read, StreamedVoxels(name, callback, work.reporter), region)
    await work.jobs.finish(work.job.job_id, work.job.attempt, JobState.FAILED)
    with pytest.raises(Conflict):
        await asyncio.to_thread(read, work.voxels(volume.name), region)


async def test_it_gives_up_after_a_while_and_stops_at_once_when_the_job_is_cancelled(source, work: Work):
    volume, _, folder = source
    folder.rename(folder.with_name("away"))
    region = Region.of_shape((1, 2, 3))
    with pytest.raises(Unavailable) as gone:
        await asyncio.to_thread(read, work.voxels(volume.name, 0.5), region)
    assert gone.value.reason == "SOURCE_GONE"
    waiting = asyncio.create_task(asyncio.to_thread(read, work.voxels(volume.name, 40), region))
    await asyncio.sleep(0)
    await work.jobs.request_cancel(work.job.job_id)
    with pytest.raises(Stopped):
        await asyncio.wait_for(waiting, 30)
