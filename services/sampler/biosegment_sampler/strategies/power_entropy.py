"""Stochastic batches by entropy.

A. Kirsch et al., "Stochastic batch acquisition: a simple baseline for deep active learning", TMLR 2023,
arXiv 2106.12059.
"""

from __future__ import annotations

from typing import Final

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.shortlist import LIMIT, drawn
from biosegment_sampler.strategies.strategy import Candidates, Strategy

BETA: Final = 1.0
"""What the paper uses throughout."""


def rank(candidates: Candidates) -> Ranking:
    """Windows drawn with a probability proportional to their mean entropy (Kirsch et al. 2023, power acquisition)."""
    entropy = candidates.scores["entropy"]
    return in_order(drawn(entropy, LIMIT, BETA, candidates.round_seed), entropy)


STRATEGY = Strategy(
    "power_entropy",
    "Drawn with a probability proportional to the entropy. Kirsch et al., TMLR 2023, arXiv 2106.12059.",
    rank,
    ("entropy",),
)
