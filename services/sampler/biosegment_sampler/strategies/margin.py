"""Smallest margin.

T. Scheffer, C. Decomain and S. Wrobel, "Active hidden Markov models for information extraction", IDA 2001.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies.strategy import Candidates, Strategy


def rank(candidates: Candidates) -> Ranking:
    """Windows by their mean margin between the two likeliest classes (Scheffer et al. 2001), smallest first.

    The measure is scored as 1 - margin, so that larger is more worth annotating, as everywhere.
    """
    return by_score(candidates.scores["margin"], candidates.seed)


STRATEGY = Strategy(
    "margin",
    "Smallest mean margin between the two likeliest classes. Scheffer, Decomain and Wrobel, IDA 2001.",
    rank,
    ("margin",),
)
