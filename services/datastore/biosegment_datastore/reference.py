"""Volumes whose voxels stay where they are: somebody's OME-Zarr below an import root, read and never written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biosegment.volume import Index


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a volume's image is, and which part of its arrays the volume is.

    Attributes:
        path: Folder of the image's group, absolute, symbolic links resolved. Paths of levels are below it.
        zarr_format: 2 or 3.
        fixed: For every axis of the arrays its index, or None for z, y and x.
        order: Positions of z, y and x among the axes.
    """

    path: Path
    zarr_format: int
    fixed: tuple[int | None, ...]
    order: tuple[int, int, int]

    @property
    def uri(self) -> str:
        """For people, and for readers on the same machine."""
        return self.path.as_uri()

    def written(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "path": str(self.path),
            "zarr_format": self.zarr_format,
            "fixed": list(self.fixed),
            "order": list(self.order),
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Reference:
        """The inverse of `written`."""
        z, y, x = values["order"]
        return cls(Path(values["path"]), values["zarr_format"], tuple(values["fixed"]), (z, y, x))


@dataclass(frozen=True, slots=True)
class ReferencedLevel:
    """One level of such a volume, with what its array must still be.

    Attributes:
        volume: Resource name.
        reference: Of the volume.
        path: Of the array below the reference's folder.
        shape: zyx.
        data_type: NumPy name.
    """

    volume: str
    reference: Reference
    path: str
    shape: Index
    data_type: str

    def written(self) -> dict[str, Any]:
        """As JSON, for the worker process."""
        return {
            "volume": self.volume,
            "reference": self.reference.written(),
            "path": self.path,
            "shape": list(self.shape),
            "data_type": self.data_type,
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> ReferencedLevel:
        """The inverse of `written`."""
        return cls(
            values["volume"],
            Reference.read(values["reference"]),
            values["path"],
            Index(*values["shape"]),
            values["data_type"],
        )
