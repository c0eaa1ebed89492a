"""The shape of a strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.selection import Ranking

WindowScores = Mapping[str, NDArray[np.float32]]
"""By measure: the mean over every candidate's window, float32 (candidates,), NaN where nothing was scored."""

Rank = Callable[[CandidateField, WindowScores, int], Ranking]
"""Takes all candidates, the scores that the strategy asked for, and a seed: the same seed, the same order."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to rank the pool.

    Attributes:
        name: In lower case with underscores.
        description: One sentence and the paper that it is from.
        rank: The ranking itself; knows nothing of what is taken.
        measures: What the trainer must have scored; a strategy without any works without a model.
    """

    name: str
    description: str
    rank: Rank
    measures: tuple[str, ...] = ()

    @property
    def cold_start(self) -> bool:
        return not self.measures


def by_score(scores: NDArray[np.float32], seed: int) -> Ranking:
    """Highest first, ties in random order; candidates without a score are left out."""
    scored = np.flatnonzero(np.isfinite(scores))
    shuffled = np.random.default_rng(seed).permutation(scored)
    order = shuffled[np.argsort(-scores[shuffled], kind="stable")]
    return Ranking(order.astype(np.int64), scores)
