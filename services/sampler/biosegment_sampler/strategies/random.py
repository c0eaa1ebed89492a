"""Random choice: what every strategy must beat.

D. A. Cohn, L. Atlas and R. Ladner, "Improving generalization with active learning", Machine Learning 15, 1994, compare
with it, and so does everybody since.
"""

from __future__ import annotations

import numpy as np

from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.selection import Ranking
from biosegment_sampler.strategies.strategy import Strategy, WindowScores


def rank(field: CandidateField, scores: WindowScores, seed: int) -> Ranking:
    """All windows in random order: the passive baseline of Cohn, Atlas and Ladner 1994."""
    return Ranking(np.random.default_rng(seed).permutation(len(field)).astype(np.int64))


RANDOM = Strategy(
    "random", "Uniformly at random: the baseline of Cohn, Atlas and Ladner, Machine Learning 1994.", rank
)
