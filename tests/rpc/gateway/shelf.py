"""A small datastore, sampler and trainer behind the gateway: projects with members, volumes and layers, models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2_grpc, project_pb2, volume_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2, trainer_pb2_grpc
from biosegment.errors import NotFound, PermissionDenied
from biosegment.rpc import current_principal


class ShelfDatastore(datastore_pb2_grpc.DatastoreServiceServicer):
    def __init__(self) -> None:
        self.projects: dict[str, project_pb2.Project] = {}
        self.members: dict[str, set[str]] = {}
        self.volumes: dict[str, volume_pb2.Volume] = {}
        self.layers: dict[str, volume_pb2.Layer] = {}

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Any) -> pb.ListProjectsResponse:
        found = [project for name, project in sorted(self.projects.items()) if self._sees(name)]
        return pb.ListProjectsResponse(projects=found)

    async def ListVolumes(self, request: pb.ListVolumesRequest, context: Any) -> pb.ListVolumesResponse:
        self._require(request.parent)
        prefix = f"{request.parent}/"
        return pb.ListVolumesResponse(
            volumes=[volume for name, volume in sorted(self.volumes.items()) if name.startswith(prefix)]
        )

    async def GetVolume(self, request: pb.GetVolumeRequest, context: Any) -> pb.GetVolumeResponse:
        self._require(request.name)
        if request.name not in self.volumes:
            raise NotFound("VOLUME_NOT_FOUND", f"there is no volume {request.name!r}")
        return pb.GetVolumeResponse(volume=self.volumes[request.name])

    async def GetLayer(self, request: pb.GetLayerRequest, context: Any) -> pb.GetLayerResponse:
        self._require(request.name)
        if request.name not in self.layers:
            raise NotFound("LAYER_NOT_FOUND", f"there is no layer {request.name!r}")
        return pb.GetLayerResponse(layer=self.layers[request.name])

    async def ListLayers(self, request: pb.ListLayersRequest, context: Any) -> pb.ListLayersResponse:
        self._require(request.parent)
        prefix = f"{request.parent}/"
        return pb.ListLayersResponse(
            layers=[layer for name, layer in sorted(self.layers.items()) if name.startswith(prefix)]
        )

    async def GetProject(self, request: pb.GetProjectRequest, context: Any) -> pb.GetProjectResponse:
        self._require(request.name)
        return pb.GetProjectResponse(project=self.projects[request.name])

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Any) -> pb.DeleteProjectResponse:
        raise PermissionDenied("NOT_ALLOWED", "nobody deletes projects here")

    def _sees(self, name: str) -> bool:
        project = "/".join(name.split("/")[:2])
        principal = current_principal()
        return principal.is_admin or principal.user in self.members.get(project, ())

    def _require(self, name: str) -> None:
        if not self._sees(name):
            raise NotFound("PROJECT_NOT_FOUND", f"there is no project of {name!r}, or you are no member")


class ShelfTrainer(trainer_pb2_grpc.TrainerServiceServicer):
    def __init__(self) -> None:
        self.models: list[trainer_pb2.Model] = []

    async def ListModels(
        self, request: trainer_pb2.ListModelsRequest, context: Any
    ) -> trainer_pb2.ListModelsResponse:
        return trainer_pb2.ListModelsResponse(
            models=[model for model in self.models if model.project == request.project]
        )


class ShelfSampler:
    """Its samples change when somebody calls `change`; `watching` says how many look on. It has no other method."""

    def __init__(self) -> None:
        self.watching = 0
        self.samples: list[str] = []
        self.moved = asyncio.Condition()

    async def change(self, sample: str) -> None:
        async with self.moved:
            self.samples.append(sample)
            self.moved.notify_all()

    async def until_watched(self, number: int) -> None:
        async with asyncio.timeout(10), self.moved:
            await self.moved.wait_for(lambda: self.watching == number)

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """For `RpcServer.add_generic`."""
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch,
            request_deserializer=sampler_pb2.WatchSamplesRequest.FromString,
            response_serializer=sampler_pb2.WatchSamplesResponse.SerializeToString,
        )
        service = "biosegment.api.sampler.v1alpha1.SamplerService"
        return grpc.method_handlers_generic_handler(service, {"WatchSamples": watch})

    async def _watch(
        self, request: sampler_pb2.WatchSamplesRequest, context: Any
    ) -> AsyncIterator[sampler_pb2.WatchSamplesResponse]:
        if request.parent != "projects/p":
            raise NotFound(
                "PROJECT_NOT_FOUND", f"there is no project {request.parent!r}, or you are no member"
            )
        await self._come(1)
        try:
            seen = int(request.resume_token or 0)
            if not self.samples[seen:]:
                yield sampler_pb2.WatchSamplesResponse(resume_token=str(seen))
            while True:
                for name in self.samples[seen:]:
                    seen += 1
                    sample = sampler_pb2.Sample(name=f"{request.parent}/samples/{name}")
                    yield sampler_pb2.WatchSamplesResponse(sample=sample, resume_token=str(seen))
                async with self.moved:
                    while len(self.samples) == seen:
                        await self.moved.wait()
        finally:
            await asyncio.shield(self._come(-1))

    async def _come(self, step: int) -> None:
        async with self.moved:
            self.watching += step
            self.moved.notify_all()
