"""The datastore, asked in the name of users for images and OME-Zarr."""

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
from biosegment.volume import Index, Region
from biosegment_gateway.upstream import Upstream
from biosegment_gateway.viewing.exhibit import Exhibit, Kind, Location, ShownLevel, layer_levels
from biosegment_gateway.viewing.view import EditedLayer, ReferencedImage, View

_READ_TIMEOUT_S: Final = 60.0
_LAYERS_AT_ONCE: Final = 500
_MAX_SAMPLING: Final = 512
_MAX_EDITED_SAMPLING: Final = 64
"""What the datastore reads comes over the network, all of it."""
_KINDS: Final = {
    volume_pb2.Layer.KIND_ANNOTATIONS: Kind.ANNOTATIONS,
    volume_pb2.Layer.KIND_PROBABILITIES: Kind.PROBABILITIES,
    volume_pb2.Layer.KIND_LABELS: Kind.LABELS,
    volume_pb2.Layer.KIND_INSTANCES: Kind.INSTANCES,
    volume_pb2.Layer.KIND_SCORE_MAP: Kind.SCORE_MAP,
}
_WINDOWS: Final = {Kind.PROBABILITIES: (0.0, 255.0), Kind.SCORE_MAP: (0.0, 1.0)}


class DatastoreClient:
    """Reads volumes and layers; implements `Shelf` and `Regions`.

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

    async def read_region(
        self, principal: Principal, name: str, level: int, region: Region, *, with_edits: bool
    ) -> NDArray[np.generic]:
        """Voxels of a small region; see `Regions`."""
        request = pb.ReadRegionRequest(
            name=name, level=level, region=region_to_proto(region), with_edits=with_edits
        )
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

    async def volume(self, principal: Principal, name: str) -> Exhibit:
        """What viewers see of a volume; see `Shelf`."""
        answer = await self._ask(self._stub.GetVolume, pb.GetVolumeRequest(name=name), principal)
        volume: volume_pb2.Volume = answer.volume
        source: Location | View
        if volume.reference:
            # By number: the source's own paths are nobody's business.
            levels = tuple(_level(level, str(number)) for number, level in enumerate(volume.levels))
            source, version = _referenced(volume, levels), ""
        else:
            version = f"{volume.create_time.ToNanoseconds()} {volume.update_time.ToNanoseconds()}"
            source = Location(self._prefix(volume.uri, name), version, True)
            levels = tuple(_level(level, level.path) for level in volume.levels)
        return Exhibit(
            volume.name,
            volume.display_name,
            Kind.IMAGE,
            data_type_from_proto(volume.data_type).name,
            levels,
            voxel_size_from_proto(volume.voxel_size),
            source,
            version,
            (volume.display_window.low, volume.display_window.high),
        )

    async def layer(self, principal: Principal, name: str, volume: Exhibit) -> Exhibit:
        """What viewers see of a layer; see `Shelf`."""
        answer = await self._ask(self._stub.GetLayer, pb.GetLayerRequest(name=name), principal)
        if not _is_visible(answer.layer):
            raise NotFound("LAYER_NOT_FOUND", f"{name} is still being written")
        return self._layer(answer.layer, volume)

    async def layers(self, principal: Principal, volume: Exhibit) -> tuple[Exhibit, ...]:
        """What viewers see of all layers of a volume; see `Shelf`."""
        found: list[volume_pb2.Layer] = []
        token = ""
        while True:
            request = pb.ListLayersRequest(parent=volume.name, page_size=_LAYERS_AT_ONCE, page_token=token)
            page = await self._ask(self._stub.ListLayers, request, principal)
            found += page.layers
            token = page.next_page_token
            if not token:
                return tuple(self._layer(each, volume) for each in reversed(found) if _is_visible(each))

    async def colors(self, principal: Principal, project: str) -> dict[int, int]:
        """Colours of a project's classes; see `Shelf`."""
        answer = await self._ask(self._stub.GetProject, pb.GetProjectRequest(name=project), principal)
        return {each.value: each.color_rgb for each in answer.project.classes}

    async def _ask(self, method: Any, request: Any, principal: Principal) -> Any:
        try:
            return await method(request, metadata=self._upstream.metadata(principal))
        except BiosegmentError as error:
            raise self._upstream.named(error) from error

    def _layer(self, layer: volume_pb2.Layer, volume: Exhibit) -> Exhibit:
        kind, shape = _KINDS[layer.kind], index_from_proto(layer.shape)
        data_type = data_type_from_proto(layer.data_type).name
        channels = max(1, layer.channels)
        version = f"{layer.attempt} {layer.commit_time.ToNanoseconds()} {layer.projected_sequence}"
        source: Location | View
        max_sampling = _MAX_SAMPLING
        if kind is Kind.INSTANCES:
            max_sampling = _MAX_EDITED_SAMPLING
            # Also before the first edit: a viewer reads the metadata once, and must not find other chunks later.
            version = f"{version} {layer.edit_time.ToNanoseconds()}"
            source = EditedLayer(layer.name, shape, data_type)
        else:
            is_immutable = kind is not Kind.ANNOTATIONS
            source = Location(self._prefix(layer.uri, layer.name), version, is_immutable)
        downsampling = Index(*(max(1, factor) for factor in index_from_proto(layer.downsampling)))
        return Exhibit(
            layer.name,
            layer.display_name,
            kind,
            data_type,
            layer_levels(shape, downsampling, volume, max_sampling),
            volume.voxel_size,
            source,
            version,
            _WINDOWS.get(kind),
            layer.class_value,
            channels,
        )

    def _prefix(self, uri: str, name: str) -> str:
        if not uri.startswith(self._root):
            raise FailedPrecondition(
                "NOT_IN_OBJECT_STORE",
                f"{name} refers to data outside of the platform's object storage, which the gateway cannot read",
            )
        return uri.removeprefix(self._root).rstrip("/")


def _referenced(volume: volume_pb2.Volume, levels: tuple[ShownLevel, ...]) -> ReferencedImage:
    return ReferencedImage(
        volume.name,
        volume.display_name,
        voxel_size_from_proto(volume.voxel_size),
        levels,
        data_type_from_proto(volume.data_type).name,
    )


def _level(level: volume_pb2.Level, path: str) -> ShownLevel:
    return ShownLevel(path, index_from_proto(level.shape), index_from_proto(level.downsampling))


def _is_visible(layer: volume_pb2.Layer) -> bool:
    is_projection = layer.kind == volume_pb2.Layer.KIND_ANNOTATIONS
    return is_projection or layer.state == volume_pb2.Layer.STATE_COMMITTED
