"""What the SDK returns: plain frozen values, one class per resource of the API."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.datastore.v1alpha1 import annotation_pb2, project_pb2, volume_pb2
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.platform.v1alpha1 import platform_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.rpc.geometry import (
    data_type_from_proto,
    index_from_proto,
    region_from_proto,
    voxel_size_from_proto,
)
from biosegment.volume import Index, Region, VoxelSize


def _time(message: Timestamp) -> datetime | None:
    return message.ToDatetime(UTC) if message.seconds else None


def _word(enumeration: Any, value: int) -> str:
    """`STATE_QUEUED` as `queued`: the name without the prefix that all values of an enum share."""
    names: Iterable[str] = enumeration.keys()
    unspecified = next(name for name in names if name.endswith("_UNSPECIFIED"))
    return str(enumeration.Name(value)).removeprefix(unspecified.removesuffix("UNSPECIFIED")).lower()


class JobState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One thing to segment; `value` is its label value (2..255)."""

    value: int
    display_name: str
    color_rgb: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    display_name: str
    description: str
    classes: tuple[LabelClass, ...]
    working_resolution_nm: float
    create_time: datetime | None
    etag: str

    @classmethod
    def from_proto(cls, message: project_pb2.Project) -> Project:
        classes = tuple(LabelClass(item.value, item.display_name, item.color_rgb) for item in message.classes)
        return cls(
            message.name,
            message.display_name,
            message.description,
            classes,
            message.working_resolution_nm,
            _time(message.create_time),
            message.etag,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A user's role in a project: owner, manager, annotator, reviewer or viewer."""

    name: str
    role: str

    @classmethod
    def from_proto(cls, message: project_pb2.Member) -> Member:
        return cls(message.name, _word(project_pb2.Role, message.role))


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
            _time(message.create_time),
            message.etag,
            message.reference,
            (message.display_window.low, message.display_window.high),
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """An array aligned with a volume; `downsampling` is voxels of level 0 per voxel of the layer, zyx."""

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

    @classmethod
    def from_proto(cls, message: volume_pb2.Layer) -> Layer:
        return cls(
            message.name,
            message.display_name,
            _word(volume_pb2.Layer.Kind, message.kind),
            _word(volume_pb2.Layer.State, message.state),
            data_type_from_proto(message.data_type).name,
            index_from_proto(message.shape),
            index_from_proto(message.downsampling),
            message.class_value,
            message.measure,
            message.model,
            message.job,
            message.uri,
            _time(message.create_time),
        )


@dataclass(frozen=True, slots=True)
class Annotation:
    """An immutable annotation and its present state (pending, accepted, rejected or reverted)."""

    name: str
    sequence: int
    region: Region
    kind: str
    class_scope: tuple[int, ...]
    author: str
    create_time: datetime | None
    sample: str
    strategy: str
    model: str
    work_time_s: float
    state: str
    labels_sha256: str
    voxel_counts: dict[int, int]
    comment: str
    review_comment: str

    @classmethod
    def from_proto(cls, message: annotation_pb2.Annotation) -> Annotation:
        return cls(
            message.name,
            message.sequence,
            region_from_proto(message.region),
            _word(annotation_pb2.Annotation.Kind, message.kind),
            tuple(message.class_scope),
            message.author,
            _time(message.create_time),
            message.sample,
            message.strategy,
            message.model,
            message.work_time_s,
            _word(annotation_pb2.Annotation.State, message.state),
            message.labels_sha256,
            dict(message.voxel_counts),
            message.comment,
            message.review_comment,
        )


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """What was done to an annotation: `committed`, `reverted`, `accepted` or `rejected`, by whom and when.

    Attributes:
        sequence: Place in the project's order of records.
        action: What was done.
        annotation: Name of the annotation.
        author: Who did it.
        comment: Of the annotation when it was committed, of the reviewer afterwards.
        committed: The annotation, with the sample, strategy and model that it came from; None for later records.
    """

    sequence: int
    action: str
    annotation: str
    author: str
    create_time: datetime | None
    comment: str
    committed: Annotation | None

    @classmethod
    def from_proto(cls, message: annotation_pb2.AnnotationRecord) -> AnnotationRecord:
        annotation, committed = message.reverted, None
        action, comment = "reverted", ""
        if message.HasField("annotation"):
            committed = Annotation.from_proto(message.annotation)
            action, annotation, comment = "committed", committed.name, committed.comment
        elif message.HasField("review"):
            annotation, comment = message.review.annotation, message.review.comment
            action = "accepted" if message.review.accepted else "rejected"
        return cls(
            message.sequence,
            action,
            annotation,
            message.author,
            _time(message.create_time),
            comment,
            committed,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """Unfinished work of the caller; its labels are read with `annotations.draft`.

    Attributes:
        base_sequence: Number of the last record that was seen when it was saved.
        etag: Changes with each save.
    """

    name: str
    region: Region
    kind: str
    class_scope: tuple[int, ...]
    sample: str
    work_time_s: float
    comment: str
    base_sequence: int
    update_time: datetime | None
    etag: str

    @property
    def volume(self) -> str:
        return self.name.rpartition("/drafts/")[0]

    @classmethod
    def from_proto(cls, message: annotation_pb2.Draft) -> Draft:
        content = message.annotation
        return cls(
            message.name,
            region_from_proto(content.region),
            _word(annotation_pb2.Annotation.Kind, content.kind),
            tuple(content.class_scope),
            content.sample,
            content.work_time_s,
            content.comment,
            message.base_sequence,
            _time(message.update_time),
            message.etag,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A region that was proposed for annotation, with the holder's lease."""

    name: str
    volume: str
    region: Region
    state: str
    strategy: str
    score: float
    rank: int
    model: str
    score_layer: str
    lease_token: str
    holder: str
    expire_time: datetime | None
    annotation: str
    skip_reason: str
    notice: str

    @classmethod
    def from_proto(cls, message: sampler_pb2.Sample) -> Sample:
        return cls(
            message.name,
            message.volume,
            region_from_proto(message.region),
            _word(sampler_pb2.Sample.State, message.state),
            message.strategy,
            message.score,
            message.rank,
            message.model,
            message.score_layer,
            message.lease.token,
            message.lease.holder,
            _time(message.lease.expire_time),
            message.annotation,
            message.skip_reason,
            message.notice,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """Samples that were leased to the caller, best first, and what the annotator should know."""

    samples: tuple[Sample, ...]
    notice: str


@dataclass(frozen=True, slots=True)
class Pool:
    """How samples of a project are chosen, and by which model."""

    name: str
    strategies: tuple[tuple[str, float], ...]
    volumes: tuple[str, ...]
    excluded: tuple[tuple[str, Region], ...]
    sample_shape: Index | None
    slice_distance: int
    lease_duration_s: float
    manual_training: bool
    train_after_annotations: int
    seed: int
    scored_model: str
    latest_model: str
    active_job: str
    failure: str
    open_candidates: int
    etag: str

    @classmethod
    def from_proto(cls, message: sampler_pb2.Pool) -> Pool:
        return cls(
            message.name,
            tuple((item.strategy, item.share) for item in message.strategies),
            tuple(message.volumes),
            tuple((item.volume, region_from_proto(item.region)) for item in message.excluded),
            index_from_proto(message.sample_shape) if message.HasField("sample_shape") else None,
            message.slice_distance,
            message.lease_duration_s,
            message.retrain.manual,
            message.retrain.after_annotations,
            message.seed,
            message.scored_model,
            message.latest_model,
            message.active_job,
            message.failure,
            message.open_candidates,
            message.etag,
        )


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to rank the pool."""

    strategy: str
    description: str
    measures: tuple[str, ...]
    cold_start: bool


@dataclass(frozen=True, slots=True)
class ProjectProgress:
    """How far a project is; times in seconds, areas in voxels of level 0."""

    annotations: int
    new_annotations: int
    annotated_voxels: int
    annotations_by_author: dict[str, int]
    voxels_by_class: dict[int, int]
    samples_by_state: dict[str, int]
    work_time_s: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Model:
    """A network with weights: one immutable version."""

    name: str
    project: str
    display_name: str
    version: int
    parent: str
    network: str
    class_values: tuple[int, ...]
    working_resolution_nm: float
    annotations: tuple[str, ...]
    annotation_count: int
    config: dict[str, Any]
    metrics: dict[str, float]
    job: str
    author: str
    create_time: datetime | None
    weights_sha256: str
    remarks: tuple[str, ...]

    @classmethod
    def from_proto(cls, message: trainer_pb2.Model) -> Model:
        return cls(
            message.name,
            message.project,
            message.display_name,
            message.version,
            message.parent,
            message.network,
            tuple(message.class_values),
            message.working_resolution_nm,
            tuple(message.annotations),
            message.annotation_count,
            MessageToDict(message.config),
            dict(message.metrics),
            message.job,
            message.author,
            _time(message.create_time),
            message.weights_sha256,
            tuple(message.remarks),
        )


@dataclass(frozen=True, slots=True)
class JobError:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """Long work. What it made is in `volume`, `model`, `layers`, `annotations` or `artifact`, as its kind has it."""

    name: str
    project: str
    kind: str
    state: JobState
    fraction: float
    step: str
    done: int
    total: int
    unit: str
    eta_s: float
    owner: str
    attempt: int
    error: JobError | None
    volume: str
    model: str
    layers: tuple[str, ...]
    artifact: str
    annotations: tuple[str, ...]
    metrics: dict[str, float]
    revision: int
    queue_position: int
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None

    @classmethod
    def from_proto(cls, message: job_pb2.Job) -> Job:
        progress, result = message.progress, message.result
        return cls(
            message.name,
            message.project,
            message.spec.WhichOneof("kind") or "",
            JobState(_word(job_pb2.Job.State, message.state)),
            progress.fraction,
            progress.step,
            progress.done,
            progress.total,
            progress.unit,
            progress.eta_s,
            message.owner,
            message.attempt,
            JobError(message.error.reason, message.error.message) if message.HasField("error") else None,
            result.volume,
            result.model,
            tuple(result.layers),
            result.artifact,
            tuple(result.annotations),
            dict(message.metrics),
            message.revision,
            message.queue_position,
            _time(message.create_time),
            _time(message.start_time),
            _time(message.end_time),
        )


@dataclass(frozen=True, slots=True)
class JobLogLine:
    line: int
    time: datetime | None
    attempt: int
    text: str


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


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Health is serving, not_serving or unreachable."""

    service: str
    health: str
    version: str
    address: str

    @classmethod
    def from_proto(cls, message: platform_pb2.ServiceStatus) -> ServiceStatus:
        return cls(
            message.service,
            _word(platform_pb2.ServiceStatus.Health, message.health),
            message.version,
            message.address,
        )


@dataclass(frozen=True, slots=True)
class User:
    name: str
    display_name: str
    is_admin: bool

    @classmethod
    def from_proto(cls, message: identity_pb2.User) -> User:
        return cls(message.name, message.display_name, message.is_admin)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; `secret` is known only when it is made."""

    name: str
    display_name: str
    create_time: datetime | None
    expire_time: datetime | None
    last_use_time: datetime | None
    secret: str = ""

    @classmethod
    def from_proto(cls, message: identity_pb2.Token, secret: str = "") -> Token:
        return cls(
            message.name,
            message.display_name,
            _time(message.create_time),
            _time(message.expire_time),
            _time(message.last_use_time),
            secret,
        )


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects of the storage that nothing refers to; `prefixes` are the first 1000 of their places."""

    objects: int
    size_bytes: int
    prefixes: tuple[str, ...] = ()
