"""What is proposed for annotation, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.client.resources.wire import time_of, word_of
from biosegment.rpc.geometry import index_from_proto, region_from_proto
from biosegment.volume import Index, Region


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """Something that happened to a sample: annotated, accepted, rejected, reverted, skipped, flagged ..."""

    time: datetime | None
    user: str
    action: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A region that was proposed for annotation, with the holder's lease.

    `purpose` is annotate, correct or second; for `second` show nothing of what the annotations layer has there.
    `flag` is a question that waits for an answer. `earlier_annotation` names what to load and go on from.
    Why it was proposed: `strategy` chose it as number `rank` of its batch for its `score` (larger was better), by what
    `model` says; `score_layer` shows that, in `score_region`, voxels of that layer.
    """

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
    holder_name: str = ""
    session: str = ""
    purpose: str = ""
    activity_time: datetime | None = None
    heartbeat_time: datetime | None = None
    skipped_by: str = ""
    flag: str = ""
    flagged_by: str = ""
    earlier_annotation: str = ""
    events: tuple[SampleEvent, ...] = ()
    score_region: Region | None = None

    @classmethod
    def from_proto(cls, message: sampler_pb2.Sample) -> Sample:
        lease = message.lease
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
            lease.token,
            lease.holder,
            time_of(lease.expire_time),
            message.annotation,
            message.skip_reason,
            message.notice,
            lease.holder_name,
            lease.session,
            word_of(sampler_pb2.Lease.Purpose, lease.purpose) if lease.holder else "",
            time_of(lease.activity_time),
            time_of(lease.heartbeat_time),
            message.skipped_by,
            message.flag.text,
            message.flag.user,
            message.earlier_annotation,
            tuple(
                SampleEvent(
                    time_of(each.time),
                    each.user,
                    word_of(sampler_pb2.SampleEvent.Action, each.action),
                    each.text,
                )
                for each in message.events
            ),
            region_from_proto(message.score_region) if message.HasField("score_region") else None,
        )


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """Why there are no more samples now: samples by who holds them, and other counts; and what can be done.

    `suggestions` are some of claim_again, review, answer_flags, release_skipped, other_window, wait, choose_region,
    widen_pool, add_volume, the nearest first.
    """

    held: dict[str, int]
    skipped: int
    flagged: int
    awaiting_review: int
    annotations: int
    excluded: int
    suggestions: tuple[str, ...]

    @classmethod
    def from_proto(cls, message: sampler_pb2.Exhaustion) -> Exhaustion:
        return cls(
            dict(message.held),
            message.skipped,
            message.flagged,
            message.awaiting_review,
            message.annotations,
            message.excluded,
            tuple(word_of(sampler_pb2.Exhaustion.Suggestion, each) for each in message.suggestions),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """Samples that were leased to the caller, best first, and what the annotator should know.

    `exhaustion` is set when there were fewer than asked for.
    """

    samples: tuple[Sample, ...]
    notice: str
    exhaustion: Exhaustion | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """An annotation of somebody else that the caller is to review."""

    annotation: str
    volume: str
    region: Region
    author: str
    sample: str
    create_time: datetime | None
    holder: str
    expire_time: datetime | None

    @classmethod
    def from_proto(cls, message: sampler_pb2.Review) -> Review:
        return cls(
            message.annotation,
            message.volume,
            region_from_proto(message.region),
            message.author,
            message.sample,
            time_of(message.create_time),
            message.holder,
            time_of(message.expire_time),
        )


@dataclass(frozen=True, slots=True)
class ReviewClaim:
    """Annotations to review, oldest first; `waiting` counts those that wait beside them."""

    reviews: tuple[Review, ...]
    notice: str
    waiting: int


@dataclass(frozen=True, slots=True)
class LostSample:
    """A sample that the client believed to hold: who has it now, and what to tell the user."""

    name: str
    holder: str
    notice: str


@dataclass(frozen=True, slots=True)
class Session:
    """All that a window holds, with new leases, and what it lost."""

    samples: tuple[Sample, ...]
    reviews: tuple[Review, ...]
    lost: tuple[LostSample, ...]


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Voxels where both say a class, where at least one does, and their ratio; 1 when neither does."""

    class_value: int
    intersection_voxels: int
    union_voxels: int
    iou: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two annotations of one sample agree, in the voxels where both say something."""

    sample: str
    first: str
    second: str
    first_author: str
    second_author: str
    compared_voxels: int
    agreed_voxels: int
    classes: tuple[ClassAgreement, ...]

    @classmethod
    def from_proto(cls, message: sampler_pb2.Agreement) -> Agreement:
        return cls(
            message.sample,
            message.first,
            message.second,
            message.first_author,
            message.second_author,
            message.compared_voxels,
            message.agreed_voxels,
            _classes(message.classes),
        )


@dataclass(frozen=True, slots=True)
class AuthorAgreement:
    """How far two annotators agree over all samples that both annotated; sums of voxels."""

    first_author: str
    second_author: str
    samples: int
    compared_voxels: int
    agreed_voxels: int
    classes: tuple[ClassAgreement, ...]

    @classmethod
    def from_proto(cls, message: sampler_pb2.AuthorAgreement) -> AuthorAgreement:
        return cls(
            message.first_author,
            message.second_author,
            message.samples,
            message.compared_voxels,
            message.agreed_voxels,
            _classes(message.classes),
        )


@dataclass(frozen=True, slots=True)
class Agreements:
    """Agreements by sample, newest first, and by annotators; `pending` pairs are not compared yet."""

    samples: tuple[Agreement, ...]
    authors: tuple[AuthorAgreement, ...]
    pending: int


def _classes(messages: Iterable[sampler_pb2.ClassAgreement]) -> tuple[ClassAgreement, ...]:
    return tuple(
        ClassAgreement(each.class_value, each.intersection_voxels, each.union_voxels, each.iou)
        for each in messages
    )


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
    train_after_idle_s: float
    seed: int
    scored_model: str
    latest_model: str
    active_job: str
    failure: str
    open_candidates: int
    etag: str
    heartbeat_timeout_s: float
    second_annotator_share: float

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
            message.retrain.after_idle_s,
            message.seed,
            message.scored_model,
            message.latest_model,
            message.active_job,
            message.failure,
            message.open_candidates,
            message.etag,
            message.heartbeat_timeout_s,
            message.second_annotator_share,
        )


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to rank the pool."""

    strategy: str
    description: str
    measures: tuple[str, ...]
    cold_start: bool
