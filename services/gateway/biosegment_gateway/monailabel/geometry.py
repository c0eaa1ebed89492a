"""Where the voxels of a file lie in space, as 3D Slicer sees it: from voxel indices (i, j, k) = (x, y, z) to
left-posterior-superior coordinates, so that a slice is shown the way it is shown everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region, VoxelSize

LengthUnit = Literal["mm", "um", "nm"]
UNIT_NM: Final[dict[str, float]] = {"mm": 1e6, "um": 1e3, "nm": 1.0}
"""Nanometres of what a number in a file stands for."""

_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_TURN: Final = 0.02
"""How far directions may be from those of the image, in voxels per voxel."""
_SHIFT: Final = 0.25
"""How far a voxel may be from one of the image, in voxels."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """An affine map.

    Attributes:
        lps: float64 (4, 4): index (i, j, k, 1) to left-posterior-superior coordinates of the file's unit.
    """

    lps: NDArray[np.float64]

    @classmethod
    def of_region(cls, voxel_size: VoxelSize, unit: LengthUnit, region: Region | None = None) -> Self:
        """Of a part of a volume: axes along those of space, and the volume's first voxel at the origin."""
        edges = np.array([voxel_size.x_nm, voxel_size.y_nm, voxel_size.z_nm]) / UNIT_NM[unit]
        found = np.diag([*edges, 1.0])
        if region is not None:
            found[:3, 3] = edges * np.array(region.start[::-1])
        return cls(found)

    @classmethod
    def from_ras(cls, affine: NDArray[np.float64]) -> Self:
        """Of a NIfTI file's affine."""
        return cls(_RAS @ affine)

    @classmethod
    def from_list(cls, values: list[list[float]]) -> Self:
        """As it was stored."""
        return cls(np.array(values, np.float64))

    @property
    def ras(self) -> NDArray[np.float64]:
        """As NIfTI wants it."""
        found: NDArray[np.float64] = _RAS @ self.lps
        return found

    def to_list(self) -> list[list[float]]:
        """For storing."""
        rows: list[list[float]] = self.lps.tolist()
        return rows

    def voxel_size(self, unit: LengthUnit) -> VoxelSize:
        """Edges of a voxel; InvalidArgument BAD_VOXEL_SIZE where the map has none."""
        x, y, z = np.linalg.norm(self.lps[:3, :3], axis=0) * UNIT_NM[unit]
        return VoxelSize(float(z), float(y), float(x))

    def part(self, region: Region) -> Geometry:
        """Of a part of these voxels."""
        moved = self.lps.copy()
        moved[:3, 3] += self.lps[:3, :3] @ np.array(region.start[::-1], np.float64)
        return Geometry(moved)


def placed(
    labels: NDArray[Any], geometry: Geometry | None, shape: Index, image: Geometry, what: str = "the label"
) -> NDArray[Any]:
    """Labels of a file on the grid of the image that they belong to.

    The file may be cropped, and its axes may be turned or reversed, as programs like: what counts is where its voxels
    lie in space.

    Args:
        labels: (z, y, x).
        geometry: Of the file; None when it says nothing, and then the shapes must be equal.
        shape: Of the image.
        image: Geometry of the image.
        what: For messages.

    Raises:
        InvalidArgument: GEOMETRY_MISMATCH when its voxels are not voxels of the image, or labelled ones lie outside.
    """
    if geometry is None or (labels.shape == tuple(shape) and _is_same(geometry, image)):
        if labels.shape != tuple(shape):
            raise _mismatch(
                f"{what} has {_size(labels.shape)} voxels (x, y, z), the image has {_size(shape)}; save it "
                "with the image's geometry"
            )
        return labels
    turn, shift = _whole(geometry, image, what)
    columns = np.abs(turn).argmax(0)
    ijk = labels.transpose(2, 1, 0)
    for axis in range(3):
        if turn[columns[axis], axis] < 0:
            ijk = np.flip(ijk, axis)
            shift = shift + turn[:, axis] * (ijk.shape[axis] - 1)
    turned = ijk.transpose(np.argsort(columns)).transpose(2, 1, 0)
    return _pasted(turned, Index(*(int(part) for part in shift[::-1])), shape, what)


def _is_same(one: Geometry, other: Geometry) -> bool:
    relative = np.linalg.solve(other.lps, one.lps)
    return bool(np.abs(relative - np.eye(4))[:3, :3].max() < _TURN and np.abs(relative[:3, 3]).max() < _SHIFT)


def _whole(one: Geometry, image: Geometry, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The map between the indices of two grids, when it is one of whole voxels."""
    try:
        relative = np.linalg.solve(image.lps, one.lps)
    except np.linalg.LinAlgError:
        raise _mismatch(f"{what} has a geometry without volume") from None
    turn, shift = np.rint(relative[:3, :3]), np.rint(relative[:3, 3])
    is_turn = (np.abs(turn).sum(0) == 1).all() and (np.abs(turn).sum(1) == 1).all()
    far = np.abs(relative[:3, :3] - turn).max() > _TURN or np.abs(relative[:3, 3] - shift).max() > _SHIFT
    if not np.isfinite(relative).all() or not is_turn or far:
        raise _mismatch(
            f"the voxels of {what} are not voxels of the image: spacing, directions or origin differ; save it "
            "with the image's geometry (in 3D Slicer: the image as reference)"
        )
    return turn.astype(np.int64), shift.astype(np.int64)


def _pasted(labels: NDArray[Any], start: Index, shape: Index, what: str) -> NDArray[Any]:
    pasted = np.zeros(tuple(shape), labels.dtype)
    sources, targets = [], []
    for low, size, most in zip(start, labels.shape, shape, strict=True):
        first, last = max(0, low), max(max(0, low), min(most, low + size))
        targets.append(slice(first, last))
        sources.append(slice(first - low, last - low))
    inside = labels[tuple(sources)]
    if np.count_nonzero(inside) != np.count_nonzero(labels):
        raise _mismatch(f"{what} has labelled voxels outside of the image")
    pasted[tuple(targets)] = inside
    return pasted


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in reversed(shape))


def _mismatch(message: str) -> InvalidArgument:
    return InvalidArgument("GEOMETRY_MISMATCH", message)
