"""Least confidence.

D. D. Lewis and W. A. Gale, "A sequential algorithm for training text classifiers", SIGIR 1994; for several classes
A. Culotta and A. McCallum, "Reducing labeling effort for structured prediction tasks", AAAI 2005.
"""

from __future__ import annotations

from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.selection import Ranking
from biosegment_sampler.strategies.strategy import Strategy, WindowScores, by_score


def rank(field: CandidateField, scores: WindowScores, seed: int) -> Ranking:
    """Windows by their mean of 1 - max p (Lewis and Gale 1994; Culotta and McCallum 2005), highest first."""
    return by_score(scores["least_confidence"], seed)


LEAST_CONFIDENCE = Strategy(
    "least_confidence",
    "Lowest mean probability of the most likely class. Lewis and Gale, SIGIR 1994.",
    rank,
    ("least_confidence",),
)
