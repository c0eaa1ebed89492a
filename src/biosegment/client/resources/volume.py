"""Volumes, layers and files made of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.client.resources.wire import time_of, word_of
from biosegment.rpc.geometry import data_type_from_proto, index_from_proto, voxel_size_from_proto
from biosegment.volume import Index, VoxelSize


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid: its shape, and voxels of level 0 per voxel, both zyx."""

    shape: Index
    downsampling: Index
    path: str


@dataclass(frozen=True, slots=True)
class Volume:
    """One 3D image; `shape` in voxels of level 0, zyx.

    Attributes:
        reference: It stays where it was, at `uri`.
        display_window: Grey values that a viewer shows black and white at first; percentiles of the volume.
    """

    name: str
    display_name: str
    shape: Index
    dtype: str
    voxel_size: VoxelSize
    levels: tuple[Level, ...]
    uri: str
    source: str
    create_time: datetime | None
    etag: str
    reference: bool = False
    display_window: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def from_proto(cls, message: volume_pb2.Volume) -> Volume:
        return cls(
            message.name,
            message.display_name,
            index_from_proto(message.shape),
            data_type_from_proto(message.data_type).name,
            voxel_size_from_proto(message.voxel_size),
            tuple(
                Level(index_from_proto(level.shape), index_from_proto(level.downsampling), level.path)
                for level in message.levels
            ),
            message.uri,
            message.source,
            time_of(message.create_time),
            message.etag,
            message.reference,
            (message.display_window.low, message.display_window.high),
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """An array aligned with a volume; `downsampling` is voxels of level 0 per voxel of the layer, zyx.

    A layer with several `channels` is read as (z, y, x * channels). `source_layer` is what the objects of an instances
    layer were found in, '' when they come from elsewhere; `edit_time` is when these were last edited, None for never.
    """

    name: str
    display_name: str
    kind: str
    state: str
    dtype: str
    shape: Index
    downsampling: Index
    class_value: int
    measure: str
    model: str
    job: str
    uri: str
    create_time: datetime | None
    channels: int
    source_layer: str
    edit_time: datetime | None

    @classmethod
    def from_proto(cls, message: volume_pb2.Layer) -> Layer:
        return cls(
            message.name,
            message.display_name,
            word_of(volume_pb2.Layer.Kind, message.kind),
            word_of(volume_pb2.Layer.State, message.state),
            data_type_from_proto(message.data_type).name,
            index_from_proto(message.shape),
            index_from_proto(message.downsampling),
            message.class_value,
            message.measure,
            message.model,
            message.job,
            message.uri,
            time_of(message.create_time),
            message.channels or 1,
            message.source_layer,
            time_of(message.edit_time),
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that the platform made."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str

    @classmethod
    def from_proto(cls, message: volume_pb2.Artifact) -> Artifact:
        return cls(message.name, message.file_name, message.size_bytes, message.sha256)
