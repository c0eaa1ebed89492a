"""Figures of curves, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 20_000

Curve = Mapping[float, float]
"""IoU by what was spent: labelled samples, or seconds; at least two points."""


def area(curve: Curve, first: float, last: float) -> float:
    """Mean height of a curve from `first` to `last`, linear between its points: the normalised area under it.

    Raises:
        ValueError: The curve does not reach that far.
    """
    if not curve or min(curve) > first or max(curve) < last:
        raise ValueError(f"the curve has points at {sorted(curve)}, not from {first} to {last}")
    spent = np.array(sorted({first, last, *(x for x in curve if first <= x <= last)}))
    return float(np.trapezoid(interpolated(curve, spent), spent) / (last - first))


def interpolated(curve: Curve, spent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights of a curve, linear between its points, level beyond its ends."""
    x = sorted(curve)
    return np.interp(spent, x, [curve[at] for at in x])


def reached_at(curve: Curve, height: float) -> float | None:
    """What was spent when a curve, linear between its points, first reaches a height; None when it never does."""
    points = sorted(curve.items())
    if points[0][1] >= height:
        return points[0][0]
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 >= height:
            return x0 + (height - y0) / (y1 - y0) * (x1 - x0)
    return None


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences.

    Attributes:
        mean: Over the pairs.
        low: Of the 95 % interval.
        high: Of it.
        p: Two-sided, of the hypothesis that the sign of each difference is chance: the share of all choices of signs
            whose mean is as far from 0. With 5 pairs never below 1/16.
        better: Pairs whose difference is above 0.
        count: Pairs.
    """

    mean: float
    low: float
    high: float
    p: float
    better: int
    count: int


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Difference:
    """Of values minus others by the percentile bootstrap over pairs.

    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979. With five pairs its
    intervals are rather too short than too long. p is that of R. A. Fisher's randomisation test (The design of
    experiments, 1935), which is exact for any number of pairs.

    Args:
        values: One per seed.
        others: Likewise, in the same order.
    """
    pairs = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    draws = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    means = pairs[draws].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    signs = np.array(list(product((-1.0, 1.0), repeat=len(pairs))))
    as_far = np.abs(signs @ pairs) >= abs(pairs.sum()) - 1e-12
    p = float(as_far.mean())
    return Difference(float(pairs.mean()), float(low), float(high), p, int((pairs > 0).sum()), len(pairs))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted for as many comparisons as there are, in the order given.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = largest
    return adjusted


def mean_curve(curves: Sequence[Curve]) -> dict[float, float]:
    """Of curves with the same points."""
    return {x: float(np.mean([curve[x] for curve in curves])) for x in sorted(curves[0])}
