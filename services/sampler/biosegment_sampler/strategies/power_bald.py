"""Stochastic batches by mutual information.

A. Kirsch et al., "Stochastic batch acquisition: a simple baseline for deep active learning", TMLR 2023,
arXiv 2106.12059.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.bald import MEASURE
from biosegment_sampler.strategies.power_entropy import BETA
from biosegment_sampler.strategies.shortlist import LIMIT, drawn
from biosegment_sampler.strategies.strategy import Candidates, Passes, Strategy


def rank(candidates: Candidates) -> Ranking:
    """Windows drawn with a probability proportional to their mutual information (PowerBALD, Kirsch et al. 2023)."""
    scores = candidates.scores[MEASURE]
    return in_order(drawn(scores, LIMIT, BETA, candidates.round_seed), scores)


STRATEGY = Strategy(
    "power_bald",
    "Drawn with a probability proportional to the mutual information. Kirsch et al., TMLR 2023, arXiv 2106.12059.",
    rank,
    (MEASURE,),
    Passes.DROPOUT,
)
