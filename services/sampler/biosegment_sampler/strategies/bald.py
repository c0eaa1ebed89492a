"""Bayesian active learning by disagreement.

N. Houlsby et al., "Bayesian active learning for classification and preference learning", arXiv 1112.5745; with dropout
as in Y. Gal, R. Islam and Z. Ghahramani, "Deep Bayesian active learning with image data", ICML 2017. A network without
dropout has no such passes; then the sampler asks for turned and mirrored copies instead, and says so.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies.strategy import Candidates, Passes, Strategy

MEASURE = "mutual_information"


def rank(candidates: Candidates) -> Ranking:
    """Windows by the mean mutual information of prediction and weights (BALD, Houlsby et al. 2011), highest first."""
    return by_score(candidates.scores[MEASURE], candidates.seed)


STRATEGY = Strategy(
    "bald",
    "Highest mutual information of prediction and weights, by dropout. Houlsby et al. 2011, arXiv 1112.5745.",
    rank,
    (MEASURE,),
    Passes.DROPOUT,
)
