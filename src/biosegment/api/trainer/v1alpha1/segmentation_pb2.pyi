from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Plane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLANE_UNSPECIFIED: _ClassVar[Plane]
    PLANE_XY: _ClassVar[Plane]
    PLANE_XZ: _ClassVar[Plane]
    PLANE_YZ: _ClassVar[Plane]
PLANE_UNSPECIFIED: Plane
PLANE_XY: Plane
PLANE_XZ: Plane
PLANE_YZ: Plane

class Click(_message.Message):
    __slots__ = ("position", "positive")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    position: _geometry_pb2.Index
    positive: bool
    def __init__(self, position: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., positive: bool = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("shape", "data_type", "data", "voxel_size")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    VOXEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    shape: _geometry_pb2.Index
    data_type: _geometry_pb2.DataType
    data: bytes
    voxel_size: _geometry_pb2.VoxelSize
    def __init__(self, shape: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., data_type: _Optional[_Union[_geometry_pb2.DataType, str]] = ..., data: _Optional[bytes] = ..., voxel_size: _Optional[_Union[_geometry_pb2.VoxelSize, _Mapping]] = ...) -> None: ...

class VolumeImage(_message.Message):
    __slots__ = ("volume", "region", "level")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    volume: str
    region: _geometry_pb2.Region
    level: int
    def __init__(self, volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., level: _Optional[int] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("project", "image", "volume_image", "model", "class_value", "clicks", "scribbles", "previous_mask", "plane", "base_layer", "base_sequence", "with_probability", "session", "draft", "network_features")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    CLICKS_FIELD_NUMBER: _ClassVar[int]
    SCRIBBLES_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_MASK_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    BASE_LAYER_FIELD_NUMBER: _ClassVar[int]
    BASE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WITH_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FEATURES_FIELD_NUMBER: _ClassVar[int]
    project: str
    image: Image
    volume_image: VolumeImage
    model: str
    class_value: int
    clicks: _containers.RepeatedCompositeFieldContainer[Click]
    scribbles: bytes
    previous_mask: bytes
    plane: Plane
    base_layer: str
    base_sequence: int
    with_probability: bool
    session: str
    draft: bool
    network_features: bool
    def __init__(self, project: _Optional[str] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., volume_image: _Optional[_Union[VolumeImage, _Mapping]] = ..., model: _Optional[str] = ..., class_value: _Optional[int] = ..., clicks: _Optional[_Iterable[_Union[Click, _Mapping]]] = ..., scribbles: _Optional[bytes] = ..., previous_mask: _Optional[bytes] = ..., plane: _Optional[_Union[Plane, str]] = ..., base_layer: _Optional[str] = ..., base_sequence: _Optional[int] = ..., with_probability: bool = ..., session: _Optional[str] = ..., draft: bool = ..., network_features: bool = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("mask", "probability", "changed", "level", "voxel_size", "model")
    MASK_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VOXEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    mask: bytes
    probability: bytes
    changed: _geometry_pb2.Region
    level: int
    voxel_size: _geometry_pb2.VoxelSize
    model: str
    def __init__(self, mask: _Optional[bytes] = ..., probability: _Optional[bytes] = ..., changed: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., level: _Optional[int] = ..., voxel_size: _Optional[_Union[_geometry_pb2.VoxelSize, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class SegmentByModelRequest(_message.Message):
    __slots__ = ("project", "image", "volume_image", "model")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    project: str
    image: Image
    volume_image: VolumeImage
    model: str
    def __init__(self, project: _Optional[str] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., volume_image: _Optional[_Union[VolumeImage, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class SegmentByModelResponse(_message.Message):
    __slots__ = ("labels", "model", "class_values")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_VALUES_FIELD_NUMBER: _ClassVar[int]
    labels: bytes
    model: str
    class_values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, labels: _Optional[bytes] = ..., model: _Optional[str] = ..., class_values: _Optional[_Iterable[int]] = ...) -> None: ...

class PrepareSegmentationRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class PrepareSegmentationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
