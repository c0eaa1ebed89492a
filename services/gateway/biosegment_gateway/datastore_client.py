"""The datastore, asked in the name of users for the page and for OME-Zarr."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2_grpc, volume_pb2
from biosegment.auth import Principal
from biosegment.errors import BiosegmentError, FailedPrecondition, NotFound
from biosegment.rpc.geometry import (
    data_type_from_proto,
    index_from_proto,
    region_to_proto,
    voxel_size_from_proto,
)
from biosegment.rpc.region import RegionAssembler
from biosegment.storage.multiscale import Level
from biosegment.volume import Region
from biosegment_gateway.referenced import ReferencedImage
from biosegment_gateway.upstream import Upstream
from biosegment_gateway.zarr import Location

_READ_TIMEOUT_S: Final = 60.0


class DatastoreClient:
    """Reads projects, volumes and layers; implements `Locations` and `Regions`.

    Args:
        upstream: The datastore.
        object_store_url: Of the gateway's own object storage, where the volumes should lie.
    """

    def __init__(self, upstream: Upstream, object_store_url: str) -> None:
        self._upstream = upstream
        self._stub = datastore_pb2_grpc.DatastoreServiceStub(upstream.channel)
        # In bytes: voxels are taken out of the messages without copying them twice.
        self._read_region: Any = upstream.channel.unary_stream(
            "/biosegment.api.datastore.v1alpha1.DatastoreService/ReadRegion",
            request_serializer=pb.ReadRegionRequest.SerializeToString,
        )
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

    async def read_region(
        self, principal: Principal, name: str, level: int, region: Region
    ) -> NDArray[np.generic]:
        """Voxels of a small region; see `Regions`."""
        request = pb.ReadRegionRequest(name=name, level=level, region=region_to_proto(region))
        assembler = RegionAssembler(f"{region} of {name}", region.shape)
        call = self._read_region(
            request, metadata=self._upstream.metadata(principal), timeout=_READ_TIMEOUT_S
        )
        try:
            async for message in call:
                assembler.take(message)
        except BiosegmentError as error:
            raise self._upstream.named(error) from error
        finally:
            call.cancel()
        return assembler.finish()

    async def locate(self, principal: Principal, name: str) -> Location | ReferencedImage:
        """Say where a volume or layer lies; see `Locations`."""
        metadata = self._upstream.metadata(principal)
        try:
            if "/layers/" in name:
                layer = (await self._stub.GetLayer(pb.GetLayerRequest(name=name), metadata=metadata)).layer
                return self._layer(layer)
            volume = (await self._stub.GetVolume(pb.GetVolumeRequest(name=name), metadata=metadata)).volume
        except BiosegmentError as error:
            raise self._upstream.named(error) from error
        if volume.reference:
            return _referenced(volume)
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


def _referenced(volume: volume_pb2.Volume) -> ReferencedImage:
    levels = tuple(
        # By number: the source's own paths are nobody's business.
        Level(str(number), index_from_proto(level.shape), index_from_proto(level.downsampling))
        for number, level in enumerate(volume.levels)
    )
    return ReferencedImage(
        volume.name,
        volume.display_name,
        voxel_size_from_proto(volume.voxel_size),
        levels,
        data_type_from_proto(volume.data_type).name,
    )
