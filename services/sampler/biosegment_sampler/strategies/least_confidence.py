"""Least confidence.

D. D. Lewis and W. A. Gale, "A sequential algorithm for training text classifiers", SIGIR 1994; for several classes
A. Culotta and A. McCallum, "Reducing labeling effort for structured prediction tasks", AAAI 2005.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies.strategy import Candidates, Strategy


def rank(candidates: Candidates) -> Ranking:
    """Windows by their mean of 1 - max p (Lewis and Gale 1994; Culotta and McCallum 2005), highest first."""
    return by_score(candidates.scores["least_confidence"], candidates.seed)


STRATEGY = Strategy(
    "least_confidence",
    "Lowest mean probability of the most likely class. Lewis and Gale, SIGIR 1994.",
    rank,
    ("least_confidence",),
)
