"""Smallest margin.

T. Scheffer, C. Decomain and S. Wrobel, "Active hidden Markov models for information extraction", IDA 2001.
"""

from __future__ import annotations

from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.selection import Ranking
from biosegment_sampler.strategies.strategy import Strategy, WindowScores, by_score


def rank(field: CandidateField, scores: WindowScores, seed: int) -> Ranking:
    """Windows by their mean margin between the two likeliest classes (Scheffer et al. 2001), smallest first.

    The measure is scored as 1 - margin, so that larger is more worth annotating, as everywhere.
    """
    return by_score(scores["margin"], seed)


MARGIN = Strategy(
    "margin",
    "Smallest mean margin between the two likeliest classes. Scheffer, Decomain and Wrobel, IDA 2001.",
    rank,
    ("margin",),
)
