"""High entropy first, then spread over what the windows look like.

F. Zhdanov, "Diverse mini-batch active learning", arXiv 1901.05954: k-means, weighted by informativeness, on the
candidates that are most informative.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.clustering import in_turns, k_means
from biosegment_sampler.strategies.shortlist import LIMIT, embedded, highest
from biosegment_sampler.strategies.strategy import EMBEDDING, Candidates, Strategy

_SHARE: Final = 0.1
"""Of the scored candidates that are clustered. Windows overlap, and a pick takes its neighbours along: the paper's ten
times the batch would be a few places only."""


def rank(candidates: Candidates) -> Ranking:
    """Of the tenth with the highest entropy, windows in the middle of as many clusters as a batch has samples.

    k-means weighted by entropy (Zhdanov 2019): first the window nearest to each centre, clusters in the order of that
    window's entropy, then the second nearest of each.
    """
    entropy = candidates.scores["entropy"]
    scored = int(np.isfinite(entropy).sum())
    count = min(LIMIT, max(10 * candidates.batch, round(_SHARE * scored)))
    numbers, points = embedded(candidates, highest(entropy, count, candidates.round_seed))
    if not len(numbers):
        return in_order(numbers, entropy)
    weights = np.maximum(entropy[numbers], 1e-6)
    clusters = k_means(points, candidates.batch, np.random.default_rng(candidates.round_seed), weights)
    middle = np.lexsort((clusters.distances, clusters.labels))
    middle = middle[np.unique(clusters.labels[middle], return_index=True)[1]]
    order = np.argsort(-entropy[numbers[middle]], kind="stable")
    return in_order(numbers[in_turns(clusters, -clusters.distances, order)], entropy)


STRATEGY = Strategy(
    "entropy_kmeans",
    "The tenth with the highest entropy, spread over clusters of embeddings. Zhdanov 2019, arXiv 1901.05954.",
    rank,
    ("entropy", EMBEDDING),
)
