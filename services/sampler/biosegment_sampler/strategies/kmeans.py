"""Representatives of clusters of what windows look like.

For electron microscopy in J. Roels and Y. Saeys, "Cost-efficient segmentation of electron microscopy images using
active learning", arXiv 1911.05548; before that H. T. Nguyen and A. Smeulders, "Active learning using pre-clustering",
ICML 2004.
"""

from __future__ import annotations

import numpy as np

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.clustering import in_turns, k_means
from biosegment_sampler.strategies.shortlist import FOREGROUND, LIMIT, embedded, some_scored
from biosegment_sampler.strategies.strategy import EMBEDDING, Candidates, Strategy


def rank(candidates: Candidates) -> Ranking:
    """The windows nearest to the centres of as many clusters as a batch has samples (Roels and Saeys 2019).

    The largest cluster comes first; after all centres the second nearest of each, and so on.
    """
    numbers, points = embedded(candidates, some_scored(candidates, LIMIT))
    if not len(numbers):
        return in_order(numbers)
    clusters = k_means(points, candidates.batch, np.random.default_rng(candidates.round_seed))
    order = np.argsort(-np.bincount(clusters.labels), kind="stable")
    return in_order(numbers[in_turns(clusters, -clusters.distances, order)])


STRATEGY = Strategy(
    "kmeans",
    "Nearest to the centres of clusters of embeddings. Roels and Saeys 2019, arXiv 1911.05548.",
    rank,
    (EMBEDDING, FOREGROUND),
)
