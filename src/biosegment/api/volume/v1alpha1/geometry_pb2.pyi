from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_INT8: _ClassVar[DataType]
    DATA_TYPE_UINT16: _ClassVar[DataType]
    DATA_TYPE_INT16: _ClassVar[DataType]
    DATA_TYPE_UINT32: _ClassVar[DataType]
    DATA_TYPE_UINT64: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_INT8: DataType
DATA_TYPE_UINT16: DataType
DATA_TYPE_INT16: DataType
DATA_TYPE_UINT32: DataType
DATA_TYPE_UINT64: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_FLOAT32: DataType

class Index(_message.Message):
    __slots__ = ("z", "y", "x")
    Z_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    z: int
    y: int
    x: int
    def __init__(self, z: _Optional[int] = ..., y: _Optional[int] = ..., x: _Optional[int] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: Index
    stop: Index
    def __init__(self, start: _Optional[_Union[Index, _Mapping]] = ..., stop: _Optional[_Union[Index, _Mapping]] = ...) -> None: ...

class VoxelSize(_message.Message):
    __slots__ = ("z_nm", "y_nm", "x_nm")
    Z_NM_FIELD_NUMBER: _ClassVar[int]
    Y_NM_FIELD_NUMBER: _ClassVar[int]
    X_NM_FIELD_NUMBER: _ClassVar[int]
    z_nm: float
    y_nm: float
    x_nm: float
    def __init__(self, z_nm: _Optional[float] = ..., y_nm: _Optional[float] = ..., x_nm: _Optional[float] = ...) -> None: ...

class ArrayChunk(_message.Message):
    __slots__ = ("header", "offset", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: ArrayHeader
    offset: int
    data: bytes
    def __init__(self, header: _Optional[_Union[ArrayHeader, _Mapping]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ArrayHeader(_message.Message):
    __slots__ = ("shape", "data_type")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    shape: Index
    data_type: DataType
    def __init__(self, shape: _Optional[_Union[Index, _Mapping]] = ..., data_type: _Optional[_Union[DataType, str]] = ...) -> None: ...
