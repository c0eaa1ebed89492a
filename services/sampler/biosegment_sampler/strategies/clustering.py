"""k-means in bounded memory, and an order that serves each cluster in turn.

S. P. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28, 1982, started as in
D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_CLUSTERS: Final = 500
_ITERATIONS: Final = 30
_CHUNK: Final = 1 << 22
"""Distances that are held at a time."""

Points = NDArray[np.float32]
Distances = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Points in clusters.

    Attributes:
        centres: (k, size).
        labels: Cluster of each point, int64 (n,).
        distances: Squared distance of each point to its centre, (n,).
    """

    centres: Points
    labels: NDArray[np.int64]
    distances: Distances


def squared_distances(points: Points, centres: Points) -> Distances:
    """Squared Euclidean distances, (n, k), 0 or more."""
    result: Distances = points @ (-2 * centres.T)
    result += np.einsum("ij,ij->i", points, points)[:, None]
    result += np.einsum("ij,ij->i", centres, centres)
    np.maximum(result, 0, out=result)
    return result


def closest(points: Points, centres: Points) -> tuple[NDArray[np.int64], Distances]:
    """Number of the closest centre of each point, (n,), and the squared distance to it; a chunk at a time."""
    labels, least = np.zeros(len(points), np.int64), np.full(len(points), np.inf, np.float32)
    step = max(1, _CHUNK // max(1, len(centres)))
    for first in range(0, len(points) if len(centres) else 0, step):
        distances = squared_distances(points[first : first + step], centres)
        labels[first : first + step] = distances.argmin(1)
        least[first : first + step] = distances.min(1)
    return labels, least


def k_means(
    points: Points, count: int, rng: np.random.Generator, weights: NDArray[np.float32] | None = None
) -> Clusters:
    """At most `count` clusters of (n, size) points, n at least 1; fewer when fewer points differ.

    Args:
        points: Finite.
        count: 1 to MAX_CLUSTERS; more are cut to that.
        rng: Of the start.
        weights: How much a point pulls its centre, above 0; all the same when None.
    """
    shift = points.mean(0)
    points = points - shift  # near 0 the squares of float32 do not cancel
    weights = np.ones(len(points), np.float32) if weights is None else weights
    centres = points[spread(points, min(count, MAX_CLUSTERS, len(points)), rng, weights)[0]]
    labels, distances = closest(points, centres)
    for _ in range(_ITERATIONS):
        moved = _centres(points, labels, weights, centres)
        before = labels
        centres = moved
        labels, distances = closest(points, centres)
        if np.array_equal(labels, before):
            break
    used, labels = np.unique(labels, return_inverse=True)
    return Clusters(centres[used] + shift, labels.astype(np.int64), distances)


def in_turns(clusters: Clusters, merit: NDArray[np.floating], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the points: the best of each cluster, then the second best of each, and so on.

    Args:
        clusters: The points' clusters.
        merit: Of each point, (n,); larger is better.
        order: Of the clusters, (k,).
    """
    turn_of = np.empty(len(order), np.int64)
    turn_of[order] = np.arange(len(order))
    sorted_ = np.lexsort((-merit, clusters.labels))
    starts = np.searchsorted(clusters.labels[sorted_], np.arange(len(order)))
    place = np.empty(len(merit), np.int64)
    place[sorted_] = np.arange(len(merit)) - starts[clusters.labels[sorted_]]
    return np.lexsort((turn_of[clusters.labels], place)).astype(np.int64)


def spread(
    points: Points,
    count: int,
    rng: np.random.Generator,
    weights: NDArray[np.float32] | None = None,
    first: int | None = None,
) -> tuple[NDArray[np.int64], Distances]:
    """Draws points by k-means++: each with a probability proportional to its squared distance to those before it.

    Args:
        points: (n, size).
        count: At most so many; fewer when no other differs.
        rng: Of the draws.
        weights: By which the probabilities are multiplied, (n,); all the same when None.
        first: Place of the first one; drawn by weight when None.

    Returns:
        Places, and the squared distance of each point to the nearest of them.
    """
    weights = np.ones(len(points), np.float32) if weights is None else weights
    chosen = [int(rng.choice(len(points), p=_shares(weights))) if first is None else first]
    _, least = closest(points, points[chosen])
    least[chosen] = 0
    while len(chosen) < count and (total := least * weights).any():
        chosen.append(int(rng.choice(len(points), p=_shares(total))))
        np.minimum(least, squared_distances(points, points[chosen[-1:]])[:, 0], out=least)
        least[chosen[-1]] = 0
    return np.array(chosen), least


def _shares(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = weights.astype(np.float64)
    shares: NDArray[np.float64] = exact / exact.sum()
    return shares


def _centres(
    points: Points, labels: NDArray[np.int64], weights: NDArray[np.float32], before: Points
) -> Points:
    """Weighted means of the clusters; an empty one stays where it was."""
    count = len(before)
    mass = np.bincount(labels, weights, count)
    sums = np.stack(
        [np.bincount(labels, weights * points[:, axis], count) for axis in range(points.shape[1])], 1
    )
    filled = mass > 0
    result = before.copy()
    result[filled] = sums[filled] / mass[filled, None]
    return result
