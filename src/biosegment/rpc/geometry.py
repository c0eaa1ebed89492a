"""Between the value types of `biosegment.volume` and their messages."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from biosegment.api.volume.v1alpha1 import geometry_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region, VoxelSize

_DTYPES: Final[dict[pb.DataType, str]] = {
    pb.DATA_TYPE_UINT8: "uint8",
    pb.DATA_TYPE_INT8: "int8",
    pb.DATA_TYPE_UINT16: "uint16",
    pb.DATA_TYPE_INT16: "int16",
    pb.DATA_TYPE_UINT32: "uint32",
    pb.DATA_TYPE_UINT64: "uint64",
    pb.DATA_TYPE_FLOAT16: "float16",
    pb.DATA_TYPE_FLOAT32: "float32",
}
_DATA_TYPES: Final = {name: number for number, name in _DTYPES.items()}


def index_to_proto(index: tuple[int, int, int]) -> pb.Index:
    z, y, x = index
    return pb.Index(z=int(z), y=int(y), x=int(x))


def index_from_proto(message: pb.Index) -> Index:
    return Index(message.z, message.y, message.x)


def region_to_proto(region: Region) -> pb.Region:
    return pb.Region(start=index_to_proto(region.start), stop=index_to_proto(region.stop))


def region_from_proto(message: pb.Region) -> Region:
    """Raises InvalidArgument BAD_REGION for an empty or negative box."""
    return Region(index_from_proto(message.start), index_from_proto(message.stop))


def voxel_size_to_proto(voxel_size: VoxelSize) -> pb.VoxelSize:
    return pb.VoxelSize(z_nm=voxel_size.z_nm, y_nm=voxel_size.y_nm, x_nm=voxel_size.x_nm)


def voxel_size_from_proto(message: pb.VoxelSize) -> VoxelSize:
    """Raises InvalidArgument BAD_VOXEL_SIZE unless all are positive."""
    return VoxelSize(message.z_nm, message.y_nm, message.x_nm)


def data_type_to_proto(dtype: np.dtype[Any] | str) -> pb.DataType:
    """Raises InvalidArgument BAD_DATA_TYPE for types that the platform does not store."""
    name = np.dtype(dtype).name
    if name not in _DATA_TYPES:
        raise InvalidArgument("BAD_DATA_TYPE", f"element type {name} is none of {', '.join(_DATA_TYPES)}")
    return _DATA_TYPES[name]


def data_type_from_proto(value: pb.DataType) -> np.dtype[Any]:
    """Raises InvalidArgument BAD_DATA_TYPE when unspecified or unknown."""
    if value not in _DTYPES:
        raise InvalidArgument("BAD_DATA_TYPE", f"element type number {value} is not set or not known")
    return np.dtype(_DTYPES[value])
