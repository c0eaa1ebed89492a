import datetime

from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pool(_message.Message):
    __slots__ = ("name", "strategies", "volumes", "excluded", "sample_shape", "slice_distance", "lease_duration_s", "retrain", "seed", "scored_model", "latest_model", "active_job", "failure", "etag", "open_candidates", "heartbeat_timeout_s", "second_annotator_share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SLICE_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SCORED_MODEL_FIELD_NUMBER: _ClassVar[int]
    LATEST_MODEL_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_JOB_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    OPEN_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    SECOND_ANNOTATOR_SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    strategies: _containers.RepeatedCompositeFieldContainer[StrategyShare]
    volumes: _containers.RepeatedScalarFieldContainer[str]
    excluded: _containers.RepeatedCompositeFieldContainer[VolumeRegion]
    sample_shape: _geometry_pb2.Index
    slice_distance: int
    lease_duration_s: float
    retrain: RetrainPolicy
    seed: int
    scored_model: str
    latest_model: str
    active_job: str
    failure: str
    etag: str
    open_candidates: int
    heartbeat_timeout_s: float
    second_annotator_share: float
    def __init__(self, name: _Optional[str] = ..., strategies: _Optional[_Iterable[_Union[StrategyShare, _Mapping]]] = ..., volumes: _Optional[_Iterable[str]] = ..., excluded: _Optional[_Iterable[_Union[VolumeRegion, _Mapping]]] = ..., sample_shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., slice_distance: _Optional[int] = ..., lease_duration_s: _Optional[float] = ..., retrain: _Optional[_Union[RetrainPolicy, _Mapping]] = ..., seed: _Optional[int] = ..., scored_model: _Optional[str] = ..., latest_model: _Optional[str] = ..., active_job: _Optional[str] = ..., failure: _Optional[str] = ..., etag: _Optional[str] = ..., open_candidates: _Optional[int] = ..., heartbeat_timeout_s: _Optional[float] = ..., second_annotator_share: _Optional[float] = ...) -> None: ...

class StrategyShare(_message.Message):
    __slots__ = ("strategy", "share")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    share: float
    def __init__(self, strategy: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class VolumeRegion(_message.Message):
    __slots__ = ("volume", "region")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    volume: str
    region: _geometry_pb2.Region
    def __init__(self, volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ...) -> None: ...

class RetrainPolicy(_message.Message):
    __slots__ = ("manual", "after_annotations", "after_idle_s")
    MANUAL_FIELD_NUMBER: _ClassVar[int]
    AFTER_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    AFTER_IDLE_S_FIELD_NUMBER: _ClassVar[int]
    manual: bool
    after_annotations: int
    after_idle_s: float
    def __init__(self, manual: bool = ..., after_annotations: _Optional[int] = ..., after_idle_s: _Optional[float] = ...) -> None: ...

class Strategy(_message.Message):
    __slots__ = ("strategy", "description", "measures", "cold_start")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    description: str
    measures: _containers.RepeatedScalarFieldContainer[str]
    cold_start: bool
    def __init__(self, strategy: _Optional[str] = ..., description: _Optional[str] = ..., measures: _Optional[_Iterable[str]] = ..., cold_start: bool = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("name", "volume", "region", "state", "strategy", "score", "rank", "model", "score_layer", "seed", "lease", "annotation", "skip_reason", "notice", "create_time", "score_region", "flag", "events", "earlier_annotation", "skipped_by")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Sample.State]
        STATE_LEASED: _ClassVar[Sample.State]
        STATE_ANNOTATED: _ClassVar[Sample.State]
        STATE_SKIPPED: _ClassVar[Sample.State]
        STATE_OPEN: _ClassVar[Sample.State]
    STATE_UNSPECIFIED: Sample.State
    STATE_LEASED: Sample.State
    STATE_ANNOTATED: Sample.State
    STATE_SKIPPED: Sample.State
    STATE_OPEN: Sample.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_LAYER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    SKIP_REASON_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SCORE_REGION_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EARLIER_ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    volume: str
    region: _geometry_pb2.Region
    state: Sample.State
    strategy: str
    score: float
    rank: int
    model: str
    score_layer: str
    seed: int
    lease: Lease
    annotation: str
    skip_reason: str
    notice: str
    create_time: _timestamp_pb2.Timestamp
    score_region: _geometry_pb2.Region
    flag: Flag
    events: _containers.RepeatedCompositeFieldContainer[SampleEvent]
    earlier_annotation: str
    skipped_by: str
    def __init__(self, name: _Optional[str] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., state: _Optional[_Union[Sample.State, str]] = ..., strategy: _Optional[str] = ..., score: _Optional[float] = ..., rank: _Optional[int] = ..., model: _Optional[str] = ..., score_layer: _Optional[str] = ..., seed: _Optional[int] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., annotation: _Optional[str] = ..., skip_reason: _Optional[str] = ..., notice: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., score_region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., flag: _Optional[_Union[Flag, _Mapping]] = ..., events: _Optional[_Iterable[_Union[SampleEvent, _Mapping]]] = ..., earlier_annotation: _Optional[str] = ..., skipped_by: _Optional[str] = ...) -> None: ...

class Flag(_message.Message):
    __slots__ = ("text", "user", "create_time")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    text: str
    user: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, text: _Optional[str] = ..., user: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SampleEvent(_message.Message):
    __slots__ = ("time", "user", "action", "text")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[SampleEvent.Action]
        ACTION_ANNOTATED: _ClassVar[SampleEvent.Action]
        ACTION_ACCEPTED: _ClassVar[SampleEvent.Action]
        ACTION_REJECTED: _ClassVar[SampleEvent.Action]
        ACTION_REVERTED: _ClassVar[SampleEvent.Action]
        ACTION_SKIPPED: _ClassVar[SampleEvent.Action]
        ACTION_RELEASED: _ClassVar[SampleEvent.Action]
        ACTION_FLAGGED: _ClassVar[SampleEvent.Action]
        ACTION_UNFLAGGED: _ClassVar[SampleEvent.Action]
        ACTION_RESUMED: _ClassVar[SampleEvent.Action]
        ACTION_TAKEN_OVER: _ClassVar[SampleEvent.Action]
    ACTION_UNSPECIFIED: SampleEvent.Action
    ACTION_ANNOTATED: SampleEvent.Action
    ACTION_ACCEPTED: SampleEvent.Action
    ACTION_REJECTED: SampleEvent.Action
    ACTION_REVERTED: SampleEvent.Action
    ACTION_SKIPPED: SampleEvent.Action
    ACTION_RELEASED: SampleEvent.Action
    ACTION_FLAGGED: SampleEvent.Action
    ACTION_UNFLAGGED: SampleEvent.Action
    ACTION_RESUMED: SampleEvent.Action
    ACTION_TAKEN_OVER: SampleEvent.Action
    TIME_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    user: str
    action: SampleEvent.Action
    text: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., user: _Optional[str] = ..., action: _Optional[_Union[SampleEvent.Action, str]] = ..., text: _Optional[str] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("token", "holder", "expire_time", "holder_name", "session", "activity_time", "heartbeat_time", "purpose")
    class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PURPOSE_UNSPECIFIED: _ClassVar[Lease.Purpose]
        PURPOSE_ANNOTATE: _ClassVar[Lease.Purpose]
        PURPOSE_CORRECT: _ClassVar[Lease.Purpose]
        PURPOSE_SECOND: _ClassVar[Lease.Purpose]
    PURPOSE_UNSPECIFIED: Lease.Purpose
    PURPOSE_ANNOTATE: Lease.Purpose
    PURPOSE_CORRECT: Lease.Purpose
    PURPOSE_SECOND: Lease.Purpose
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_NAME_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_TIME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    token: str
    holder: str
    expire_time: _timestamp_pb2.Timestamp
    holder_name: str
    session: str
    activity_time: _timestamp_pb2.Timestamp
    heartbeat_time: _timestamp_pb2.Timestamp
    purpose: Lease.Purpose
    def __init__(self, token: _Optional[str] = ..., holder: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., holder_name: _Optional[str] = ..., session: _Optional[str] = ..., activity_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., heartbeat_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purpose: _Optional[_Union[Lease.Purpose, str]] = ...) -> None: ...

class GetPoolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetPoolResponse(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: Pool
    def __init__(self, pool: _Optional[_Union[Pool, _Mapping]] = ...) -> None: ...

class UpdatePoolRequest(_message.Message):
    __slots__ = ("pool", "update_mask")
    POOL_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    pool: Pool
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, pool: _Optional[_Union[Pool, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdatePoolResponse(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: Pool
    def __init__(self, pool: _Optional[_Union[Pool, _Mapping]] = ...) -> None: ...

class ListStrategiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStrategiesResponse(_message.Message):
    __slots__ = ("strategies",)
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    strategies: _containers.RepeatedCompositeFieldContainer[Strategy]
    def __init__(self, strategies: _Optional[_Iterable[_Union[Strategy, _Mapping]]] = ...) -> None: ...

class ClaimSamplesRequest(_message.Message):
    __slots__ = ("parent", "count", "strategy", "volume", "request_id", "session", "heartbeat")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    count: int
    strategy: str
    volume: str
    request_id: str
    session: str
    heartbeat: bool
    def __init__(self, parent: _Optional[str] = ..., count: _Optional[int] = ..., strategy: _Optional[str] = ..., volume: _Optional[str] = ..., request_id: _Optional[str] = ..., session: _Optional[str] = ..., heartbeat: bool = ...) -> None: ...

class ClaimSamplesResponse(_message.Message):
    __slots__ = ("samples", "notice", "exhaustion")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTION_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    notice: str
    exhaustion: Exhaustion
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., notice: _Optional[str] = ..., exhaustion: _Optional[_Union[Exhaustion, _Mapping]] = ...) -> None: ...

class Exhaustion(_message.Message):
    __slots__ = ("held", "skipped", "flagged", "awaiting_review", "annotations", "excluded", "suggestions")
    class Suggestion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SUGGESTION_UNSPECIFIED: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_REVIEW: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_ANSWER_FLAGS: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_RELEASE_SKIPPED: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_OTHER_WINDOW: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_WAIT: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_CHOOSE_REGION: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_WIDEN_POOL: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_ADD_VOLUME: _ClassVar[Exhaustion.Suggestion]
        SUGGESTION_CLAIM_AGAIN: _ClassVar[Exhaustion.Suggestion]
    SUGGESTION_UNSPECIFIED: Exhaustion.Suggestion
    SUGGESTION_REVIEW: Exhaustion.Suggestion
    SUGGESTION_ANSWER_FLAGS: Exhaustion.Suggestion
    SUGGESTION_RELEASE_SKIPPED: Exhaustion.Suggestion
    SUGGESTION_OTHER_WINDOW: Exhaustion.Suggestion
    SUGGESTION_WAIT: Exhaustion.Suggestion
    SUGGESTION_CHOOSE_REGION: Exhaustion.Suggestion
    SUGGESTION_WIDEN_POOL: Exhaustion.Suggestion
    SUGGESTION_ADD_VOLUME: Exhaustion.Suggestion
    SUGGESTION_CLAIM_AGAIN: Exhaustion.Suggestion
    class HeldEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    HELD_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    AWAITING_REVIEW_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    held: _containers.ScalarMap[str, int]
    skipped: int
    flagged: int
    awaiting_review: int
    annotations: int
    excluded: int
    suggestions: _containers.RepeatedScalarFieldContainer[Exhaustion.Suggestion]
    def __init__(self, held: _Optional[_Mapping[str, int]] = ..., skipped: _Optional[int] = ..., flagged: _Optional[int] = ..., awaiting_review: _Optional[int] = ..., annotations: _Optional[int] = ..., excluded: _Optional[int] = ..., suggestions: _Optional[_Iterable[_Union[Exhaustion.Suggestion, str]]] = ...) -> None: ...

class CreateSampleRequest(_message.Message):
    __slots__ = ("parent", "volume", "region", "request_id", "session", "heartbeat")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    volume: str
    region: _geometry_pb2.Region
    request_id: str
    session: str
    heartbeat: bool
    def __init__(self, parent: _Optional[str] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., request_id: _Optional[str] = ..., session: _Optional[str] = ..., heartbeat: bool = ...) -> None: ...

class CreateSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class GetSampleRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class ListSamplesRequest(_message.Message):
    __slots__ = ("parent", "states", "holder", "page_size", "page_token", "user", "flagged")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    parent: str
    states: _containers.RepeatedScalarFieldContainer[Sample.State]
    holder: str
    page_size: int
    page_token: str
    user: str
    flagged: bool
    def __init__(self, parent: _Optional[str] = ..., states: _Optional[_Iterable[_Union[Sample.State, str]]] = ..., holder: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., user: _Optional[str] = ..., flagged: bool = ...) -> None: ...

class ListSamplesResponse(_message.Message):
    __slots__ = ("samples", "next_page_token")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    next_page_token: str
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchSamplesRequest(_message.Message):
    __slots__ = ("parent", "resume_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    resume_token: str
    def __init__(self, parent: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class WatchSamplesResponse(_message.Message):
    __slots__ = ("sample", "resume_token")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    resume_token: str
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("name", "idle")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    idle: bool
    def __init__(self, name: _Optional[str] = ..., idle: bool = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class RenewSessionRequest(_message.Message):
    __slots__ = ("parent", "session", "active", "samples")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    parent: str
    session: str
    active: bool
    samples: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parent: _Optional[str] = ..., session: _Optional[str] = ..., active: bool = ..., samples: _Optional[_Iterable[str]] = ...) -> None: ...

class RenewSessionResponse(_message.Message):
    __slots__ = ("samples", "reviews", "lost")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    reviews: _containers.RepeatedCompositeFieldContainer[Review]
    lost: _containers.RepeatedCompositeFieldContainer[LostSample]
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., reviews: _Optional[_Iterable[_Union[Review, _Mapping]]] = ..., lost: _Optional[_Iterable[_Union[LostSample, _Mapping]]] = ...) -> None: ...

class LostSample(_message.Message):
    __slots__ = ("name", "holder", "notice")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    holder: str
    notice: str
    def __init__(self, name: _Optional[str] = ..., holder: _Optional[str] = ..., notice: _Optional[str] = ...) -> None: ...

class LeaveSessionRequest(_message.Message):
    __slots__ = ("parent", "session")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    parent: str
    session: str
    def __init__(self, parent: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class LeaveSessionResponse(_message.Message):
    __slots__ = ("samples", "reviews")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedScalarFieldContainer[str]
    reviews: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, samples: _Optional[_Iterable[str]] = ..., reviews: _Optional[_Iterable[str]] = ...) -> None: ...

class ReleaseSampleRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReleaseSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class SkipSampleRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SkipSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class FlagSampleRequest(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class FlagSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class UnflagSampleRequest(_message.Message):
    __slots__ = ("name", "answer")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    name: str
    answer: str
    def __init__(self, name: _Optional[str] = ..., answer: _Optional[str] = ...) -> None: ...

class UnflagSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class ResumeSampleRequest(_message.Message):
    __slots__ = ("name", "session", "heartbeat")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    name: str
    session: str
    heartbeat: bool
    def __init__(self, name: _Optional[str] = ..., session: _Optional[str] = ..., heartbeat: bool = ...) -> None: ...

class ResumeSampleResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class TakeOverLeaseRequest(_message.Message):
    __slots__ = ("name", "session", "heartbeat")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    name: str
    session: str
    heartbeat: bool
    def __init__(self, name: _Optional[str] = ..., session: _Optional[str] = ..., heartbeat: bool = ...) -> None: ...

class TakeOverLeaseResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class Review(_message.Message):
    __slots__ = ("annotation", "volume", "region", "author", "sample", "create_time", "holder", "expire_time")
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    annotation: str
    volume: str
    region: _geometry_pb2.Region
    author: str
    sample: str
    create_time: _timestamp_pb2.Timestamp
    holder: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, annotation: _Optional[str] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., author: _Optional[str] = ..., sample: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., holder: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ClaimReviewsRequest(_message.Message):
    __slots__ = ("parent", "count", "volume", "session", "heartbeat")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    count: int
    volume: str
    session: str
    heartbeat: bool
    def __init__(self, parent: _Optional[str] = ..., count: _Optional[int] = ..., volume: _Optional[str] = ..., session: _Optional[str] = ..., heartbeat: bool = ...) -> None: ...

class ClaimReviewsResponse(_message.Message):
    __slots__ = ("reviews", "notice", "waiting")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedCompositeFieldContainer[Review]
    notice: str
    waiting: int
    def __init__(self, reviews: _Optional[_Iterable[_Union[Review, _Mapping]]] = ..., notice: _Optional[str] = ..., waiting: _Optional[int] = ...) -> None: ...

class ReleaseReviewRequest(_message.Message):
    __slots__ = ("annotation",)
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    annotation: str
    def __init__(self, annotation: _Optional[str] = ...) -> None: ...

class ReleaseReviewResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClassAgreement(_message.Message):
    __slots__ = ("class_value", "intersection_voxels", "union_voxels", "iou")
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    INTERSECTION_VOXELS_FIELD_NUMBER: _ClassVar[int]
    UNION_VOXELS_FIELD_NUMBER: _ClassVar[int]
    IOU_FIELD_NUMBER: _ClassVar[int]
    class_value: int
    intersection_voxels: int
    union_voxels: int
    iou: float
    def __init__(self, class_value: _Optional[int] = ..., intersection_voxels: _Optional[int] = ..., union_voxels: _Optional[int] = ..., iou: _Optional[float] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("sample", "first", "second", "first_author", "second_author", "compared_voxels", "agreed_voxels", "classes")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    FIRST_AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SECOND_AUTHOR_FIELD_NUMBER: _ClassVar[int]
    COMPARED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    AGREED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    sample: str
    first: str
    second: str
    first_author: str
    second_author: str
    compared_voxels: int
    agreed_voxels: int
    classes: _containers.RepeatedCompositeFieldContainer[ClassAgreement]
    def __init__(self, sample: _Optional[str] = ..., first: _Optional[str] = ..., second: _Optional[str] = ..., first_author: _Optional[str] = ..., second_author: _Optional[str] = ..., compared_voxels: _Optional[int] = ..., agreed_voxels: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[ClassAgreement, _Mapping]]] = ...) -> None: ...

class AuthorAgreement(_message.Message):
    __slots__ = ("first_author", "second_author", "samples", "compared_voxels", "agreed_voxels", "classes")
    FIRST_AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SECOND_AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    COMPARED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    AGREED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    first_author: str
    second_author: str
    samples: int
    compared_voxels: int
    agreed_voxels: int
    classes: _containers.RepeatedCompositeFieldContainer[ClassAgreement]
    def __init__(self, first_author: _Optional[str] = ..., second_author: _Optional[str] = ..., samples: _Optional[int] = ..., compared_voxels: _Optional[int] = ..., agreed_voxels: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[ClassAgreement, _Mapping]]] = ...) -> None: ...

class ListAgreementsRequest(_message.Message):
    __slots__ = ("parent", "sample", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    sample: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., sample: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAgreementsResponse(_message.Message):
    __slots__ = ("agreements", "next_page_token", "authors", "pending")
    AGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    agreements: _containers.RepeatedCompositeFieldContainer[Agreement]
    next_page_token: str
    authors: _containers.RepeatedCompositeFieldContainer[AuthorAgreement]
    pending: int
    def __init__(self, agreements: _Optional[_Iterable[_Union[Agreement, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., authors: _Optional[_Iterable[_Union[AuthorAgreement, _Mapping]]] = ..., pending: _Optional[int] = ...) -> None: ...

class GetProgressRequest(_message.Message):
    __slots__ = ("parent", "flat_rounds", "flat_tolerance")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FLAT_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    FLAT_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    flat_rounds: int
    flat_tolerance: float
    def __init__(self, parent: _Optional[str] = ..., flat_rounds: _Optional[int] = ..., flat_tolerance: _Optional[float] = ...) -> None: ...

class GetProgressResponse(_message.Message):
    __slots__ = ("annotations", "new_annotations", "annotated_voxels", "annotations_by_author", "voxels_by_class", "samples_by_state", "work_time_s", "rounds", "measured_annotations", "median_work_time_s", "annotated_area_um2", "annotated_volume_um3", "authors", "classes", "days", "reviews", "models", "hint", "notice")
    class AnnotationsByAuthorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class VoxelsByClassEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class SamplesByStateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    NEW_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_BY_AUTHOR_FIELD_NUMBER: _ClassVar[int]
    VOXELS_BY_CLASS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_BY_STATE_FIELD_NUMBER: _ClassVar[int]
    WORK_TIME_S_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_WORK_TIME_S_FIELD_NUMBER: _ClassVar[int]
    ANNOTATED_AREA_UM2_FIELD_NUMBER: _ClassVar[int]
    ANNOTATED_VOLUME_UM3_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    annotations: int
    new_annotations: int
    annotated_voxels: int
    annotations_by_author: _containers.ScalarMap[str, int]
    voxels_by_class: _containers.ScalarMap[int, int]
    samples_by_state: _containers.ScalarMap[str, int]
    work_time_s: float
    rounds: int
    measured_annotations: int
    median_work_time_s: float
    annotated_area_um2: float
    annotated_volume_um3: float
    authors: _containers.RepeatedCompositeFieldContainer[AuthorProgress]
    classes: _containers.RepeatedCompositeFieldContainer[ClassProgress]
    days: _containers.RepeatedCompositeFieldContainer[DayProgress]
    reviews: ReviewCounts
    models: _containers.RepeatedCompositeFieldContainer[ModelProgress]
    hint: StoppingHint
    notice: str
    def __init__(self, annotations: _Optional[int] = ..., new_annotations: _Optional[int] = ..., annotated_voxels: _Optional[int] = ..., annotations_by_author: _Optional[_Mapping[str, int]] = ..., voxels_by_class: _Optional[_Mapping[int, int]] = ..., samples_by_state: _Optional[_Mapping[str, int]] = ..., work_time_s: _Optional[float] = ..., rounds: _Optional[int] = ..., measured_annotations: _Optional[int] = ..., median_work_time_s: _Optional[float] = ..., annotated_area_um2: _Optional[float] = ..., annotated_volume_um3: _Optional[float] = ..., authors: _Optional[_Iterable[_Union[AuthorProgress, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassProgress, _Mapping]]] = ..., days: _Optional[_Iterable[_Union[DayProgress, _Mapping]]] = ..., reviews: _Optional[_Union[ReviewCounts, _Mapping]] = ..., models: _Optional[_Iterable[_Union[ModelProgress, _Mapping]]] = ..., hint: _Optional[_Union[StoppingHint, _Mapping]] = ..., notice: _Optional[str] = ...) -> None: ...

class AuthorProgress(_message.Message):
    __slots__ = ("author", "annotations", "samples", "voxels", "voxels_by_class", "area_um2", "volume_um3", "measured_annotations", "work_time_s", "median_work_time_s", "reviews", "last_annotation_time")
    class VoxelsByClassEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    VOXELS_FIELD_NUMBER: _ClassVar[int]
    VOXELS_BY_CLASS_FIELD_NUMBER: _ClassVar[int]
    AREA_UM2_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UM3_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    WORK_TIME_S_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_WORK_TIME_S_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    LAST_ANNOTATION_TIME_FIELD_NUMBER: _ClassVar[int]
    author: str
    annotations: int
    samples: int
    voxels: int
    voxels_by_class: _containers.ScalarMap[int, int]
    area_um2: float
    volume_um3: float
    measured_annotations: int
    work_time_s: float
    median_work_time_s: float
    reviews: ReviewCounts
    last_annotation_time: _timestamp_pb2.Timestamp
    def __init__(self, author: _Optional[str] = ..., annotations: _Optional[int] = ..., samples: _Optional[int] = ..., voxels: _Optional[int] = ..., voxels_by_class: _Optional[_Mapping[int, int]] = ..., area_um2: _Optional[float] = ..., volume_um3: _Optional[float] = ..., measured_annotations: _Optional[int] = ..., work_time_s: _Optional[float] = ..., median_work_time_s: _Optional[float] = ..., reviews: _Optional[_Union[ReviewCounts, _Mapping]] = ..., last_annotation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ClassProgress(_message.Message):
    __slots__ = ("class_value", "annotations", "voxels", "area_um2", "volume_um3")
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    VOXELS_FIELD_NUMBER: _ClassVar[int]
    AREA_UM2_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UM3_FIELD_NUMBER: _ClassVar[int]
    class_value: int
    annotations: int
    voxels: int
    area_um2: float
    volume_um3: float
    def __init__(self, class_value: _Optional[int] = ..., annotations: _Optional[int] = ..., voxels: _Optional[int] = ..., area_um2: _Optional[float] = ..., volume_um3: _Optional[float] = ...) -> None: ...

class DayProgress(_message.Message):
    __slots__ = ("day", "annotations", "voxels", "authors", "measured_annotations", "work_time_s")
    DAY_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    VOXELS_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    WORK_TIME_S_FIELD_NUMBER: _ClassVar[int]
    day: str
    annotations: int
    voxels: int
    authors: int
    measured_annotations: int
    work_time_s: float
    def __init__(self, day: _Optional[str] = ..., annotations: _Optional[int] = ..., voxels: _Optional[int] = ..., authors: _Optional[int] = ..., measured_annotations: _Optional[int] = ..., work_time_s: _Optional[float] = ...) -> None: ...

class ReviewCounts(_message.Message):
    __slots__ = ("pending", "accepted", "rejected", "reverted")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REVERTED_FIELD_NUMBER: _ClassVar[int]
    pending: int
    accepted: int
    rejected: int
    reverted: int
    def __init__(self, pending: _Optional[int] = ..., accepted: _Optional[int] = ..., rejected: _Optional[int] = ..., reverted: _Optional[int] = ...) -> None: ...

class ModelProgress(_message.Message):
    __slots__ = ("model", "version", "display_name", "parent", "create_time", "deleted", "trained_annotations", "held_out_annotations", "iou", "parent_iou", "parent_kept", "classes", "new_agreements", "new_annotations", "new_voxels", "remarks")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    TRAINED_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    IOU_FIELD_NUMBER: _ClassVar[int]
    PARENT_IOU_FIELD_NUMBER: _ClassVar[int]
    PARENT_KEPT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    NEW_AGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    NEW_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    NEW_VOXELS_FIELD_NUMBER: _ClassVar[int]
    REMARKS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    display_name: str
    parent: str
    create_time: _timestamp_pb2.Timestamp
    deleted: bool
    trained_annotations: int
    held_out_annotations: int
    iou: float
    parent_iou: float
    parent_kept: bool
    classes: _containers.RepeatedCompositeFieldContainer[ClassIou]
    new_agreements: _containers.RepeatedCompositeFieldContainer[NewAgreement]
    new_annotations: int
    new_voxels: int
    remarks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., display_name: _Optional[str] = ..., parent: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deleted: bool = ..., trained_annotations: _Optional[int] = ..., held_out_annotations: _Optional[int] = ..., iou: _Optional[float] = ..., parent_iou: _Optional[float] = ..., parent_kept: bool = ..., classes: _Optional[_Iterable[_Union[ClassIou, _Mapping]]] = ..., new_agreements: _Optional[_Iterable[_Union[NewAgreement, _Mapping]]] = ..., new_annotations: _Optional[int] = ..., new_voxels: _Optional[int] = ..., remarks: _Optional[_Iterable[str]] = ...) -> None: ...

class ClassIou(_message.Message):
    __slots__ = ("class_name", "iou", "parent_iou")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    IOU_FIELD_NUMBER: _ClassVar[int]
    PARENT_IOU_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    iou: float
    parent_iou: float
    def __init__(self, class_name: _Optional[str] = ..., iou: _Optional[float] = ..., parent_iou: _Optional[float] = ...) -> None: ...

class NewAgreement(_message.Message):
    __slots__ = ("class_name", "iou", "error", "annotations")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    IOU_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    iou: float
    error: float
    annotations: int
    def __init__(self, class_name: _Optional[str] = ..., iou: _Optional[float] = ..., error: _Optional[float] = ..., annotations: _Optional[int] = ...) -> None: ...

class StoppingHint(_message.Message):
    __slots__ = ("verdict", "text", "curves")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[StoppingHint.Verdict]
        VERDICT_TOO_FEW: _ClassVar[StoppingHint.Verdict]
        VERDICT_RISING: _ClassVar[StoppingHint.Verdict]
        VERDICT_FALLING: _ClassVar[StoppingHint.Verdict]
        VERDICT_FLAT: _ClassVar[StoppingHint.Verdict]
        VERDICT_BLIND: _ClassVar[StoppingHint.Verdict]
    VERDICT_UNSPECIFIED: StoppingHint.Verdict
    VERDICT_TOO_FEW: StoppingHint.Verdict
    VERDICT_RISING: StoppingHint.Verdict
    VERDICT_FALLING: StoppingHint.Verdict
    VERDICT_FLAT: StoppingHint.Verdict
    VERDICT_BLIND: StoppingHint.Verdict
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CURVES_FIELD_NUMBER: _ClassVar[int]
    verdict: StoppingHint.Verdict
    text: str
    curves: _containers.RepeatedCompositeFieldContainer[AgreementCurve]
    def __init__(self, verdict: _Optional[_Union[StoppingHint.Verdict, str]] = ..., text: _Optional[str] = ..., curves: _Optional[_Iterable[_Union[AgreementCurve, _Mapping]]] = ...) -> None: ...

class AgreementCurve(_message.Message):
    __slots__ = ("class_name", "verdict", "text", "points")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    verdict: StoppingHint.Verdict
    text: str
    points: _containers.RepeatedCompositeFieldContainer[AgreementPoint]
    def __init__(self, class_name: _Optional[str] = ..., verdict: _Optional[_Union[StoppingHint.Verdict, str]] = ..., text: _Optional[str] = ..., points: _Optional[_Iterable[_Union[AgreementPoint, _Mapping]]] = ...) -> None: ...

class AgreementPoint(_message.Message):
    __slots__ = ("model", "version", "iou", "error", "annotations")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IOU_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    iou: float
    error: float
    annotations: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., iou: _Optional[float] = ..., error: _Optional[float] = ..., annotations: _Optional[int] = ...) -> None: ...

class RequestTrainingRequest(_message.Message):
    __slots__ = ("parent", "force", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    force: bool
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., force: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class RequestTrainingResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...
