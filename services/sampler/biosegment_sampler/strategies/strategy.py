"""The shape of a strategy."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as default
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.ranking import Ranking

EMBEDDING: Final = "embedding"
"""The measure behind `Candidates.embed`; it is not among the scores."""

Embed = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Takes numbers of candidates (n,); returns what they look like to the model, float32 (n, size), NaN where unknown."""


class Passes(enum.StrEnum):
    """What the trainer must vary between its passes for the measures of a strategy."""

    NONE = ""
    DROPOUT = "dropout"
    AUGMENTATION = "augmentation"


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What a strategy sees of a pool.

    Attributes:
        field: All candidates; n of them.
        scores: By measure: the mean over every candidate's window, float32 (n,), or (n, channels) for measures with
            several channels, NaN where nothing was scored.
        embed: Looks candidates up; costs reading, so ask for a shortlist. NaN for everything unless a strategy's
            measures name `EMBEDDING`.
        labelled: Candidates that lie nearest to the regions that the model was trained on; int64 (k,).
        positives: Candidates that lie nearest to annotations that show a class; int64 (k,), empty unless the strategy
            follows annotations.
        batch: How many are likely to be annotated before there are new scores; at least 1.
        round: Trainings that have ended well, for strategies whose behaviour changes over time.
        seed: Of everything random: the same seed, the same order.
    """

    field: CandidateField
    scores: Mapping[str, NDArray[np.float32]]
    embed: Embed
    labelled: NDArray[np.int64] = default(default_factory=lambda: np.zeros(0, np.int64))
    positives: NDArray[np.int64] = default(default_factory=lambda: np.zeros(0, np.int64))
    batch: int = 20
    round: int = 0
    seed: int = 0

    def __len__(self) -> int:
        return len(self.field)

    @property
    def round_seed(self) -> int:
        """A seed that is another one in every round, for draws that should not favour the same candidates each time."""
        return int(np.random.SeedSequence([self.seed, self.round]).generate_state(1)[0])


Rank = Callable[[Candidates], Ranking]
"""Ranks; knows nothing of what is taken."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to rank the pool.

    Attributes:
        name: In lower case with underscores.
        description: One sentence and the paper that it is from.
        rank: The ranking itself.
        measures: What the trainer must have scored, the one that ranks first; a strategy without any works without a
            model. No others are among the scores.
        passes: What the measures must be computed over.
        follows_annotations: It ranks by `Candidates.positives`, and so anew after each annotation that shows a class.
    """

    name: str
    description: str
    rank: Rank
    measures: tuple[str, ...] = ()
    passes: Passes = Passes.NONE
    follows_annotations: bool = False

    @property
    def cold_start(self) -> bool:
        return not self.measures

    @property
    def shown(self) -> str:
        """The measure to show over a sample, '' when it is not one number a cell that ranked."""
        return "" if self.cold_start or self.measures[0] == EMBEDDING else self.measures[0]
