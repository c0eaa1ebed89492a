"""Random choice that knows of the foreground: the baseline that is hard to beat.

In images where most is background, random choice is weak for want of foreground alone, and what beats it may do so for
that reason. So strategies are compared with this one: C. Lüth et al., "nnActive: a framework for evaluation of active
learning in 3D biomedical segmentation", arXiv 2511.19183, whose variant with two thirds of foreground this is. Theirs
knows where the foreground is; this one goes by what the model predicts.
"""

from __future__ import annotations

from typing import Final

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.shortlist import FOREGROUND, LIMIT, drawn, some_scored
from biosegment_sampler.strategies.strategy import Candidates, Strategy
from biosegment_sampler.strategies.turns import take_turns

_SHARE: Final = 2 / 3


def rank(candidates: Candidates) -> Ranking:
    """Two windows around a random voxel of predicted foreground, then one anywhere, and so on (arXiv 2511.19183).

    A window is drawn with a probability that is proportional to the foreground that it is expected to hold, which is
    how often a random voxel of foreground lies in it.
    """
    foreground = candidates.scores[FOREGROUND]
    found = drawn(foreground, LIMIT, 1.0, candidates.round_seed)
    anywhere = some_scored(candidates, LIMIT)
    return in_order(take_turns([found, anywhere], [_SHARE, 1 - _SHARE]), foreground)


STRATEGY = Strategy(
    "foreground_random",
    "At random, two thirds around predicted foreground. Lüth et al. 2025, arXiv 2511.19183.",
    rank,
    (FOREGROUND,),
)
