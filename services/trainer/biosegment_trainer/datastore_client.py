"""What the trainer asks the datastore, in its own name."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import (
    annotation_pb2,
    annotation_pb2_grpc,
    datastore_pb2,
    datastore_pb2_grpc,
    volume_pb2,
)
from biosegment.errors import FailedPrecondition, NotFound, Unimplemented
from biosegment.ids import parse_name
from biosegment.rpc.geometry import (
    data_type_from_proto,
    data_type_to_proto,
    index_from_proto,
    index_to_proto,
    region_from_proto,
    region_to_proto,
    voxel_size_from_proto,
)
from biosegment.rpc.region import RegionAssembler
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Index, Region, VoxelSize
from biosegment_trainer.compute.task import MadeFile
from biosegment_trainer.registry.model import ModelClass

_HOLDING: Final = (annotation_pb2.Annotation.STATE_PENDING, annotation_pb2.Annotation.STATE_ACCEPTED)
_INSTANCES: Final = annotation_pb2.Annotation.KIND_INSTANCES
_TRAINABLE: Final = (
    annotation_pb2.Annotation.KIND_DENSE,
    annotation_pb2.Annotation.KIND_SCRIBBLES,
    _INSTANCES,
)
_NO_INSTANCE: Final = 0xFFFFFFFF
_KINDS: Final = {
    "labels": volume_pb2.Layer.KIND_LABELS,
    "probabilities": volume_pb2.Layer.KIND_PROBABILITIES,
    "score_map": volume_pb2.Layer.KIND_SCORE_MAP,
    "instances": volume_pb2.Layer.KIND_INSTANCES,
}
_CONCURRENT_READS: Final = 16


@dataclass(frozen=True, slots=True)
class ProjectView:
    """Classes and working resolution of a project."""

    classes: tuple[ModelClass, ...]
    working_resolution_nm: float


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume; `key` is that of its finest array in the object store, '' when it is a reference. `levels` of its
    pyramid, finest first: shape, and voxels of level 0 per voxel.
    """

    name: str
    shape: Index
    voxel_size: VoxelSize
    key: str
    voxel_bytes: int
    levels: tuple[tuple[Index, Index], ...] = ()

    @property
    def bounds(self) -> Region:
        return Region(Index(0, 0, 0), self.shape)


@dataclass(frozen=True, slots=True)
class AnnotationView:
    """An annotation; `holds`: pending or accepted, `is_dense`: says something of every voxel. `state` is the contract's
    word in lower case.

    `labels` are class values as a zlib stream, empty when they were not asked for: ids of instances are read as the
    class that they are of.
    """

    name: str
    region: Region
    scope: frozenset[int]
    holds: bool
    labels: bytes = b""
    author: str = ""
    is_accepted: bool = False
    is_dense: bool = True
    state: str = ""

    @property
    def volume_name(self) -> str:
        return self.name.rpartition("/annotations/")[0]


@dataclass(frozen=True, slots=True)
class RecordView:
    """Something that was done to an annotation."""

    sequence: int
    annotation: str


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer; `key` is that of its array in the object store, `shard` and `shape` count voxels of the layer, `dtype`
    is the type of its values.

    `region`, level 0, is the part of the volume that it speaks of, None for all; `kind` as in `NewLayer`, or another
    word of the contract's in lower case; `edit_time` is when its objects were last edited, None for never.
    """

    name: str
    key: str
    attempt: int
    committed: bool
    downsampling: Index
    shard: Index
    channels: int
    measure: str
    job: str
    kind: str
    shape: Index
    dtype: str
    region: Region | None = None
    class_value: int = 0
    edit_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ArtifactPlace:
    """Where an attempt writes an artifact; `key` is the prefix of its parts in the object store."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer to make; `kind` is labels, probabilities, score_map or instances, which know their `source_layer`."""

    layer_id: str
    display_name: str
    kind: str
    dtype: str
    downsampling: Index
    chunk: Index
    shard: Index
    region: Region | None
    model: str
    job: str
    class_value: int = 0
    measure: str = ""
    channels: int = 1
    source_layer: str = ""


