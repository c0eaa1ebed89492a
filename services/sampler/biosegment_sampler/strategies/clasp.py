"""Class-stratified, scheduled power predictive entropy.

C. T. Lüth et al., "Finally outshining the random baseline: a simple and effective solution for active learning in 3D
biomedical imaging", arXiv 2601.13677 (ClaSP PE).
"""

from __future__ import annotations

from typing import Final

from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.strategies.shortlist import LIMIT, drawn
from biosegment_sampler.strategies.strategy import Candidates, Strategy
from biosegment_sampler.strategies.turns import take_turns

_CLASS_SHARE: Final = 0.66
"""Of the batch that goes to the classes' own streams, the same to each; the rest goes by entropy alone."""
_CYCLES: Final = 10
"""Trainings until the noise has decayed; the paper knows the number of its cycles, an annotation project does not."""


def beta(round_: int) -> float:
    """How little noise there is in the batch after `round_` trainings: 1 after the first, 100 from the tenth on."""
    cycle = min(max(round_ - 1, 0), _CYCLES - 1)
    return float(100 ** (cycle / (_CYCLES - 1)))


def rank(candidates: Candidates) -> Ranking:
    """Turns of a stream for each class, by entropy times its probability, and of one by entropy (arXiv 2601.13677).

    Each stream takes the highest of log score + Gumbel(0, 1 / beta), and the noise decays over the rounds.
    """
    entropy, by_class = candidates.scores["entropy"], candidates.scores["class_entropy"]
    by_class = by_class.reshape(len(entropy), -1)
    power, classes = beta(candidates.round), by_class.shape[1]
    streams = [
        drawn(by_class[:, channel], LIMIT, power, candidates.round_seed + 1 + channel)
        for channel in range(classes)
    ]
    streams.append(drawn(entropy, LIMIT, power, candidates.round_seed))
    shares = [*[_CLASS_SHARE / classes] * classes, 1 - _CLASS_SHARE]
    return in_order(take_turns(streams, shares), entropy)


STRATEGY = Strategy(
    "clasp",
    "Entropy times probability of each class in turn, with decaying noise. Lüth et al. 2026, arXiv 2601.13677.",
    rank,
    ("entropy", "class_entropy"),
)
