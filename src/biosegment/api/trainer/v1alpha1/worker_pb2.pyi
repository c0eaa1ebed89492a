import datetime

from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportProgressRequest(_message.Message):
    __slots__ = ("job", "attempt", "fraction", "step", "done", "total", "unit", "metrics", "log")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    job: str
    attempt: int
    fraction: float
    step: str
    done: int
    total: int
    unit: str
    metrics: _containers.ScalarMap[str, float]
    log: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., attempt: _Optional[int] = ..., fraction: _Optional[float] = ..., step: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., log: _Optional[_Iterable[str]] = ...) -> None: ...

class ReportProgressResponse(_message.Message):
    __slots__ = ("cancel",)
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    cancel: bool
    def __init__(self, cancel: bool = ...) -> None: ...

class ReadVoxelsRequest(_message.Message):
    __slots__ = ("job", "attempt", "volume", "region", "as_of")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    job: str
    attempt: int
    volume: str
    region: _geometry_pb2.Region
    as_of: _timestamp_pb2.Timestamp
    def __init__(self, job: _Optional[str] = ..., attempt: _Optional[int] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReadVoxelsResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: _geometry_pb2.ArrayChunk
    def __init__(self, chunk: _Optional[_Union[_geometry_pb2.ArrayChunk, _Mapping]] = ...) -> None: ...
