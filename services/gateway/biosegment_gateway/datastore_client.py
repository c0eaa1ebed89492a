"""The datastore, asked in the name of users for the page and for OME-Zarr."""

from __future__ import annotations

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2_grpc, volume_pb2
from biosegment.auth import Principal
from biosegment.errors import BiosegmentError, FailedPrecondition, NotFound
from biosegment_gateway.upstream import Upstream
from biosegment_gateway.zarr import Location


class DatastoreClient:
    """Reads projects, volumes and layers; implements `Locations`.

    Args:
        upstream: The datastore.
        object_store_url: Of the gateway's own object storage, where the volumes should lie.
    """

    def __init__(self, upstream: Upstream, object_store_url: str) -> None:
        self._upstream = upstream
        self._stub = datastore_pb2_grpc.DatastoreServiceStub(upstream.channel)
        self._root = object_store_url.rstrip("/") + "/"

    async def list_projects(
        self, principal: Principal, page_size: int, page_token: str
    ) -> pb.ListProjectsResponse:
        """A page of the user's projects."""
        request = pb.ListProjectsRequest(page_size=page_size, page_token=page_token)
        try:
            return await self._stub.ListProjects(request, metadata=self._upstream.metadata(principal))
        except BiosegmentError as error:
            raise self._upstream.named(error) from error

    async def list_volumes(
        self, principal: Principal, project: str, page_size: int, page_token: str
    ) -> pb.ListVolumesResponse:
        """A page of a project's volumes."""
        request = pb.ListVolumesRequest(parent=project, page_size=page_size, page_token=page_token)
        try:
            return await self._stub.ListVolumes(request, metadata=self._upstream.metadata(principal))
        except BiosegmentError as error:
            raise self._upstream.named(error) from error

    async def locate(self, principal: Principal, name: str) -> Location:
        """Say where a volume or layer lies; see `Locations`."""
        metadata = self._upstream.metadata(principal)
        try:
            if "/layers/" in name:
                layer = (await self._stub.GetLayer(pb.GetLayerRequest(name=name), metadata=metadata)).layer
                return self._layer(layer)
            volume = (await self._stub.GetVolume(pb.GetVolumeRequest(name=name), metadata=metadata)).volume
        except BiosegmentError as error:
            raise self._upstream.named(error) from error
        version = f"{volume.create_time.ToNanoseconds()} {volume.update_time.ToNanoseconds()}"
        return Location(self._prefix(volume.uri, name), version, True)

    def _layer(self, layer: volume_pb2.Layer) -> Location:
        is_projection = layer.kind == volume_pb2.Layer.KIND_ANNOTATIONS
        if layer.state != volume_pb2.Layer.STATE_COMMITTED and not is_projection:
            raise NotFound("LAYER_NOT_FOUND", f"{layer.name} is still being written")
        version = f"{layer.commit_time.ToNanoseconds()} {layer.attempt} {layer.projected_sequence}"
        return Location(self._prefix(layer.uri, layer.name), version, not is_projection)

    def _prefix(self, uri: str, name: str) -> str:
        if not uri.startswith(self._root):
            raise FailedPrecondition(
                "NOT_IN_OBJECT_STORE",
                f"{name} refers to data outside of the platform's object storage, which the gateway cannot read",
            )
        return uri.removeprefix(self._root).rstrip("/")
