"""Maximum entropy.

C. E. Shannon, "A mathematical theory of communication", 1948, as a measure of uncertainty for choosing what to label in
B. Settles, "Active learning literature survey", 2009; for electron microscopy J. Roels and Y. Saeys, "Cost-efficient
segmentation of electron microscopy images using active learning", arXiv 1911.05548.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies.strategy import Candidates, Strategy


def rank(candidates: Candidates) -> Ranking:
    """Windows by their mean voxel entropy -sum p log p (Roels and Saeys 2019, arXiv 1911.05548), highest first."""
    return by_score(candidates.scores["entropy"], candidates.seed)


STRATEGY = Strategy(
    "entropy",
    "Highest mean entropy of the class probabilities. Roels and Saeys 2019, arXiv 1911.05548.",
    rank,
    ("entropy",),
)
