"""What an import reads from: one 3D image in somebody's file, slab by slab."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument, NotFound
from biosegment.volume import Index, VoxelSize

Voxels = npt.NDArray[Any]

ACCEPTED = ("uint8", "int8", "uint16", "int16", "float32")

MAX_PLANE_BYTES = 4 << 30
"""A plane is decoded as a whole; what is larger is a damaged header more often than an image."""

SLAB_BYTES = 64 << 20
"""Most bytes of one read."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class VolumeSource(Protocol):
    """An open image; reads are blocking and may use several threads. The file is never written to."""

    @property
    def format(self) -> str:
        """For people: 'OME-TIFF', 'ImageJ TIFF', 'OME-Zarr 0.5' ..."""

    @property
    def shape(self) -> Index: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order; one of `ACCEPTED`."""

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


def open_source(path: Path) -> VolumeSource:
    """Open a TIFF file or an OME-Zarr folder, told apart by content.

    Raises:
        NotFound: FILE_NOT_FOUND.
        InvalidArgument: UNKNOWN_FORMAT, UNREADABLE_FILE, TRUNCATED_FILE, NOT_A_VOLUME, BAD_DTYPE,
            IMAGE_TOO_LARGE.
    """
    from biosegment_datastore.omezarr_source import is_zarr_group, open_omezarr
    from biosegment_datastore.tiff import open_tiff

    if not path.exists():
        raise NotFound("FILE_NOT_FOUND", f"there is no file {str(path)!r} on the server")
    if path.is_dir():
        if is_zarr_group(path):
            return open_omezarr(path)
    else:
        with path.open("rb") as file:
            if file.read(4) in _TIFF_MAGIC:
                return open_tiff(path)
    raise InvalidArgument(
        "UNKNOWN_FORMAT",
        f"{path.name!r} is neither a TIFF file nor an OME-Zarr folder: convert it first",
    )


def check_image(name: str, shape: Index, dtype: np.dtype[Any]) -> None:
    """Refuse what cannot become a volume, before anything is allocated."""
    if dtype.name not in ACCEPTED:
        raise InvalidArgument(
            "BAD_DTYPE",
            f"{name!r} has {dtype.name} voxels: a volume needs one of {', '.join(ACCEPTED)}",
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
