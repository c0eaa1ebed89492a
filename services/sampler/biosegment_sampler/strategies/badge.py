"""Diverse gradients.

J. T. Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds", ICLR 2020, arXiv 1906.03671
(BADGE): k-means++ on the gradients that the last layer would get if the likeliest class were the truth.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.clustering import spread
from biosegment_sampler.strategies.shortlist import LIMIT, embedded, highest
from biosegment_sampler.strategies.strategy import EMBEDDING, Candidates, Strategy

_DRAWN: Final = 500
"""Picks of k-means++, or twice a batch when that is more; the rest stays in the order of its distance."""


def rank(candidates: Candidates) -> Ranking:
    """k-means++ on vectors as long as a window's mean gradient (Ash et al. 2020).

    The length is the paper's: the norm of the last layer's gradient, averaged over the voxels. The direction is *not*
    the gradient's, which has a vector for each voxel and class and none for a window: it is that of the window's
    embedding less the mean embedding, so that windows point the same way when they look alike.
    """
    norms = candidates.scores["gradient_embedding"]
    numbers, points = embedded(candidates, highest(norms, LIMIT, candidates.round_seed))
    if not len(numbers):
        return in_order(numbers, norms)
    points = points - points.mean(0)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    points *= norms[numbers, None]
    rng = np.random.default_rng(candidates.round_seed)
    # The first is the longest; those in `numbers` come longest first.
    places, left = spread(points, max(_DRAWN, 2 * candidates.batch), rng, first=0)
    rest = np.argsort(-left, kind="stable")
    rest = rest[~np.isin(rest, places)]
    return in_order(numbers[np.concatenate([places, rest])], norms)


STRATEGY = Strategy(
    "badge",
    "k-means++ on gradient norms and directions of embeddings. Ash et al., ICLR 2020, arXiv 1906.03671.",
    rank,
    ("gradient_embedding", EMBEDDING),
)
