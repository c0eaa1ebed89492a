"""Random choice: what every strategy must beat.

D. A. Cohn, L. Atlas and R. Ladner, "Improving generalization with active learning", Machine Learning 15, 1994, compare
with it, and so does everybody since.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, at_random
from biosegment_sampler.strategies.strategy import Candidates, Strategy


def rank(candidates: Candidates) -> Ranking:
    """All windows in random order: the passive baseline of Cohn, Atlas and Ladner 1994."""
    return at_random(len(candidates), candidates.seed)


STRATEGY = Strategy(
    "random", "Uniformly at random: the baseline of Cohn, Atlas and Ladner, Machine Learning 1994.", rank
)
