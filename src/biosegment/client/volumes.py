"""Volumes, layers and their voxels as NumPy arrays."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.client.resources import Artifact, Layer, Volume
from biosegment.client.resources.wire import timestamp_of
from biosegment.client.transfer import fetch_file, send_file
from biosegment.errors import InvalidArgument, Unavailable
from biosegment.rpc.geometry import (
    data_type_to_proto,
    index_to_proto,
    region_to_proto,
    voxel_size_to_proto,
)
from biosegment.rpc.region import RegionAssembler
from biosegment.rpc.stream import chunks
from biosegment.volume import Region, VoxelSize


class Volumes:
    """Volumes and layers of a project."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = DatastoreServiceStub(channel)
        # In bytes: what carries voxels is taken apart without copying them.
        self._read_region: Any = channel.unary_stream(
            "/biosegment.api.datastore.v1alpha1.DatastoreService/ReadRegion",
            request_serializer=pb.ReadRegionRequest.SerializeToString,
        )

    async def get(self, name: str) -> Volume:
        """Return a volume by its name `projects/{p}/volumes/{v}`."""
        return Volume.from_proto((await self._stub.GetVolume(pb.GetVolumeRequest(name=name))).volume)

    async def list(self, project: str) -> builtins.list[Volume]:
        """Return the volumes of a project."""
        found: builtins.list[Volume] = []
        token = ""
        while True:
            request = pb.ListVolumesRequest(parent=project, page_size=500, page_token=token)
            page = await self._stub.ListVolumes(request)
            found.extend(map(Volume.from_proto, page.volumes))
            token = page.next_page_token
            if not token:
                return found

    async def update(
        self,
        name: str,
        *,
        display_name: str | None = None,
        voxel_size: VoxelSize | None = None,
        etag: str = "",
    ) -> Volume:
        """Change the fields that are given; Conflict ETAG_MISMATCH when `etag` is not the present one."""
        message = volume_pb2.Volume(name=name, etag=etag)
        paths = []
        if display_name is not None:
            message.display_name = display_name
            paths.append("display_name")
        if voxel_size is not None:
            message.voxel_size.CopyFrom(voxel_size_to_proto(voxel_size))
            paths.append("voxel_size")
        request = pb.UpdateVolumeRequest(volume=message, update_mask=FieldMask(paths=paths))
        return Volume.from_proto((await self._stub.UpdateVolume(request)).volume)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a volume with its layers; with `force` also its annotations and edits of objects."""
        await self._stub.DeleteVolume(pb.DeleteVolumeRequest(name=name, force=force))

    async def layers(self, volume: str, *, kind: str = "", model: str = "") -> builtins.list[Layer]:
        """Return the committed layers of a volume, newest first.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            kind: Only annotations, probabilities, labels, instances or score_map.
            model: Only layers that this model made.
        """
        kinds = [_kind(kind)] if kind else []
        found: builtins.list[Layer] = []
        token = ""
        while True:
            request = pb.ListLayersRequest(
                parent=volume, kinds=kinds, model=model, page_size=500, page_token=token
            )
            page = await self._stub.ListLayers(request)
            found.extend(map(Layer.from_proto, page.layers))
            token = page.next_page_token
            if not token:
                return found

    async def layer(self, name: str) -> Layer:
        """Return a layer by its name."""
        return Layer.from_proto((await self._stub.GetLayer(pb.GetLayerRequest(name=name))).layer)

    async def delete_layer(self, name: str, *, force: bool = False) -> None:
        """Delete a layer; with `force` also the edits of its objects."""
        await self._stub.DeleteLayer(pb.DeleteLayerRequest(name=name, force=force))

    async def read(
        self,
        name: str,
        region: Region | None = None,
        *,
        level: int = 0,
        with_edits: bool = False,
        as_of: datetime | None = None,
    ) -> NDArray[Any]:
        """Return voxels as an array (z, y, x).

        Args:
            name: A volume or a layer.
            region: In voxels of the level or layer, zyx, half-open; everything when None.
            level: Level of a volume's pyramid, 0 the finest.
            with_edits: Of a layer of instances the objects as their edits made them.
            as_of: The edits that held at this moment, which needs a time zone; those that hold now when None.

        What breaks off on the way is read again.

        Raises:
            InvalidArgument: REGION_OUT_OF_BOUNDS, NOT_INSTANCES, BAD_AS_OF.
            ResourceExhausted: REGION_TOO_LARGE; read in parts.
        """
        request = pb.ReadRegionRequest(name=name, level=level, with_edits=with_edits)
        if as_of is not None:
            request.as_of.CopyFrom(timestamp_of(as_of))
        if region is not None:
            request.region.CopyFrom(region_to_proto(region))
        for is_last in (False, False, True):
            assembler, has_begun = RegionAssembler(name, region.shape if region is not None else None), False
            try:
                async for message in self._read_region(request):
                    has_begun = True
                    assembler.take(message)
                return assembler.finish()
            except Unavailable:
                # A call that never began was repeated often enough.
                if is_last or not has_begun:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def write_layer(
        self,
        volume: str,
        array: NDArray[Any],
        *,
        kind: str = "labels",
        display_name: str = "",
        class_value: int = 0,
        downsampling: tuple[int, int, int] = (1, 1, 1),
        source_layer: str = "",
    ) -> Layer:
        """Make a committed layer of a whole array.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            array: (z, y, x); its shape must be the volume's, divided by `downsampling` and rounded up.
            kind: labels or probabilities (uint8), instances (uint32, uint64) or score_map (float16,
                float32).
            display_name: For people.
            class_value: Class of a probabilities layer, or of the objects of a layer of instances.
            downsampling: Voxels of level 0 per voxel of the array, zyx.
            source_layer: Layer that the objects were found in: their edits are then part of its segmentation.
        """
        message = volume_pb2.Layer(
            display_name=display_name,
            kind=_kind(kind),
            data_type=data_type_to_proto(array.dtype),
            downsampling=index_to_proto(downsampling),
            class_value=class_value,
            source_layer=source_layer,
        )
        create = pb.CreateLayerRequest(parent=volume, layer=message, request_id=str(uuid.uuid4()))
        created = (await self._stub.CreateLayer(create)).layer
        depth, height, width = array.shape
        whole = Region.of_shape((depth, height, width))

        async def requests() -> AsyncIterator[pb.WriteRegionRequest]:
            header = geometry_pb2.ArrayHeader(
                shape=index_to_proto(whole.shape), data_type=data_type_to_proto(array.dtype)
            )
            first = geometry_pb2.ArrayChunk(header=header)
            yield pb.WriteRegionRequest(
                name=created.name, attempt=created.attempt, region=region_to_proto(whole), chunk=first
            )
            offset = 0
            for data in chunks(array):
                yield pb.WriteRegionRequest(chunk=geometry_pb2.ArrayChunk(offset=offset, data=data))
                offset += len(data)

        await self._stub.WriteRegion(requests())
        commit = pb.CommitLayerRequest(name=created.name, attempt=created.attempt)
        return Layer.from_proto((await self._stub.CommitLayer(commit)).layer)

    async def upload(
        self,
        project: str,
        path: Path,
        *,
        name: str = "",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """Send a file for import and return the upload's name; goes on where it was after a break.

        An upload that another process began with the same unchanged file, and did not end, is continued, and so is the
        one that `name` says. Every piece carries its CRC-32C.

        Args:
            project: `projects/{p}`.
            path: The file.
            name: Upload to continue.
            on_progress: Called with the bytes received and the bytes of the file.

        Raises:
            FailedPrecondition: OTHER_FILE when the upload `name` is for another file.
            ResourceExhausted: UPLOAD_TOO_LARGE, TOO_MANY_UPLOADS.
            Unavailable: The platform was away for too long; call again to go on.
        """
        return await send_file(self._stub, project, path, name, on_progress)

    async def artifact(self, name: str) -> Artifact:
        """Return what is known of an artifact: file name, size, checksum."""
        request = pb.GetArtifactRequest(name=name)
        return Artifact.from_proto((await self._stub.GetArtifact(request)).artifact)

    async def download(self, artifact: str, path: Path) -> Path:
        """Fetch an artifact into a file and return its path.

        A `.part` file that an earlier call left is continued. Every piece is checked by its CRC-32C, the whole file by
        its SHA-256.

        Raises:
            Unavailable: DOWNLOAD_DAMAGED, or the platform was away for too long; call again to go on.
        """
        return await fetch_file(self._stub, artifact, path)


def _kind(kind: str) -> str:
    key = f"KIND_{kind.upper()}"
    if key not in volume_pb2.Layer.Kind.keys():
        known = "annotations, probabilities, labels, instances, score_map"
        raise InvalidArgument("UNKNOWN_LAYER_KIND", f"layer kind {kind!r} is none of {known}")
    return key
