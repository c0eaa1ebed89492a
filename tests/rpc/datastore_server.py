"""A real datastore for tests: SQLite or any database URL, objects in a folder, a free port, principals of every kind.

async with running_datastore(tmp_path, keys) as datastore:
    stub = datastore.as_user("ada").datastore
    await stub.CreateProject(...)
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tifffile
from biosegment_datastore.composition import Datastore, build
from biosegment_datastore.settings import DatastoreSettings

from biosegment.api.datastore.v1alpha1 import annotation_pb2, datastore_pb2, project_pb2
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.job.v1alpha1.job_pb2_grpc import JobServiceStub
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region


@dataclass
class Caller:
    """The stubs of one principal."""

    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.datastore: Any = DatastoreServiceStub(self.channel)
        self.annotations: Any = AnnotationServiceStub(self.channel)
        self.jobs: Any = JobServiceStub(self.channel)

    async def create_project(self, project_id: str = "", classes: tuple[str, ...] = ("mitochondria",)) -> Any:
        project = project_pb2.Project(
            display_name=project_id or "a project",
            classes=[project_pb2.LabelClass(display_name=name) for name in classes],
        )
        request = datastore_pb2.CreateProjectRequest(project_id=project_id, project=project)
        return (await self.datastore.CreateProject(request)).project

    async def create_job(self, project: str, request_id: str = "", **spec: Any) -> Any:
        request = job_pb2.CreateJobRequest(
            project=project, spec=job_pb2.JobSpec(**spec), request_id=request_id or str(uuid.uuid4())
        )
        return (await self.jobs.CreateJob(request)).job

    async def finished(self, job: Any, timeout_s: float = 60) -> Any:
        """The job when it has ended."""
        last = job
        async with asyncio.timeout(timeout_s):
            async for answer in self.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
                last = answer.job
        return last

    async def import_volume(self, project: str, path: Path, volume_id: str = "", **options: Any) -> Any:
        """The volume; fails when the job does."""
        options.setdefault("voxel_size", geometry_pb2.VoxelSize(z_nm=30, y_nm=8, x_nm=8))
        spec = job_pb2.ImportVolumeSpec(volume_id=volume_id, uri=str(path), **options)
        job = await self.finished(await self.create_job(project, import_volume=spec))
        assert job.state == job_pb2.Job.STATE_SUCCEEDED, job
        request = datastore_pb2.GetVolumeRequest(name=job.result.volume)
        return (await self.datastore.GetVolume(request)).volume

    async def read(self, name: str, region: Region | None = None, level: int = 0) -> Any:
        """A region as an array."""
        request = datastore_pb2.ReadRegionRequest(name=name, level=level)
        if region is not None:
            request.region.CopyFrom(region_to_proto(region))
        names = {
            1: "uint8",
            2: "int8",
            3: "uint16",
            4: "int16",
            5: "uint32",
            6: "uint64",
            7: "float16",
            8: "float32",
        }
        pieces, header = {}, None
        async for answer in self.datastore.ReadRegion(request):
            header = header or answer.chunk.header
            assert answer.chunk.offset not in pieces
            pieces[answer.chunk.offset] = answer.chunk.data
        assert header is not None
        # In any order, but every byte once: put in order there is no gap.
        data = bytearray()
        for offset in sorted(pieces):
            assert offset == len(data)
            data += pieces[offset]
        shape = (header.shape.z, header.shape.y, header.shape.x)
        return np.frombuffer(bytes(data), names[header.data_type]).reshape(shape)

    async def commit(self, volume: str, region: Region, labels: Any, **options: Any) -> Any:
        """Commit an annotation; `options` are fields of the annotation or of the request."""
        names = set(annotation_pb2.CommitAnnotationRequest.DESCRIPTOR.fields_by_name)
        outer = {key: options.pop(key) for key in list(options) if key in names}
        outer.setdefault("request_id", str(uuid.uuid4()))
        options.setdefault("kind", annotation_pb2.Annotation.KIND_DENSE)
        request = annotation_pb2.CommitAnnotationRequest(
            parent=volume,
            annotation=annotation_pb2.Annotation(region=region_to_proto(region), **options),
            labels=_as_sent(labels).tobytes(),
            **outer,
        )
        return (await self.annotations.CommitAnnotation(request)).annotation


def _as_sent(labels: Any) -> Any:
    """Instance ids as they are, everything else as class values."""
    array = np.asarray(labels)
    return array if array.dtype == np.uint32 else array.astype(np.uint8)


@dataclass
class RunningDatastore:
    """A datastore that answers."""

    address: str
    keys: Path
    settings: DatastoreSettings
    parts: Datastore
    imports: Path
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    def as_user(self, user: str, is_admin: bool = False) -> Caller:
        return self.caller("gateway", Principal(Kind.USER, user, is_admin))

    def as_service(self, service: str) -> Caller:
        return self.caller(service, Principal(Kind.SERVICE, service))

    def caller(self, issuer: str, principal: Principal) -> Caller:
        credentials = ServiceCredentials(self.signer(issuer), "datastore")
        return self.with_token(lambda: credentials.token(principal))

    def with_token(self, token: Any) -> Caller:
        channel = connect(self.address, credentials=token, policy=CallPolicy(attempts=1))
        self._channels.append(channel)
        return Caller(channel)

    def signer(self, issuer: str) -> PrincipalSigner:
        return PrincipalSigner(issuer, self.keys / f"{issuer}.key")

    def write_tiff(self, name: str, array: Any, **options: Any) -> Path:
        """A TIFF stack below the import root."""
        path = self.imports / name
        tifffile.imwrite(path, array, photometric="minisblack", **options)
        return path

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


def datastore_settings(folder: Path, keys: Path, **values: Any) -> DatastoreSettings:
    """Settings of a datastore whose data is in `folder`; `values` replace them."""
    imports, scratch = folder / "imports", folder / "scratch"
    for each in (imports, scratch):
        each.mkdir(parents=True, exist_ok=True)
    given = {
        "object_store_url": f"file://{folder / 'objects'}",
        "database_url": f"sqlite+aiosqlite:///{folder / 'datastore.sqlite'}",
        "signing_key_file": keys / "datastore.key",
        "public_keys_dir": keys,
        "import_roots": str(imports),
        "scratch_dir": scratch,
        # When garbage is collected is for a test to say.
        "collect_every_s": 3600,
    }
    return DatastoreSettings.model_validate({**given, **values})


@asynccontextmanager
async def running_datastore(folder: Path, keys: Path, **values: Any) -> AsyncIterator[RunningDatastore]:
    """Start a datastore in this process; its background work runs too."""
    settings = datastore_settings(folder, keys, **values)
    parts = await build(settings)
    address = await parts.server.start()
    tasks = [asyncio.create_task(work) for work in parts.background()]
    running = RunningDatastore(address, keys, settings, parts, folder / "imports")
    try:
        # The round of a start knows nothing of what a test is about to reserve.
        async with asyncio.timeout(60):
            while not parts.collector.rounds:
                await asyncio.sleep(0.005)
        yield running
    finally:
        await running.close()
        await parts.server.stop(1)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await parts.close()
        for result in results:
            if isinstance(result, Exception):
                raise result
