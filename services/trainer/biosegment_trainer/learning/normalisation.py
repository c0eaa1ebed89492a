"""Intensity normalisation: EM slices flicker in brightness, so each slice is brought to mean 0 and deviation
1.

The statistics are those of the whole slice and never of a block: two blocks of one slice would otherwise see
different grey values for the same tissue, and a seam would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biosegment.errors import InvalidArgument

Float32 = NDArray[np.float32]
LIMIT = 5.0
"""Dust and charging reach far beyond tissue; cut there, so that one speck does not dominate a convolution."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceStatistics:
    """Mean and standard deviation of whole slices, in grey values of the volume.

    Attributes:
        mean: float64, shape (z,).
        std: float64, shape (z,); 0 for a blank slice.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", np.atleast_1d(np.asarray(self.mean, np.float64)))
        object.__setattr__(self, "std", np.atleast_1d(np.asarray(self.std, np.float64)))
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise InvalidArgument(
                "BAD_STATISTICS", f"mean {self.mean.shape} and std {self.std.shape} must both have shape (z,)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std >= 0).all()):
            raise InvalidArgument("BAD_STATISTICS", "mean and std must be finite and std not negative")

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, z: slice) -> SliceStatistics:
        return SliceStatistics(self.mean[z], self.std[z])

    @classmethod
    def of_slices(cls, slices: Iterable[ArrayLike], padding: float | None = None) -> SliceStatistics:
        """Measure slices, one 2D array at a time, so that a volume need not fit in memory.

        Args:
            slices: 2D arrays of any real dtype: whole slices or a regular subsample (every 4th pixel is
                plenty).
            padding: Grey value that fills the outside of the tissue (often 0) and does not count; None
                counts all.
        """
        pairs = [_mean_std(np.asarray(plane), padding) for plane in slices]
        return cls(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))


def _mean_std(plane: NDArray[np.generic], padding: float | None) -> tuple[float, float]:
    values = plane if padding is None else plane[plane != padding]
    if values.size == 0:
        return 0.0, 0.0
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def volume_statistics(
    read_slice: Callable[[int], ArrayLike], depth: int, step: int = 4, padding: float | None = None
) -> SliceStatistics:
    """Statistics of every slice of a volume from every `step`-th pixel of each axis.

    Args:
        read_slice: Gives the 2D slice of a z.
        depth: Number of slices.
        step: Subsampling in y and x.
        padding: As in `SliceStatistics.of_slices`.
    """
    return SliceStatistics.of_slices(
        (np.asarray(read_slice(z))[::step, ::step] for z in range(depth)), padding
    )


def normalise(raw: Float32, statistics: SliceStatistics) -> Float32:
    """Bring each slice of `raw`, float32 (z, y, x), to mean 0 and deviation 1, cut at 5 deviations;
    float32.
    """
    scaled = standardise(raw, statistics)
    return np.clip(scaled, -LIMIT, LIMIT, out=scaled)


def standardise(raw: Float32, statistics: SliceStatistics) -> Float32:
    """As `normalise`, without cutting: for what is averaged over slices afterwards."""
    if len(statistics) != raw.shape[0]:
        raise InvalidArgument(
            "BAD_STATISTICS", f"{raw.shape[0]} slices need as many statistics, got {len(statistics)}"
        )
    std = np.where(statistics.std > 0, statistics.std, 1.0)
    scaled = raw - statistics.mean[:, None, None].astype(np.float32)
    scaled /= std[:, None, None].astype(np.float32)
    return scaled