class DatastoreClient:
    """Calls that the trainer makes.

    Args:
        channel: To the datastore, in this service's own name.
        object_store_url: Prefix of the URIs that can be read.
    """

    def __init__(self, channel: grpc.aio.Channel, object_store_url: str) -> None:
        self._datastore = datastore_pb2_grpc.DatastoreServiceStub(channel)
        self._annotations = annotation_pb2_grpc.AnnotationServiceStub(channel)
        # In bytes: they are passed on as they are.
        self._read_region: Any = channel.unary_stream(
            "/biosegment.api.datastore.v1alpha1.DatastoreService/ReadRegion",
            request_serializer=datastore_pb2.ReadRegionRequest.SerializeToString,
        )
        self._url = object_store_url.rstrip("/")

    async def project(self, project_id: str) -> ProjectView:
        """NotFound when there is no such project."""
        request = datastore_pb2.GetProjectRequest(name=f"projects/{project_id}")
        project = (await self._datastore.GetProject(request)).project
        classes = tuple(ModelClass(item.value, item.display_name) for item in project.classes)
        return ProjectView(classes, project.working_resolution_nm or 10.0)

    async def volume(self, name: str) -> VolumeView:
        """NotFound when there is no such volume."""
        volume = (await self._datastore.GetVolume(datastore_pb2.GetVolumeRequest(name=name))).volume
        finest = f"{volume.uri.rstrip('/')}/{volume.levels[0].path}"
        return VolumeView(
            volume.name,
            index_from_proto(volume.shape),
            voxel_size_from_proto(volume.voxel_size),
            "" if volume.reference else self._key(finest),
            data_type_from_proto(volume.data_type).itemsize,
            tuple(
                (index_from_proto(each.shape), index_from_proto(each.downsampling)) for each in volume.levels
            ),
        )

    async def read_region(
        self, name: str, region: Region, level: int = 0, edits_as_of: Timestamp | None = None
    ) -> AsyncIterator[bytes]:
        """The serialised ReadRegionResponses that carry a region of a level of a volume.

        With `edits_as_of` that of a layer of instances, its objects as the edits of that moment made them.
        """
        request = datastore_pb2.ReadRegionRequest(
            name=name,
            region=region_to_proto(region),
            level=level,
            with_edits=edits_as_of is not None,
            as_of=edits_as_of,
        )
        call = self._read_region(request)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    async def voxels(self, name: str, region: Region, level: int = 0) -> NDArray[Any]:
        """The voxels (z, y, x) of a region of a level of a volume."""
        assembler = RegionAssembler(f"{region} of level {level} of {name}", region.shape)
        async with contextlib.aclosing(cast(Any, self.read_region(name, region, level))) as pieces:
            async for piece in pieces:
                assembler.take(piece)
        return assembler.finish()

    async def statistics(self, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every slice."""
        request = datastore_pb2.GetSliceStatisticsRequest(name=name)
        found = (await self._datastore.GetSliceStatistics(request)).statistics
        return tuple(found.mean), tuple(found.std)

    async def newest_record(self, volume: str, region: Region, after_sequence: int) -> RecordView | None:
        """A record after `after_sequence` of an annotation that shares a voxel with a region: the newest, or one of
        the first thousand; None for none.
        """
        request = annotation_pb2.ListAnnotationRecordsRequest(
            parent=volume.rpartition("/volumes/")[0],
            volume=volume,
            region=region_to_proto(region),
            after_sequence=after_sequence,
            page_size=1000,
        )
        records = (await self._annotations.ListAnnotationRecords(request)).records
        if not records:
            return None
        newest = records[-1]
        name = newest.annotation.name or newest.reverted or newest.review.annotation
        return RecordView(newest.sequence, name)

    async def annotation_names(self, project_id: str, limit: int | None = None) -> Sequence[str]:
        """Annotations of a project that hold and that a network can train on, oldest first."""
        names: list[str] = []
        token = ""
        while True:
            request = annotation_pb2.ListAnnotationsRequest(
                parent=f"projects/{project_id}", states=_HOLDING, page_size=1000, page_token=token
            )
            page = await self._annotations.ListAnnotations(request)
            names += [item.name for item in page.annotations if item.kind in _TRAINABLE]
            token = page.next_page_token
            if not token or (limit is not None and len(names) >= limit):
                return names[:limit]

    async def annotations(self, names: Sequence[str], with_labels: bool) -> Sequence[AnnotationView]:
        """The named annotations in their order; NotFound when one is missing."""
        slots = asyncio.Semaphore(_CONCURRENT_READS)

        async def read(name: str) -> AnnotationView:
            async with slots:
                request = annotation_pb2.GetAnnotationRequest(name=name, with_labels=with_labels)
                answer = await self._annotations.GetAnnotation(request)
            found, labels = answer.annotation, answer.labels
            if found.kind not in _TRAINABLE:
                raise FailedPrecondition(
                    "ANNOTATION_NOT_TRAINABLE", f"{name} is of a kind that nobody can train on; leave it out"
                )
            if labels and found.kind == _INSTANCES:
                labels = await asyncio.to_thread(_class_values, labels, *found.class_scope)
            return AnnotationView(
                found.name,
                region_from_proto(found.region),
                frozenset(found.class_scope),
                found.state in _HOLDING,
                labels,
                found.author,
                found.state == annotation_pb2.Annotation.STATE_ACCEPTED,
                found.kind == annotation_pb2.Annotation.KIND_DENSE,
                annotation_pb2.Annotation.State.Name(found.state).removeprefix("STATE_").lower(),
            )

        return await asyncio.gather(*(read(name) for name in names))

    async def create_layer(self, volume: str, layer: NewLayer, attempt: int) -> LayerView:
        """The layer of an earlier attempt when there is one, else a new one."""
        try:
            return await self.layer(f"{volume}/layers/{layer.layer_id}")
        except NotFound:
            pass
        message = volume_pb2.Layer(
            display_name=layer.display_name,
            kind=_KINDS[layer.kind],
            data_type=data_type_to_proto(layer.dtype),
            downsampling=index_to_proto(layer.downsampling),
            class_value=layer.class_value,
            measure=layer.measure,
            model=layer.model,
            job=layer.job,
            region=region_to_proto(layer.region) if layer.region else None,
            chunk_shape=index_to_proto(_wide(layer.chunk, layer.channels)),
            shard_shape=index_to_proto(_wide(layer.shard, layer.channels)),
            channels=layer.channels,
            source_layer=layer.source_layer,
        )
        # With the attempt: after a cancellation the layer is gone, and its request must not be answered
        # from memory.
        seed = f"{layer.job}/{attempt}/{volume}/{layer.layer_id}"
        request = datastore_pb2.CreateLayerRequest(
            parent=volume,
            layer_id=layer.layer_id,
            layer=message,
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, seed)),
        )
        return self._layer((await self._datastore.CreateLayer(request)).layer)

    async def layer(self, name: str) -> LayerView:
        """A layer as it is now."""
        return self._layer((await self._datastore.GetLayer(datastore_pb2.GetLayerRequest(name=name))).layer)

    async def score_maps(self, volume: str) -> Sequence[LayerView]:
        """The committed score maps of a volume, newest first."""
        found: list[LayerView] = []
        token = ""
        while True:
            request = datastore_pb2.ListLayersRequest(
                parent=volume, kinds=[volume_pb2.Layer.KIND_SCORE_MAP], page_size=500, page_token=token
            )
            page = await self._datastore.ListLayers(request)
            found += [layer for layer in map(self._layer, page.layers) if layer.committed]
            token = page.next_page_token
            if not token:
                return found

    async def restart_layer(self, name: str) -> LayerView:
        """Begin the next attempt at a layer, in a new and empty place."""
        request = datastore_pb2.RestartLayerRequest(name=name)
        return self._layer((await self._datastore.RestartLayer(request)).layer)

    async def commit_layer(self, layer: LayerView) -> None:
        """Show a layer to readers; Conflict ATTEMPT_OUTDATED."""
        request = datastore_pb2.CommitLayerRequest(name=layer.name, attempt=layer.attempt)
        await self._datastore.CommitLayer(request)

    async def drop_layer(self, name: str) -> None:
        """Delete a layer that nobody has seen yet; one that was committed, or that is gone, stays as it is."""
        with contextlib.suppress(NotFound):
            if not (await self.layer(name)).committed:
                await self._datastore.DeleteLayer(datastore_pb2.DeleteLayerRequest(name=name))

    async def has_artifact(self, name: str) -> bool:
        """Whether an artifact is committed."""
        try:
            await self._datastore.GetArtifact(datastore_pb2.GetArtifactRequest(name=name))
        except NotFound:
            return False
        return True

    async def create_artifact(self, project_id: str, artifact_id: str, attempt: int) -> ArtifactPlace:
        """Reserve the place of an attempt at an artifact; Conflict ATTEMPT_OUTDATED."""
        request = datastore_pb2.CreateArtifactRequest(
            parent=f"projects/{project_id}", artifact_id=artifact_id, attempt=attempt
        )
        made = await self._datastore.CreateArtifact(request)
        return ArtifactPlace(made.name, self._key(made.uri))

    async def commit_artifacts(self, project_id: str, files: Sequence[MadeFile], attempt: int) -> None:
        """Show what an attempt wrote to readers, all of it or nothing; Conflict ATTEMPT_OUTDATED."""
        artifacts = [
            volume_pb2.Artifact(
                name=file.artifact,
                file_name=file.file_name,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                media_type=file.media_type,
            )
            for file in files
        ]
        request = datastore_pb2.CommitArtifactsRequest(
            parent=f"projects/{project_id}", artifacts=artifacts, attempt=attempt
        )
        await self._datastore.CommitArtifacts(request)

    def _layer(self, message: volume_pb2.Layer) -> LayerView:
        committed = message.state == volume_pb2.Layer.STATE_COMMITTED
        channels, shard = message.channels or 1, index_from_proto(message.shard_shape)
        return LayerView(
            message.name,
            self._key(message.uri),
            message.attempt,
            committed,
            index_from_proto(message.downsampling),
            Index(shard.z, shard.y, shard.x // channels),
            channels,
            message.measure,
            message.job,
            volume_pb2.Layer.Kind.Name(message.kind).removeprefix("KIND_").lower(),
            index_from_proto(message.shape),
            data_type_from_proto(message.data_type).name,
            region_from_proto(message.region) if message.HasField("region") else None,
            message.class_value,
            message.edit_time.ToDatetime(UTC) if message.HasField("edit_time") else None,
        )

    def _key(self, uri: str) -> str:
        if not uri.startswith(f"{self._url}/"):
            raise Unimplemented(
                "FOREIGN_STORAGE",
                f"{uri} is not below the object storage {self._url}; give all services the same OBJECT_STORE_URL",
            )
        return uri.removeprefix(f"{self._url}/").rstrip("/")


def _class_values(ids: bytes, value: int) -> bytes:
    """Class values for instance ids, both as zlib streams: 0 says nothing, the last id that there is no object."""
    instances = np.frombuffer(zlib.decompress(ids), "<u4")
    labels = np.full(instances.shape, value, np.uint8)
    labels[instances == 0] = NOT_ANNOTATED
    labels[instances == _NO_INSTANCE] = BACKGROUND
    return zlib.compress(labels.tobytes(), 1)


def _wide(edges: Index, channels: int) -> Index:
    """Edges in voxels of a layer as those of its array, where channels lie beside each other along x."""
    return Index(edges.z, edges.y, edges.x * channels)


def volume_id_of(name: str) -> str:
    """`projects/p/volumes/v` -> `v`."""
    return parse_name(name, "projects/*/volumes/*")[1]
