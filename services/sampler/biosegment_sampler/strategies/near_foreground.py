"""Around what is known to be foreground: the way out when a model finds nothing.

S. K. Thompson, "Adaptive cluster sampling", Journal of the American Statistical Association 85, 1990: of things that
are rare and lie together, where one was found its neighbourhood is looked at.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.grid import CandidateGrid
from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.strategy import Candidates, Strategy

_REACH: Final = 8
"""Steps of the grid along all axes together: four windows in plane, or eight slices."""
_MOST: Final = 1000


def rank(candidates: Candidates) -> Ranking:
    """Windows near annotations that show a class, nearest first (after Thompson 1990); none when there is none."""
    rng = np.random.default_rng(candidates.round_seed)
    positives = rng.permutation(candidates.positives)[:_MOST]
    numbers, steps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for grid, part in candidates.field.parts():
        mine = positives[(positives >= part.start) & (positives < part.stop)] - part.start
        found, distances = _around(grid, mine)
        numbers.append(part.start + found)
        steps.append(distances)
    every, distance = np.concatenate(numbers), np.concatenate(steps)
    order = rng.permutation(len(every))
    order = order[np.argsort(distance[order], kind="stable")]
    _, first = np.unique(every[order], return_index=True)
    return in_order(every[order][np.sort(first)])


def _around(grid: CandidateGrid, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers within reach, some of them several times, and how many steps away they are."""
    every = np.array(list(product(range(-_REACH, _REACH + 1), repeat=3)))
    offsets = every[np.abs(every).sum(1) <= _REACH]
    places = np.stack(np.unravel_index(numbers, grid.counts), 1)[:, None] + offsets
    inside = ((places >= 0) & (places < np.array(grid.counts))).all(-1)
    found = np.ravel_multi_index(tuple(places[inside].T), grid.counts)
    return found.astype(np.int64), np.broadcast_to(np.abs(offsets).sum(1), inside.shape)[inside]


STRATEGY = Strategy(
    "near_foreground",
    "Near annotations that show a class, nearest first. Thompson, J. American Statistical Association 1990.",
    rank,
    follows_annotations=True,
)
