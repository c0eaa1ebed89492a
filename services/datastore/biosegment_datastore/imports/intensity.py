"""Grey values of a volume, gathered while its voxels pass by: statistics of every slice, and what to show."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument
from biosegment.volume import Index
from biosegment_datastore.imports.margin import FEWEST, Margin, RowEnds, is_real, margins_of, suspects

Voxels = npt.NDArray[Any]

_BLOCK: Final = 1 << 16
"""Voxels that are worked on at a time: as single precision they stay in the processor's cache."""

_SAMPLES: Final = 1 << 19
"""About so many voxels decide the display window; ranks are exact to a tenth of a per cent."""

_SHOWN_PERCENT: Final = (0.5, 99.5)
"""The rest is dust, charging and the edge of the mosaic, and would leave no contrast to the tissue."""

_ROUNDING: Final = 1e-12
"""Of the spread that a margin makes: what is left of it beside the margin is of no meaning."""


@dataclass(frozen=True, slots=True)
class IntensityStatistics:
    """Grey values slice by slice: EM slices flicker, and training normalises by these."""

    mean: npt.NDArray[np.float64]
    """(z,); of a slice with a margin without that."""
    std: npt.NDArray[np.float64]
    """(z,)"""
    minimum: float
    maximum: float
    display_low: float
    display_high: float
    """The window that a viewer shows at first: percentiles; always `display_low < display_high`."""


class IntensityGatherer:
    """Takes every voxel of a volume once, in blocks of any extent.

    Args:
        shape: Of the volume.
    """

    def __init__(self, shape: Index) -> None:
        self._shape = shape
        # Of slices that come in pieces and have not come to their end.
        self._ends: dict[int, RowEnds] = {}
        self._count = np.zeros(shape.z)
        self._mean, self._squares = np.zeros(shape.z), np.zeros(shape.z)
        self._minimum, self._maximum = np.inf, -np.inf
        self._samples: list[npt.NDArray[np.float32]] = []
        per_slice = max(64, _SAMPLES // shape.z)
        self._step = max(1, int((shape.y * shape.x / per_slice) ** 0.5))

    def add(self, start: int, block: Voxels, y: int = 0, x: int = 0) -> None:
        """Take a block (z, y, x) whose first voxel lies at `start`, `y`, `x`; from left to right in each row.

        Raises:
            InvalidArgument: NOT_FINITE.
        """
        is_whole = block.shape[1:] == self._shape[1:]
        suspect = suspects(block) if is_whole else np.zeros(0, np.bool_)
        for number, plane in enumerate(block):
            z = start + number
            if is_whole:
                margins = margins_of(plane) if suspect[number] else ()
                self._take(z, plane, is_exact=bool(margins))
            else:
                in_runs = self._ends_of(z).add(plane, y, x)
                self._take(z, plane, is_exact=is_real(in_runs, plane.size))
                margins = self._margins_at_end(z)
            self._leave_out(z, margins)
            # Shifted from slice to slice, so that a periodic pattern does not stay between the samples.
            first = z * 7 % self._step
            sample = plane[min(first, len(plane) - 1) :: self._step, first // 2 :: self._step]
            self._samples.append(sample.astype(np.float32).ravel())
        self._minimum = min(self._minimum, float(block.min()))
        self._maximum = max(self._maximum, float(block.max()))

    def _take(self, z: int, plane: Voxels, is_exact: bool) -> None:
        # A margin may lie far from the tissue: single precision would not leave the spread of the rest.
        count, mean, squares = _moments(plane, np.float64 if is_exact else np.float32)
        if not np.isfinite(squares):
            raise InvalidArgument(
                "NOT_FINITE", f"slice {z} holds NaN or infinite values: replace them before the import"
            )
        self._merge(z, count, mean, squares)

    def _ends_of(self, z: int) -> RowEnds:
        if z not in self._ends:
            self._ends[z] = RowEnds(self._shape.y, self._shape.x)
        return self._ends[z]

    def _margins_at_end(self, z: int) -> tuple[Margin, ...]:
        size = self._shape.y * self._shape.x
        if self._count[z] < size:
            return ()
        ends = self._ends.pop(z)
        # Of a slice that an earlier release has begun they know a part.
        return ends.margins() if ends.seen == size else ()

    def _leave_out(self, z: int, margins: tuple[Margin, ...]) -> None:
        """Take margins out of the moments of a whole slice, unless that leaves nothing that varies."""
        count, mean, squares = self._count[z], self._mean[z], self._squares[z]
        for margin in margins:
            rest = count - margin.count
            if rest < FEWEST:
                return
            # As in `_merge`, backwards.
            apart = margin.value - mean
            squares -= apart * apart * margin.count * count / rest
            mean -= apart * margin.count / rest
            count = rest
        if squares > _ROUNDING * self._squares[z]:
            self._count[z], self._mean[z], self._squares[z] = count, mean, squares

    def _merge(self, z: int, count: int, mean: float, squares: float) -> None:
        # Chan et al.: the moments of two parts make those of the whole without cancellation.
        total = self._count[z] + count
        apart = mean - self._mean[z]
        self._squares[z] += squares + apart * apart * self._count[z] * count / total
        self._mean[z] += apart * count / total
        self._count[z] = total

    def result(self) -> IntensityStatistics:
        """The statistics, when every voxel was taken."""
        std = np.sqrt(self._squares / np.maximum(self._count, 1))
        low, high = np.percentile(np.concatenate(self._samples), _SHOWN_PERCENT)
        if not low < high:  # nearly everything is one value
            low, high = self._minimum, self._maximum
        if not low < high:
            high = low + 1
        return IntensityStatistics(
            self._mean,
            std,
            self._minimum,
            self._maximum,
            float(low),
            float(np.maximum(high, np.nextafter(low, np.inf))),
        )

    def state(self) -> dict[str, Any]:
        """What was gathered so far, as JSON."""
        samples = np.concatenate(self._samples) if self._samples else np.zeros(0, np.float32)
        self._samples = [samples]
        return {
            "count": _text(self._count),
            "mean": _text(self._mean),
            "squares": _text(self._squares),
            "samples": _text(samples),
            "range": [self._minimum, self._maximum],
            "ends": {str(z): ends.state() for z, ends in self._ends.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier `state` of the same volume."""
        self._count, self._mean, self._squares = (
            _numbers(state[name], np.float64) for name in ("count", "mean", "squares")
        )
        self._samples = [_numbers(state["samples"], np.float32)]
        self._minimum, self._maximum = state["range"]
        self._ends = {}
        for z, kept in state.get("ends", {}).items():  # earlier releases kept none
            self._ends_of(int(z)).restore(kept)


def _moments(plane: Voxels, precision: type[np.floating[Any]]) -> tuple[int, float, float]:
    """Number, mean and sum of squared differences from the mean."""
    flat = plane.reshape(-1)
    # Differences from any voxel are small where the grey values are close together: single precision is enough.
    shift = precision(flat[flat.size // 2])
    if not np.isfinite(shift):
        return flat.size, 0.0, np.inf
    total = squares = 0.0
    block = np.empty(min(_BLOCK, flat.size), precision)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        values = block[: part.size]
        values[...] = part
        values -= shift
        total += float(values.sum())
        squares += float(np.dot(values, values))
    mean = total / flat.size
    spread = squares - total * mean
    # Rounding may make it negative; `max` would turn NaN into 0.
    return flat.size, float(shift) + mean, 0.0 if spread < 0 else spread


def _text(numbers: npt.NDArray[Any]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()


def _numbers(text: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype).copy()
