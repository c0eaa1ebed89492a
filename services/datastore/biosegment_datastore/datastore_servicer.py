"""DatastoreService over gRPC: messages in, use case, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import google_crc32c

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2_grpc, volume_pb2
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import region_from_proto
from biosegment_datastore.convert import (
    artifact_file_from_proto,
    artifact_to_proto,
    layer_kind_from_proto,
    layer_request_from_proto,
    layer_to_proto,
    masked,
    member_to_proto,
    project_from_proto,
    project_to_proto,
    role_from_proto,
    upload_to_proto,
    volume_to_proto,
    volume_update,
)
from biosegment_datastore.garbage_service import GarbageService
from biosegment_datastore.layer_service import LayerService
from biosegment_datastore.project import ProjectField
from biosegment_datastore.project_service import ProjectService
from biosegment_datastore.stream import receive_region, send_region, upload_pieces
from biosegment_datastore.transfer_service import TransferService
from biosegment_datastore.volume import VolumeField
from biosegment_datastore.volume_service import VolumeService

DATASTORE_SERVICE: Final = "biosegment.api.datastore.v1alpha1.DatastoreService"
_PROJECT, _MEMBER, _VOLUME = "projects/*", "projects/*/members/*", "projects/*/volumes/*"
_LAYER = "projects/*/volumes/*/layers/*"
_UPLOAD, _ARTIFACT = "projects/*/uploads/*", "projects/*/artifacts/*"


class DatastoreServicer(datastore_pb2_grpc.DatastoreServiceServicer):
    """Serves projects, volumes, layers, uploads and artifacts.

    Args:
        projects: Use cases.
        volumes: Use cases.
        layers: Use cases.
        transfers: Use cases.
        garbage: Use cases.
        store_url: Where readers with access to the object storage find the arrays.
    """

    def __init__(
        self,
        projects: ProjectService,
        volumes: VolumeService,
        layers: LayerService,
        transfers: TransferService,
        garbage: GarbageService,
        store_url: str,
    ) -> None:
        self._projects = projects
        self._volumes = volumes
        self._layers = layers
        self._transfers = transfers
        self._garbage = garbage
        self._store_url = store_url

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Any) -> pb.CreateProjectResponse:
        project = await self._projects.create(
            current_principal(), request.project_id, project_from_proto(request.project), request.request_id
        )
        return pb.CreateProjectResponse(project=project_to_proto(project))

    async def GetProject(self, request: pb.GetProjectRequest, context: Any) -> pb.GetProjectResponse:
        project = await self._projects.get(current_principal(), *parse_name(request.name, _PROJECT))
        return pb.GetProjectResponse(project=project_to_proto(project))

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Any) -> pb.ListProjectsResponse:
        page = await self._projects.list(current_principal(), request.page_size, request.page_token)
        items = [project_to_proto(item) for item in page.items]
        return pb.ListProjectsResponse(projects=items, next_page_token=page.next_token)

    async def UpdateProject(self, request: pb.UpdateProjectRequest, context: Any) -> pb.UpdateProjectResponse:
        (project_id,) = parse_name(request.project.name, _PROJECT)
        project = await self._projects.update(
            current_principal(),
            project_id,
            project_from_proto(request.project),
            masked(request.update_mask, ProjectField),
            request.project.etag,
        )
        return pb.UpdateProjectResponse(project=project_to_proto(project))

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Any) -> pb.DeleteProjectResponse:
        (project_id,) = parse_name(request.name, _PROJECT)
        await self._projects.delete(current_principal(), project_id, request.force)
        return pb.DeleteProjectResponse()

    async def ListMembers(self, request: pb.ListMembersRequest, context: Any) -> pb.ListMembersResponse:
        members = await self._projects.members(current_principal(), *parse_name(request.parent, _PROJECT))
        return pb.ListMembersResponse(members=[member_to_proto(member) for member in members])

    async def SetMember(self, request: pb.SetMemberRequest, context: Any) -> pb.SetMemberResponse:
        project_id, user = parse_name(request.member.name, _MEMBER)
        role = role_from_proto(request.member.role)
        member = await self._projects.set_member(current_principal(), project_id, user, role)
        return pb.SetMemberResponse(member=member_to_proto(member))

    async def RemoveMember(self, request: pb.RemoveMemberRequest, context: Any) -> pb.RemoveMemberResponse:
        project_id, user = parse_name(request.name, _MEMBER)
        await self._projects.remove_member(current_principal(), project_id, user)
        return pb.RemoveMemberResponse()

    async def GetMember(self, request: pb.GetMemberRequest, context: Any) -> pb.GetMemberResponse:
        project_id, user = parse_name(request.name, _MEMBER)
        member = await self._projects.member(current_principal(), project_id, user)
        return pb.GetMemberResponse(member=member_to_proto(member))

    async def GetVolume(self, request: pb.GetVolumeRequest, context: Any) -> pb.GetVolumeResponse:
        project_id, volume_id = parse_name(request.name, _VOLUME)
        volume = await self._volumes.get(current_principal(), project_id, volume_id)
        return pb.GetVolumeResponse(volume=volume_to_proto(volume, self._store_url))

    async def ListVolumes(self, request: pb.ListVolumesRequest, context: Any) -> pb.ListVolumesResponse:
        (project_id,) = parse_name(request.parent, _PROJECT)
        page = await self._volumes.list(
            current_principal(), project_id, request.page_size, request.page_token
        )
        items = [volume_to_proto(item, self._store_url) for item in page.items]
        return pb.ListVolumesResponse(volumes=items, next_page_token=page.next_token)

    async def UpdateVolume(self, request: pb.UpdateVolumeRequest, context: Any) -> pb.UpdateVolumeResponse:
        project_id, volume_id = parse_name(request.volume.name, _VOLUME)
        fields = masked(request.update_mask, VolumeField)
        wanted = volume_update(request.volume, fields)
        volume = await self._volumes.update(
            current_principal(), project_id, volume_id, wanted, fields, request.volume.etag
        )
        return pb.UpdateVolumeResponse(volume=volume_to_proto(volume, self._store_url))

    async def DeleteVolume(self, request: pb.DeleteVolumeRequest, context: Any) -> pb.DeleteVolumeResponse:
        project_id, volume_id = parse_name(request.name, _VOLUME)
        await self._volumes.delete(current_principal(), project_id, volume_id, request.force)
        return pb.DeleteVolumeResponse()

    async def GetSliceStatistics(
        self, request: pb.GetSliceStatisticsRequest, context: Any
    ) -> pb.GetSliceStatisticsResponse:
        project_id, volume_id = parse_name(request.name, _VOLUME)
        found = await self._volumes.statistics(current_principal(), project_id, volume_id)
        statistics = volume_pb2.SliceStatistics(mean=found.mean, std=found.std)
        return pb.GetSliceStatisticsResponse(statistics=statistics)

    async def CreateLayer(self, request: pb.CreateLayerRequest, context: Any) -> pb.CreateLayerResponse:
        project_id, volume_id = parse_name(request.parent, _VOLUME)
        layer = await self._layers.create(
            current_principal(),
            project_id,
            volume_id,
            request.layer_id,
            layer_request_from_proto(request.layer),
            request.request_id,
        )
        return pb.CreateLayerResponse(layer=layer_to_proto(layer, self._store_url))

    async def RestartLayer(self, request: pb.RestartLayerRequest, context: Any) -> pb.RestartLayerResponse:
        layer = await self._layers.restart(current_principal(), *_layer_ids(request.name))
        return pb.RestartLayerResponse(layer=layer_to_proto(layer, self._store_url))

    async def GetLayer(self, request: pb.GetLayerRequest, context: Any) -> pb.GetLayerResponse:
        layer = await self._layers.get(current_principal(), *_layer_ids(request.name))
        return pb.GetLayerResponse(layer=layer_to_proto(layer, self._store_url))

    async def ListLayers(self, request: pb.ListLayersRequest, context: Any) -> pb.ListLayersResponse:
        project_id, volume_id = parse_name(request.parent, _VOLUME)
        page = await self._layers.list(
            current_principal(),
            project_id,
            volume_id,
            frozenset(layer_kind_from_proto(kind) for kind in request.kinds),
            request.model,
            request.page_size,
            request.page_token,
        )
        items = [layer_to_proto(item, self._store_url) for item in page.items]
        return pb.ListLayersResponse(layers=items, next_page_token=page.next_token)

    async def WriteRegion(
        self, requests: AsyncIterator[pb.WriteRegionRequest], context: Any
    ) -> pb.WriteRegionResponse:
        await receive_region(self._layers, current_principal(), requests)
        return pb.WriteRegionResponse()

    async def CommitLayer(self, request: pb.CommitLayerRequest, context: Any) -> pb.CommitLayerResponse:
        layer = await self._layers.commit(current_principal(), *_layer_ids(request.name), request.attempt)
        return pb.CommitLayerResponse(layer=layer_to_proto(layer, self._store_url))

    async def DeleteLayer(self, request: pb.DeleteLayerRequest, context: Any) -> pb.DeleteLayerResponse:
        await self._layers.delete(current_principal(), *_layer_ids(request.name), request.force)
        return pb.DeleteLayerResponse()

    async def ReadRegion(self, request: pb.ReadRegionRequest, context: Any) -> AsyncIterator[Any]:
        region = region_from_proto(request.region) if request.HasField("region") else None
        principal = current_principal()
        if request.name.count("/") > 3:
            read = await self._layers.read(
                principal,
                *_layer_ids(request.name),
                request.level,
                region,
                request.with_edits,
                request.as_of.ToMicroseconds() if request.HasField("as_of") else None,
            )
        else:
            if request.with_edits:
                raise InvalidArgument(
                    "NOT_INSTANCES", f"{request.name} is a volume; only layers of instances have edits"
                )
            if request.HasField("as_of"):
                raise InvalidArgument(
                    "BAD_AS_OF", f"{request.name} is a volume, which stays as it is; leave `as_of` unset"
                )
            project_id, volume_id = parse_name(request.name, _VOLUME)
            read = await self._volumes.read(principal, project_id, volume_id, request.level, region)
        async for response in send_region(read):
            yield response

    async def CreateUpload(self, request: pb.CreateUploadRequest, context: Any) -> pb.CreateUploadResponse:
        (project_id,) = parse_name(request.parent, _PROJECT)
        upload = await self._transfers.create_upload(
            current_principal(),
            project_id,
            request.upload.file_name,
            request.upload.size_bytes,
            request.request_id,
        )
        return pb.CreateUploadResponse(upload=upload_to_proto(upload))

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
        project_id, upload_id = parse_name(request.name, _UPLOAD)
        upload = await self._transfers.upload(current_principal(), project_id, upload_id)
        return pb.GetUploadResponse(upload=upload_to_proto(upload))

    async def WriteUpload(
        self, requests: AsyncIterator[pb.WriteUploadRequest], context: Any
    ) -> pb.WriteUploadResponse:
        name, pieces = await upload_pieces(requests)
        project_id, upload_id = parse_name(name, _UPLOAD)
        upload = await self._transfers.write_upload(current_principal(), project_id, upload_id, pieces)
        return pb.WriteUploadResponse(upload=upload_to_proto(upload))

    async def DeleteUpload(self, request: pb.DeleteUploadRequest, context: Any) -> pb.DeleteUploadResponse:
        project_id, upload_id = parse_name(request.name, _UPLOAD)
        await self._transfers.delete_upload(current_principal(), project_id, upload_id)
        return pb.DeleteUploadResponse()

    async def CreateArtifact(
        self, request: pb.CreateArtifactRequest, context: Any
    ) -> pb.CreateArtifactResponse:
        (project_id,) = parse_name(request.parent, _PROJECT)
        key = await self._transfers.create_artifact(
            current_principal(), project_id, request.artifact_id, request.attempt
        )
        return pb.CreateArtifactResponse(
            name=f"{request.parent}/artifacts/{request.artifact_id}", uri=f"{self._store_url}/{key}"
        )

    async def CommitArtifacts(
        self, request: pb.CommitArtifactsRequest, context: Any
    ) -> pb.CommitArtifactsResponse:
        (project_id,) = parse_name(request.parent, _PROJECT)
        files = [artifact_file_from_proto(artifact) for artifact in request.artifacts]
        stored = await self._transfers.commit_artifacts(
            current_principal(), project_id, files, request.attempt
        )
        return pb.CommitArtifactsResponse(artifacts=[artifact_to_proto(each) for each in stored])

    async def GetArtifact(self, request: pb.GetArtifactRequest, context: Any) -> pb.GetArtifactResponse:
        project_id, artifact_id = parse_name(request.name, _ARTIFACT)
        artifact = await self._transfers.artifact(current_principal(), project_id, artifact_id)
        return pb.GetArtifactResponse(artifact=artifact_to_proto(artifact))

    async def ReadArtifact(
        self, request: pb.ReadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        project_id, artifact_id = parse_name(request.name, _ARTIFACT)
        pieces = self._transfers.read_artifact(current_principal(), project_id, artifact_id, request.offset)
        async for offset, data in pieces:
            yield pb.ReadArtifactResponse(offset=offset, data=data, crc32c=google_crc32c.value(data))

    async def CollectGarbage(
        self, request: pb.CollectGarbageRequest, context: Any
    ) -> pb.CollectGarbageResponse:
        found = await self._garbage.collect(current_principal(), request.dry_run)
        return pb.CollectGarbageResponse(
            objects=found.objects, size_bytes=found.size_bytes, prefixes=found.prefixes
        )


def _layer_ids(name: str) -> tuple[str, str, str]:
    project_id, volume_id, layer_id = parse_name(name, _LAYER)
    return project_id, volume_id, layer_id
