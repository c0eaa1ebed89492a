import datetime

from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Volume(_message.Message):
    __slots__ = ("name", "display_name", "shape", "data_type", "voxel_size", "levels", "uri", "source", "display_window", "create_time", "update_time", "etag", "creator", "reference")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    VOXEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_WINDOW_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    shape: _geometry_pb2.Index
    data_type: _geometry_pb2.DataType
    voxel_size: _geometry_pb2.VoxelSize
    levels: _containers.RepeatedCompositeFieldContainer[Level]
    uri: str
    source: str
    display_window: DisplayWindow
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    creator: str
    reference: bool
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., data_type: _Optional[_Union[_geometry_pb2.DataType, str]] = ..., voxel_size: _Optional[_Union[_geometry_pb2.VoxelSize, _Mapping]] = ..., levels: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., uri: _Optional[str] = ..., source: _Optional[str] = ..., display_window: _Optional[_Union[DisplayWindow, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., creator: _Optional[str] = ..., reference: bool = ...) -> None: ...

class Level(_message.Message):
    __slots__ = ("shape", "downsampling", "path")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DOWNSAMPLING_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    shape: _geometry_pb2.Index
    downsampling: _geometry_pb2.Index
    path: str
    def __init__(self, shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., downsampling: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., path: _Optional[str] = ...) -> None: ...

class DisplayWindow(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class SliceStatistics(_message.Message):
    __slots__ = ("mean", "std")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "display_name", "kind", "state", "data_type", "downsampling", "shape", "class_value", "measure", "model", "job", "attempt", "uri", "region", "projected_sequence", "create_time", "commit_time", "chunk_shape", "shard_shape", "channels", "source_layer", "edit_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Layer.Kind]
        KIND_ANNOTATIONS: _ClassVar[Layer.Kind]
        KIND_PROBABILITIES: _ClassVar[Layer.Kind]
        KIND_LABELS: _ClassVar[Layer.Kind]
        KIND_INSTANCES: _ClassVar[Layer.Kind]
        KIND_SCORE_MAP: _ClassVar[Layer.Kind]
    KIND_UNSPECIFIED: Layer.Kind
    KIND_ANNOTATIONS: Layer.Kind
    KIND_PROBABILITIES: Layer.Kind
    KIND_LABELS: Layer.Kind
    KIND_INSTANCES: Layer.Kind
    KIND_SCORE_MAP: Layer.Kind
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Layer.State]
        STATE_WRITING: _ClassVar[Layer.State]
        STATE_COMMITTED: _ClassVar[Layer.State]
    STATE_UNSPECIFIED: Layer.State
    STATE_WRITING: Layer.State
    STATE_COMMITTED: Layer.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DOWNSAMPLING_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROJECTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TIME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARD_SHAPE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LAYER_FIELD_NUMBER: _ClassVar[int]
    EDIT_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    kind: Layer.Kind
    state: Layer.State
    data_type: _geometry_pb2.DataType
    downsampling: _geometry_pb2.Index
    shape: _geometry_pb2.Index
    class_value: int
    measure: str
    model: str
    job: str
    attempt: int
    uri: str
    region: _geometry_pb2.Region
    projected_sequence: int
    create_time: _timestamp_pb2.Timestamp
    commit_time: _timestamp_pb2.Timestamp
    chunk_shape: _geometry_pb2.Index
    shard_shape: _geometry_pb2.Index
    channels: int
    source_layer: str
    edit_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., kind: _Optional[_Union[Layer.Kind, str]] = ..., state: _Optional[_Union[Layer.State, str]] = ..., data_type: _Optional[_Union[_geometry_pb2.DataType, str]] = ..., downsampling: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., class_value: _Optional[int] = ..., measure: _Optional[str] = ..., model: _Optional[str] = ..., job: _Optional[str] = ..., attempt: _Optional[int] = ..., uri: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., projected_sequence: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., commit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., chunk_shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., shard_shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., channels: _Optional[int] = ..., source_layer: _Optional[str] = ..., edit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("name", "file_name", "size_bytes", "received_bytes", "expire_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    file_name: str
    size_bytes: int
    received_bytes: int
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., file_name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("name", "file_name", "size_bytes", "sha256", "media_type", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    file_name: str
    size_bytes: int
    sha256: str
    media_type: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., file_name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., media_type: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
