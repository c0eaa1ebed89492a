"""Core-set: cover everything that there is.

O. Sener and S. Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018,
arXiv 1708.00489: the greedy solution of k-centre, T. F. Gonzalez, "Clustering to minimize the maximum intercluster
distance", Theoretical Computer Science 38, 1985.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.clustering import Points, closest, squared_distances
from biosegment_sampler.strategies.shortlist import FOREGROUND, LIMIT, embedded, some_scored
from biosegment_sampler.strategies.strategy import EMBEDDING, Candidates, Strategy

_GREEDY: Final = 1000
"""Picks that are made one by one, or twice a batch when that is more; the rest stays in the order of its distance."""


def rank(candidates: Candidates) -> Ranking:
    """Always the window that looks least like any that is labelled or was picked (Sener and Savarese 2018)."""
    numbers, points = embedded(candidates, some_scored(candidates, LIMIT))
    _, labelled = embedded(candidates, candidates.labelled[-LIMIT:])
    places = farthest_first(points, labelled, max(_GREEDY, 2 * candidates.batch))
    return in_order(numbers[places])


def farthest_first(points: Points, centres: Points, count: int) -> NDArray[np.int64]:
    """Places of the points, each the farthest from the centres and those before it; after `count` of them by distance.

    Args:
        points: (n, size).
        centres: (k, size); without any the first point is the first one.
        count: How many are picked one by one.
    """
    if not len(points):
        return np.zeros(0, np.int64)
    shift = points.mean(0)
    points, centres = points - shift, centres - shift
    _, least = closest(points, centres)
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        chosen.append(int(least.argmax()))
        np.minimum(least, squared_distances(points, points[chosen[-1:]])[:, 0], out=least)
        least[chosen[-1]] = -1
    rest = np.argsort(-least, kind="stable")
    return np.concatenate([np.array(chosen, np.int64), rest[least[rest] >= 0]])


STRATEGY = Strategy(
    "coreset",
    "Least like anything that is labelled: k-centre greedy. Sener and Savarese, ICLR 2018, arXiv 1708.00489.",
    rank,
    (EMBEDDING, FOREGROUND),
)
