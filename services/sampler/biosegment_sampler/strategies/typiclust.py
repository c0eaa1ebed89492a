"""Typical windows of clusters in which nothing is labelled: for the first batches.

G. Hacohen, A. Dekel and D. Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets",
ICML 2022, arXiv 2202.02794 (TypiClust).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.clustering import (
    MAX_CLUSTERS,
    Clusters,
    Points,
    in_turns,
    k_means,
    squared_distances,
)
from biosegment_sampler.strategies.shortlist import FOREGROUND, LIMIT, embedded, some_scored
from biosegment_sampler.strategies.strategy import EMBEDDING, Candidates, Strategy

_NEIGHBOURS: Final = 20
_COMPARED: Final = 2000
"""Members of a cluster among which neighbours are looked for: enough to tell where it is dense."""


def rank(candidates: Candidates) -> Ranking:
    """The most typical window of each cluster without a label, the largest cluster first (Hacohen et al. 2022).

    There are as many clusters as labels and samples of a batch, at most 500. Clusters with labels come after the
    others, those with few first; after the most typical window of each the second most typical, and so on. They are
    clusters of the model's own embeddings, where the paper's are learned without labels beforehand.
    """
    numbers, points = embedded(candidates, some_scored(candidates, LIMIT))
    if not len(numbers):
        return in_order(numbers)
    known, labelled = embedded(candidates, candidates.labelled[-LIMIT:])
    open_ = ~np.isin(numbers, known)
    rng = np.random.default_rng(candidates.round_seed)
    count = min(MAX_CLUSTERS, len(known) + candidates.batch)
    clusters = k_means(np.concatenate([points[open_], labelled]), count, rng)
    kinds = len(clusters.centres)
    labels = clusters.labels[: open_.sum()]
    covered = np.bincount(clusters.labels[open_.sum() :], minlength=kinds)
    order = np.lexsort((-np.bincount(labels, minlength=kinds), covered))
    merit = typicality(points[open_], labels, rng)
    pool = Clusters(clusters.centres, labels, clusters.distances[: open_.sum()])
    return in_order(numbers[open_][in_turns(pool, merit, order)])


def typicality(points: Points, labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """One over the mean distance to the 20 nearest members of the same cluster, (n,); 0 for one that is alone."""
    result = np.zeros(len(points))
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(members) < 2:
            continue
        some = members if len(members) <= _COMPARED else rng.choice(members, _COMPARED, replace=False)
        count = min(_NEIGHBOURS, len(some) - 1)
        shift = points[members].mean(0)
        for part in np.array_split(members, -(-len(members) // _COMPARED)):
            distances = squared_distances(points[part] - shift, points[some] - shift)
            distances[part[:, None] == some] = np.inf  # nobody is their own neighbour
            nearest = np.partition(distances, count - 1, axis=1)[:, :count]
            result[part] = 1 / np.maximum(np.sqrt(nearest).mean(1), 1e-9)
    return result


STRATEGY = Strategy(
    "typiclust",
    "Most typical of clusters of embeddings that have no label. Hacohen et al., ICML 2022, arXiv 2202.02794.",
    rank,
    (EMBEDDING, FOREGROUND),
)
