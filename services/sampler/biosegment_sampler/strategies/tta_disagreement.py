"""Disagreement of turned and mirrored copies.

G. Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation with
convolutional neural networks", Neurocomputing 338, 2019.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies.strategy import Candidates, Passes, Strategy


def rank(candidates: Candidates) -> Ranking:
    """Windows by the mean deviation of the probabilities over augmented copies (Wang et al. 2019), highest first."""
    return by_score(candidates.scores["disagreement"], candidates.seed)


STRATEGY = Strategy(
    "tta_disagreement",
    "Highest deviation over turned and mirrored copies. Wang et al., Neurocomputing 2019.",
    rank,
    ("disagreement",),
    Passes.AUGMENTATION,
)
