"""The candidates that are worth a closer look: bounded in number, however large the pool is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.strategies.strategy import Candidates

LIMIT: Final = 50_000
"""Candidates that a strategy compares with each other at most."""
FOREGROUND: Final = "class_probability"
"""Is scored along with every measure, and so tells those who compare embeddings which candidates were scored at all."""
_BLOCK: Final = 1 << 20


def highest(scores: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """Numbers of the `count` highest scores, best first, ties in random order; without those that are not finite.

    Args:
        scores: (n,).
        count: At most so many.
        seed: Of the order of ties.
    """
    return _best(scores, lambda values: values, count, np.random.default_rng(seed))


def drawn(weights: NDArray[np.float32], count: int, beta: float, seed: int) -> NDArray[np.int64]:
    """Numbers drawn one after the other without replacement, each with probability proportional to weight^beta.

    By the Gumbel-top-k trick: the highest of log weight + Gumbel noise of scale 1 / beta. W. Kool, H. van Hoof and M.
    Welling, "Stochastic beams and where to find them", ICML 2019.

    Args:
        weights: (n,); what is not finite and above 0 is never drawn.
        count: At most so many.
        beta: Above 0; the larger, the more like `highest`.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)

    def perturbed(values: NDArray[np.float32]) -> NDArray[np.float32]:
        possible = np.isfinite(values) & (values > 0)
        keys = np.log(values, out=np.full(len(values), -np.inf, np.float32), where=possible)
        return (keys + rng.gumbel(0, 1 / beta, len(values))).astype(np.float32)

    return _best(weights, perturbed, count, rng)


def some_scored(candidates: Candidates, count: int) -> NDArray[np.int64]:
    """Numbers of scored candidates in random order, at most `count`; of any when no score tells which are."""
    rng = np.random.default_rng(candidates.round_seed)
    total, known = len(candidates), candidates.scores.get(FOREGROUND)
    if total <= 8 * count:
        numbers = rng.permutation(total)
        return (numbers if known is None else numbers[np.isfinite(known[numbers])])[:count]
    # Only a part of a large pool is scored, and not all of it need be looked at to find some of that part.
    numbers = np.zeros(0, np.int64)
    for _ in range(8):
        more = rng.integers(total, size=4 * count)
        numbers = np.union1d(numbers, more if known is None else more[np.isfinite(known[more])])
        if len(numbers) >= count:
            break
    return rng.permutation(numbers)[:count]


def embedded(
    candidates: Candidates, numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those of the candidates whose embedding is known, (n,), and it, float32 (n, size)."""
    found = candidates.embed(numbers).astype(np.float32)
    known = np.isfinite(found).all(axis=1)
    return numbers[known], found[known]


def _best(
    scores: NDArray[np.float32],
    key: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Looks at a block at a time: besides the scores it holds a few times `count` numbers."""
    numbers, keys = np.zeros(0, np.int64), np.zeros(0, np.float32)
    for first in range(0, len(scores), _BLOCK):
        more = key(np.asarray(scores[first : first + _BLOCK]))
        finite = np.flatnonzero(np.isfinite(more))
        numbers, keys = np.append(numbers, first + finite), np.append(keys, more[finite])
        if len(numbers) > count:
            bound = np.partition(keys, len(keys) - count)[len(keys) - count]
            above, level = np.flatnonzero(keys > bound), np.flatnonzero(keys == bound)
            kept = np.append(above, rng.permutation(level)[: count - len(above)])
            numbers, keys = numbers[kept], keys[kept]
    order = rng.permutation(len(numbers))
    order = order[np.argsort(-keys[order], kind="stable")]
    return numbers[order]
