"""A small datastore and trainer behind the gateway: projects with members, volumes and layers, models."""

from __future__ import annotations

from typing import Any

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2_grpc, project_pb2, volume_pb2
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
