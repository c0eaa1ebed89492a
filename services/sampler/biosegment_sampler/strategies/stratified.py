"""Stratified choice: evenly over slices and plane, and evenly from the first pick on.

A fixed interval is the honest start without a model: unsupervised selection was not found to beat it. An interval has
to know the number of picks beforehand; a low-discrepancy sequence spreads every beginning of itself. It is that of
J. H. Halton, "On the efficiency of certain quasi-random sequences of points in evaluating multi-dimensional integrals",
Numerische Mathematik 2, 1960, shifted by the seed as in R. Cranley and T. N. L. Patterson, "Randomization of number
theoretic methods for multiple integration", SIAM Journal on Numerical Analysis 13, 1976.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.ranking import Ranking, at_random
from biosegment_sampler.strategies.strategy import Candidates, Strategy

_BASES: Final = (7, 2, 3, 5)
"""Of volume, z, y and x; the smaller the base, the sooner it is even."""
_MAX_POINTS: Final = 1 << 17


def rank(candidates: Candidates) -> Ranking:
    """Windows in the order in which a shifted Halton sequence (Halton 1960) first meets them, the rest at random."""
    field, count = candidates.field, len(candidates)
    rng = np.random.default_rng(candidates.seed)
    shift = rng.random(len(_BASES))
    points = np.stack([halton(min(8 * count, _MAX_POINTS), base) for base in _BASES], axis=1)
    visited = _nearest(field, (points + shift) % 1.0)
    _, first = np.unique(visited, return_index=True)
    return at_random(count, candidates.seed, first=visited[np.sort(first)])


def halton(count: int, base: int) -> NDArray[np.float64]:
    """The first `count` elements of the van der Corput sequence in `base`, float64 in [0, 1)."""
    rest = np.arange(1, count + 1)
    values, weight = np.zeros(count), 1.0
    while rest.any():
        weight /= base
        values += weight * (rest % base)
        rest //= base
    return values


def _nearest(field: CandidateField, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of the candidates in whose cell of the grid the points (n, 4) lie; volumes by their candidates."""
    numbers = np.zeros(len(points), np.int64)
    position = points[:, 0] * len(field)
    for grid, part in field.parts():
        inside = (position >= part.start) & (position < part.stop)
        places = [
            np.minimum((points[inside, axis + 1] * size).astype(np.int64), size - 1)
            for axis, size in enumerate(grid.counts)
        ]
        numbers[inside] = part.start + np.ravel_multi_index(tuple(places), grid.counts)
    return numbers


STRATEGY = Strategy(
    "stratified",
    "Evenly over volumes, slices and plane, in the order of a Halton sequence. Halton, Numerische Mathematik 1960.",
    rank,
)
