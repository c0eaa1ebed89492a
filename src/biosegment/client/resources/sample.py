"""What is proposed for annotation, and how."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.client.resources.wire import time_of, word_of
from biosegment.rpc.geometry import index_from_proto, region_from_proto
from biosegment.volume import Index, Region


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
            word_of(sampler_pb2.Sample.State, message.state),
            message.strategy,
            message.score,
            message.rank,
            message.model,
            message.score_layer,
            message.lease.token,
            message.lease.holder,
            time_of(message.lease.expire_time),
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
