"""Points, boxes and voxel sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from biosegment.errors import InvalidArgument


class Index(NamedTuple):
    """Three integers in zyx order: a position, a shape or a factor."""

    z: int
    y: int
    x: int


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """Edge lengths of a voxel in nanometres."""

    z_nm: float
    y_nm: float
    x_nm: float

    def __post_init__(self) -> None:
        for axis, value in zip("zyx", self, strict=True):
            if not 0 < value < 1e9:  # also refuses NaN
                raise InvalidArgument(
                    "BAD_VOXEL_SIZE", f"voxel size {value} nm along {axis} is not a positive length"
                )

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from (self.z_nm, self.y_nm, self.x_nm)

    def scaled(self, factor: Index) -> VoxelSize:
        """Voxel size after downsampling by `factor`."""
        return VoxelSize(self.z_nm * factor.z, self.y_nm * factor.y, self.x_nm * factor.x)


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A non-empty half-open box `[start, stop)` in voxels, zyx."""

    start: Index
    stop: Index

    def __post_init__(self) -> None:
        start, stop = Index(*self.start), Index(*self.stop)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "stop", stop)
        # Written out, as long lists of regions are made.
        (z0, y0, x0), (z1, y1, x1) = start, stop
        if not (0 <= z0 < z1 and 0 <= y0 < y1 and 0 <= x0 < x1):
            raise InvalidArgument(
                "BAD_REGION",
                f"region {self} is empty or negative: every axis needs 0 <= start < stop (zyx, half-open)",
            )

    @classmethod
    def of_shape(cls, shape: tuple[int, int, int], start: tuple[int, int, int] = (0, 0, 0)) -> Region:
        """The box of `shape` that begins at `start`."""
        begin = Index(*start)
        return cls(begin, Index(*(low + size for low, size in zip(begin, shape, strict=True))))

    def __str__(self) -> str:
        return "[" + ", ".join(f"{low}:{high}" for low, high in zip(self.start, self.stop, strict=True)) + "]"

    @property
    def shape(self) -> Index:
        return Index(*(high - low for low, high in zip(self.start, self.stop, strict=True)))

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For NumPy indexing in the frame in which the region is given."""
        z, y, x = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return z, y, x

    def contains(self, other: Region) -> bool:
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )

    def intersection(self, other: Region) -> Region | None:
        start = Index(*(max(a, b) for a, b in zip(self.start, other.start, strict=True)))
        stop = Index(*(min(a, b) for a, b in zip(self.stop, other.stop, strict=True)))
        return Region(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None

    def overlaps(self, other: Region) -> bool:
        return self.intersection(other) is not None

    def shifted(self, offset: tuple[int, int, int]) -> Region:
        return Region(
            Index(*(a + d for a, d in zip(self.start, offset, strict=True))),
            Index(*(a + d for a, d in zip(self.stop, offset, strict=True))),
        )

    def relative_to(self, origin: Region) -> Region:
        """The same box in the frame of `origin`, which must contain it."""
        z, y, x = origin.start
        return self.shifted((-z, -y, -x))

    def padded(self, margin: tuple[int, int, int], within: Region) -> Region:
        """Grow by `margin` on both sides of every axis, cut to `within`."""
        start = Index(*(max(low - m, w) for low, m, w in zip(self.start, margin, within.start, strict=True)))
        stop = Index(*(min(high + m, w) for high, m, w in zip(self.stop, margin, within.stop, strict=True)))
        return Region(start, stop)

    def require_within(self, shape: tuple[int, int, int], what: str) -> None:
        """Raise InvalidArgument REGION_OUT_OF_BOUNDS unless the region lies inside an array of `shape`."""
        if any(high > size for high, size in zip(self.stop, shape, strict=True)):
            raise InvalidArgument(
                "REGION_OUT_OF_BOUNDS",
                f"region {self} leaves {what}, whose shape is {tuple(shape)} (zyx); stop may be at most the shape",
            )
