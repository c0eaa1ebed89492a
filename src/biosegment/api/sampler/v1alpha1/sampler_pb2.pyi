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
    __slots__ = ("name", "strategies", "volumes", "excluded", "sample_shape", "slice_distance", "lease_duration_s", "retrain", "seed", "scored_model", "latest_model", "active_job", "failure", "etag", "open_candidates")
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
    def __init__(self, name: _Optional[str] = ..., strategies: _Optional[_Iterable[_Union[StrategyShare, _Mapping]]] = ..., volumes: _Optional[_Iterable[str]] = ..., excluded: _Optional[_Iterable[_Union[VolumeRegion, _Mapping]]] = ..., sample_shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., slice_distance: _Optional[int] = ..., lease_duration_s: _Optional[float] = ..., retrain: _Optional[_Union[RetrainPolicy, _Mapping]] = ..., seed: _Optional[int] = ..., scored_model: _Optional[str] = ..., latest_model: _Optional[str] = ..., active_job: _Optional[str] = ..., failure: _Optional[str] = ..., etag: _Optional[str] = ..., open_candidates: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("name", "volume", "region", "state", "strategy", "score", "rank", "model", "score_layer", "seed", "lease", "annotation", "skip_reason", "notice", "create_time")
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
    def __init__(self, name: _Optional[str] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., state: _Optional[_Union[Sample.State, str]] = ..., strategy: _Optional[str] = ..., score: _Optional[float] = ..., rank: _Optional[int] = ..., model: _Optional[str] = ..., score_layer: _Optional[str] = ..., seed: _Optional[int] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., annotation: _Optional[str] = ..., skip_reason: _Optional[str] = ..., notice: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("token", "holder", "expire_time")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    token: str
    holder: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, token: _Optional[str] = ..., holder: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("parent", "count", "strategy", "volume", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    count: int
    strategy: str
    volume: str
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., count: _Optional[int] = ..., strategy: _Optional[str] = ..., volume: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ClaimSamplesResponse(_message.Message):
    __slots__ = ("samples", "notice")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    notice: str
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., notice: _Optional[str] = ...) -> None: ...

class CreateSampleRequest(_message.Message):
    __slots__ = ("parent", "volume", "region", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    volume: str
    region: _geometry_pb2.Region
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("parent", "states", "holder", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    states: _containers.RepeatedScalarFieldContainer[Sample.State]
    holder: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., states: _Optional[_Iterable[_Union[Sample.State, str]]] = ..., holder: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSamplesResponse(_message.Message):
    __slots__ = ("samples", "next_page_token")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    next_page_token: str
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

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

class TakeOverLeaseRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class TakeOverLeaseResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class GetProgressRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class GetProgressResponse(_message.Message):
    __slots__ = ("annotations", "new_annotations", "annotated_voxels", "annotations_by_author", "voxels_by_class", "samples_by_state", "work_time_s", "rounds")
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
    annotations: int
    new_annotations: int
    annotated_voxels: int
    annotations_by_author: _containers.ScalarMap[str, int]
    voxels_by_class: _containers.ScalarMap[int, int]
    samples_by_state: _containers.ScalarMap[str, int]
    work_time_s: float
    rounds: int
    def __init__(self, annotations: _Optional[int] = ..., new_annotations: _Optional[int] = ..., annotated_voxels: _Optional[int] = ..., annotations_by_author: _Optional[_Mapping[str, int]] = ..., voxels_by_class: _Optional[_Mapping[int, int]] = ..., samples_by_state: _Optional[_Mapping[str, int]] = ..., work_time_s: _Optional[float] = ..., rounds: _Optional[int] = ...) -> None: ...

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
