"""What an import reads from: one 3D array in somebody's file, slab by slab."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region, VoxelSize

Voxels = npt.NDArray[Any]

ACCEPTED = ("uint8", "int8", "uint16", "int16", "float32")
"""Voxels of images."""

ACCEPTED_LABELS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
"""Voxels of label files: classes or instance ids."""

MAX_PLANE_BYTES = 4 << 30
"""A plane is decoded as a whole; what is larger is a damaged header more often than an image."""

SLAB_BYTES = 64 << 20
"""Most bytes of one read."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the importing person says about a file.

    Attributes:
        axes: Order of the file's axes, slowest first, in lower case (`zyx`, `tczyx`); '' as the file says.
        channel: Which channel to take, from 0; None: there must be only one.
        time_point: Which time point to take, from 0; None: there must be only one.
        dataset: Path of the array inside a container file; '' for the only one that can be a volume.
        accepted: Names of the dtypes that may come in.
        scratch_dir: Local folder for what must be unpacked before it can be read anywhere.
    """

    axes: str = ""
    channel: int | None = None
    time_point: int | None = None
    dataset: str = ""
    accepted: Collection[str] = ACCEPTED
    scratch_dir: Path = Path(tempfile.gettempdir())

    def written(self) -> dict[str, Any]:
        """As JSON, for the worker process."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "accepted": list(self.accepted), "scratch_dir": str(self.scratch_dir)}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> SourceOptions:
        """The inverse of `written`."""
        return cls(
            **{**values, "accepted": tuple(values["accepted"]), "scratch_dir": Path(values["scratch_dir"])}
        )


class VolumeSource(Protocol):
    """An open image; reads are blocking and may use several threads. The file is never written to."""

    @property
    def format(self) -> str:
        """For people: 'OME-TIFF', 'ImageJ TIFF', 'OME-Zarr 0.5' ..."""

    @property
    def shape(self) -> Index: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order; one of the accepted ones."""

    @property
    def voxel_size(self) -> VoxelSize | None:
        """None when the file does not tell it, or not along every axis."""

    @property
    def slab_planes(self) -> int:
        """How many planes are best read at a time."""

    def read_slab(self, start: int, stop: int) -> Voxels:
        """Planes `[start, stop)`, (stop - start, y, x), C order.

        Raises:
            InvalidArgument: UNREADABLE_FILE when the data cannot be decoded.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


@runtime_checkable
class RegionSource(VolumeSource, Protocol):
    """A source that can read a part of a plane, and into memory that is there already."""

    @property
    def region_rows(self) -> int:
        """Rows that are decoded together; the height of a plane when only whole planes can be decoded."""

    def read_into(self, region: Region, out: Voxels) -> None:
        """Read a region into `out`, an array of its shape and of the source's dtype.

        Raises:
            InvalidArgument: UNREADABLE_FILE when the data cannot be decoded.
        """


def read_into(source: VolumeSource, region: Region, out: Voxels) -> None:
    """Read a region of any source; one that is not a `RegionSource` decodes whole planes for it."""
    if isinstance(source, RegionSource):
        source.read_into(region, out)
        return
    planes, *rest = region.slices
    out[...] = source.read_slab(planes.start, planes.stop)[:, *rest]


def check_image(name: str, shape: Index, dtype: np.dtype[Any], accepted: Collection[str] = ACCEPTED) -> None:
    """Refuse what cannot become a volume, before anything is allocated.

    Raises:
        InvalidArgument: BAD_DTYPE or IMAGE_TOO_LARGE.
    """
    if dtype.name not in accepted:
        raise InvalidArgument(
            "BAD_DTYPE", f"{name!r} has {dtype.name} voxels: one of {', '.join(accepted)} is needed"
        )
    if min(shape) < 1 or shape.y * shape.x * dtype.itemsize > MAX_PLANE_BYTES:
        raise InvalidArgument(
            "IMAGE_TOO_LARGE",
            f"{name!r} claims the shape {tuple(shape)} (zyx): a plane of more than {MAX_PLANE_BYTES} bytes",
        )


def slab_planes(shape: Index, dtype: np.dtype[Any], wanted: int) -> int:
    """`wanted` planes, or as many as `SLAB_BYTES` hold, at least one."""
    return max(1, min(wanted, shape.z, SLAB_BYTES // (shape.y * shape.x * dtype.itemsize)))


def unreadable(name: str, why: object) -> InvalidArgument:
    """The error for a file that cannot be decoded."""
    return InvalidArgument(
        "UNREADABLE_FILE", f"{name!r} cannot be read: {why}; check the file or export it again"
    )
