"""Between the messages of `biosegment.api.datastore` and the domain, except annotations."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.datastore.v1alpha1 import project_pb2, volume_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Role
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc.geometry import (
    data_type_from_proto,
    data_type_to_proto,
    index_from_proto,
    index_to_proto,
    region_from_proto,
    region_to_proto,
    voxel_size_from_proto,
    voxel_size_to_proto,
)
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.layer import Layer, LayerKind, LayerRequest, LayerState
from biosegment_datastore.project import LabelClass, Member, Project
from biosegment_datastore.transfer import Artifact, ArtifactFile, Upload
from biosegment_datastore.volume import DisplayWindow, Level, Volume

_F = TypeVar("_F", bound=enum.StrEnum)

_ROLES: Final = {
    Role.OWNER: project_pb2.ROLE_OWNER,
    Role.MANAGER: project_pb2.ROLE_MANAGER,
    Role.ANNOTATOR: project_pb2.ROLE_ANNOTATOR,
    Role.REVIEWER: project_pb2.ROLE_REVIEWER,
    Role.VIEWER: project_pb2.ROLE_VIEWER,
}
_KINDS: Final = {
    LayerKind.ANNOTATIONS: volume_pb2.Layer.KIND_ANNOTATIONS,
    LayerKind.PROBABILITIES: volume_pb2.Layer.KIND_PROBABILITIES,
    LayerKind.LABELS: volume_pb2.Layer.KIND_LABELS,
    LayerKind.INSTANCES: volume_pb2.Layer.KIND_INSTANCES,
    LayerKind.SCORE_MAP: volume_pb2.Layer.KIND_SCORE_MAP,
}
_STATES: Final = {
    LayerState.WRITING: volume_pb2.Layer.STATE_WRITING,
    LayerState.COMMITTED: volume_pb2.Layer.STATE_COMMITTED,
}


def timestamp(time_us: int) -> Timestamp | None:
    """None for 0, which is 'never'."""
    if not time_us:
        return None
    seconds, micros = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=1000 * micros)


def masked(mask: FieldMask, fields: type[_F]) -> list[_F]:
    """The fields that a mask names; InvalidArgument BAD_UPDATE_MASK when it is empty or names others."""
    known = {field.value: field for field in fields}
    if not mask.paths or any(path not in known for path in mask.paths):
        raise InvalidArgument(
            "BAD_UPDATE_MASK",
            f"update_mask {list(mask.paths)} must name some of {', '.join(known)}, and nothing else",
        )
    return [known[path] for path in mask.paths]


def role_from_proto(role: int) -> Role:
    """InvalidArgument BAD_ROLE for ROLE_UNSPECIFIED and unknown ones."""
    for known, number in _ROLES.items():
        if number == role:
            return known
    raise InvalidArgument("BAD_ROLE", f"role {role} is not set or not known; use ROLE_OWNER to ROLE_VIEWER")


def project_from_proto(message: project_pb2.Project) -> Project:
    """The fields that a client may set; the others are empty."""
    return Project(
        id="",
        display_name=message.display_name,
        description=message.description,
        classes=tuple(LabelClass(each.value, each.display_name, each.color_rgb) for each in message.classes),
        working_resolution_nm=message.working_resolution_nm,
        storage_key="",
        create_time_us=0,
        update_time_us=0,
    )


def project_to_proto(project: Project) -> project_pb2.Project:
    return project_pb2.Project(
        name=project.name,
        display_name=project.display_name,
        description=project.description,
        classes=[
            project_pb2.LabelClass(
                value=label.value, display_name=label.display_name, color_rgb=label.color_rgb
            )
            for label in project.classes
        ],
        working_resolution_nm=project.working_resolution_nm,
        create_time=timestamp(project.create_time_us),
        update_time=timestamp(project.update_time_us),
        etag=project.etag,
    )


def member_to_proto(member: Member) -> project_pb2.Member:
    return project_pb2.Member(
        name=member.name, role=_ROLES[member.role], create_time=timestamp(member.create_time_us)
    )


def volume_to_proto(volume: Volume, store_url: str) -> volume_pb2.Volume:
    window = volume.display_window
    return volume_pb2.Volume(
        name=volume.name,
        display_name=volume.display_name,
        shape=index_to_proto(volume.shape),
        data_type=data_type_to_proto(volume.data_type),
        voxel_size=voxel_size_to_proto(volume.voxel_size),
        levels=[_level_to_proto(level) for level in volume.levels],
        uri=volume.reference.uri if volume.reference is not None else f"{store_url}/{volume.key}",
        reference=volume.reference is not None,
        source=volume.source,
        display_window=volume_pb2.DisplayWindow(low=window.low, high=window.high),
        create_time=timestamp(volume.create_time_us),
        update_time=timestamp(volume.update_time_us),
        etag=volume.etag,
        creator=volume.creator,
    )


def volume_update(message: volume_pb2.Volume, fields: Sequence[str]) -> Volume:
    """The fields of a volume that a client may change, in an otherwise empty volume."""
    has_size = "voxel_size" in fields
    return Volume(
        project_id="",
        id="",
        display_name=message.display_name,
        shape=Index(0, 0, 0),
        data_type="",
        voxel_size=voxel_size_from_proto(message.voxel_size) if has_size else VoxelSize(1, 1, 1),
        levels=(),
        key="",
        source="",
        display_window=DisplayWindow(message.display_window.low, message.display_window.high),
        creator="",
        create_time_us=0,
        update_time_us=0,
    )


def _level_to_proto(level: Level) -> volume_pb2.Level:
    return volume_pb2.Level(
        shape=index_to_proto(level.shape), downsampling=index_to_proto(level.downsampling), path=level.path
    )


def layer_kind_from_proto(kind: int) -> LayerKind:
    """InvalidArgument BAD_LAYER for KIND_UNSPECIFIED and unknown ones."""
    for known, number in _KINDS.items():
        if number == kind:
            return known
    raise InvalidArgument("BAD_LAYER", f"layer kind {kind} is not set or not known")


def layer_request_from_proto(message: volume_pb2.Layer) -> LayerRequest:
    is_typed = message.data_type != geometry_pb2.DATA_TYPE_UNSPECIFIED
    return LayerRequest(
        display_name=message.display_name,
        kind=layer_kind_from_proto(message.kind),
        data_type=data_type_from_proto(message.data_type).name if is_typed else "",
        downsampling=_index(message, "downsampling") or Index(1, 1, 1),
        class_value=message.class_value,
        measure=message.measure,
        model=message.model,
        job=message.job,
        region=region_from_proto(message.region) if message.HasField("region") else None,
        chunk=_index(message, "chunk_shape"),
        shard=_index(message, "shard_shape"),
        channels=message.channels or 1,
        source_layer=message.source_layer,
    )


def _index(message: volume_pb2.Layer, field: str) -> Index | None:
    return index_from_proto(getattr(message, field)) if message.HasField(field) else None


def layer_to_proto(layer: Layer, store_url: str) -> volume_pb2.Layer:
    return volume_pb2.Layer(
        name=layer.name,
        display_name=layer.display_name,
        kind=_KINDS[layer.kind],
        state=_STATES[layer.state],
        data_type=data_type_to_proto(layer.data_type),
        downsampling=index_to_proto(layer.downsampling),
        shape=index_to_proto(layer.shape),
        class_value=layer.class_value,
        measure=layer.measure,
        model=layer.model,
        job=layer.job,
        attempt=layer.attempt,
        uri=f"{store_url}/{layer.key}",
        region=region_to_proto(layer.region) if layer.region else None,
        projected_sequence=layer.projected_sequence,
        create_time=timestamp(layer.create_time_us),
        commit_time=timestamp(layer.commit_time_us),
        chunk_shape=index_to_proto(layer.chunk),
        shard_shape=index_to_proto(layer.shard),
        channels=layer.channels,
        source_layer=layer.source_layer,
        edit_time=timestamp(layer.edit_time_us),
    )


def upload_to_proto(upload: Upload) -> volume_pb2.Upload:
    return volume_pb2.Upload(
        name=upload.name,
        file_name=upload.file_name,
        size_bytes=upload.size_bytes,
        received_bytes=upload.received_bytes,
        expire_time=timestamp(upload.expire_time_us),
    )


def artifact_file_from_proto(message: volume_pb2.Artifact) -> ArtifactFile:
    """InvalidArgument BAD_NAME when it has no name of an artifact."""
    project_id, artifact_id = parse_name(message.name, "projects/*/artifacts/*")
    return ArtifactFile(
        project_id=project_id,
        artifact_id=artifact_id,
        file_name=message.file_name,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        media_type=message.media_type,
    )


def artifact_to_proto(artifact: Artifact) -> volume_pb2.Artifact:
    return volume_pb2.Artifact(
        name=artifact.name,
        file_name=artifact.file_name,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
        create_time=timestamp(artifact.create_time_us),
    )
