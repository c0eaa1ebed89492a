"""The services behind the gateway, called in the name of the user of a MONAI Label client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import (
    annotation_pb2_grpc,
    datastore_pb2,
    datastore_pb2_grpc,
    volume_pb2,
)
from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.api.trainer.v1alpha1 import segmentation_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from biosegment.auth import Principal
from biosegment.errors import BiosegmentError
from biosegment.rpc.geometry import region_to_proto
from biosegment.rpc.region import RegionAssembler
from biosegment.rpc.stream import CHUNK_BYTES
from biosegment.volume import Region
from biosegment_gateway.upstream import Upstream

_T = TypeVar("_T")
_STREAM_TIMEOUT_S: Final = 600.0


class Services:
    """Stubs, each with `ask`, which says who asks and names a service that is away.

    Args:
        upstreams: `datastore`, `sampler` and `trainer`.
    """

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        datastore, sampler, trainer = (
            upstreams[name].channel for name in ("datastore", "sampler", "trainer")
        )
        self.datastore: Any = datastore_pb2_grpc.DatastoreServiceStub(datastore)
        self.annotations: Any = annotation_pb2_grpc.AnnotationServiceStub(datastore)
        self.sampler: Any = sampler_pb2_grpc.SamplerServiceStub(sampler)
        self.segmentation: Any = segmentation_pb2_grpc.SegmentationServiceStub(trainer)
        self.trainer: Any = trainer_pb2_grpc.TrainerServiceStub(trainer)
        self.jobs: Any = {
            "datastore": job_pb2_grpc.JobServiceStub(datastore),
            "trainer": job_pb2_grpc.JobServiceStub(trainer),
        }

    async def ask(
        self,
        service: str,
        principal: Principal,
        method: Callable[..., Awaitable[_T]],
        request: Any,
        **options: Any,
    ) -> _T:
        """Call a method of a service for a user.

        Args:
            service: `datastore`, `sampler` or `trainer`.
            principal: The user.
            method: Of a stub of that service.
            request: The message.
            options: As of the stub, for example `timeout`.
        """
        upstream = self._upstreams[service]
        try:
            return await method(request, metadata=upstream.metadata(principal), **options)
        except BiosegmentError as error:
            raise upstream.named(error) from error

    async def read(self, principal: Principal, name: str, region: Region) -> NDArray[Any]:
        """Voxels (z, y, x) of level 0 of a volume, or of a layer."""
        upstream = self._upstreams["datastore"]
        request = datastore_pb2.ReadRegionRequest(name=name, region=region_to_proto(region))
        assembler = RegionAssembler(f"{region} of {name}", region.shape)
        method: Any = upstream.channel.unary_stream(
            "/biosegment.api.datastore.v1alpha1.DatastoreService/ReadRegion",
            request_serializer=datastore_pb2.ReadRegionRequest.SerializeToString,
        )
        call: Any = method(request, metadata=upstream.metadata(principal), timeout=_STREAM_TIMEOUT_S)
        try:
            async for message in call:
                assembler.take(message)
        except BiosegmentError as error:
            raise upstream.named(error) from error
        finally:
            call.cancel()
        found: NDArray[np.generic] = assembler.finish()
        return found

    async def send(self, principal: Principal, project: str, path: Path, file_name: str) -> str:
        """Send a file to the datastore; returns the name of the upload."""
        size = (await asyncio.to_thread(path.stat)).st_size
        upload = volume_pb2.Upload(file_name=file_name, size_bytes=size)
        request = datastore_pb2.CreateUploadRequest(parent=project, upload=upload)
        made = await self.ask("datastore", principal, self.datastore.CreateUpload, request)
        name: str = made.upload.name

        async def pieces() -> AsyncIterator[Any]:
            offset = 0
            with path.open("rb") as file:
                while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    crc = google_crc32c.value(data)
                    yield datastore_pb2.WriteUploadRequest(
                        name="" if offset else name, offset=offset, data=data, crc32c=crc
                    )
                    offset += len(data)

        write = self.datastore.WriteUpload
        await self.ask("datastore", principal, write, pieces(), timeout=_STREAM_TIMEOUT_S)
        return name

    async def fetch_model(self, principal: Principal, model: str, path: Path) -> None:
        """Write a model as a zip file of its MONAI bundle."""
        upstream = self._upstreams["trainer"]
        request = trainer_pb2.ExportModelRequest(name=model)
        call = self.trainer.ExportModel(
            request, metadata=upstream.metadata(principal), timeout=_STREAM_TIMEOUT_S
        )
        try:
            with path.open("wb") as file:
                async for piece in call:
                    await asyncio.to_thread(file.write, piece.data)
        except BiosegmentError as error:
            raise upstream.named(error) from error
        finally:
            call.cancel()

    async def until_ended(self, service: str, principal: Principal, job: str) -> job_pb2.Job:
        """Wait for the end of a job; it is returned however it ended."""
        upstream = self._upstreams[service]
        request = job_pb2.WatchJobRequest(name=job)
        call = self.jobs[service].WatchJob(request, metadata=upstream.metadata(principal))
        found = job_pb2.Job(name=job)
        try:
            async for answer in call:
                found = answer.job
        except BiosegmentError as error:
            raise upstream.named(error) from error
        finally:
            call.cancel()
        return found
