"""Which strategy chooses which sample, so that shares hold over single samples and over batches.

Samples are numbered in the order in which they are made, and the shares say by which strategy each number is chosen:
the one that is furthest behind its share. That order repeats itself after a while, and so it depends on nothing but
the number: whoever changes the shares gets samples in the new ones from the next sample on, however many were chosen
before, and by what.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from biosegment_sampler.domain.pool import StrategyShare

_LONGEST: Final = 1000
"""Shares that repeat later are rounded to a thousandth."""
_CLOSE: Final = 1e-6


def strategy_at(shares: Sequence[StrategyShare], number: int) -> str:
    """The strategy that chooses the sample with a number, from 0.

    Among as many samples in a row as the order is long before it repeats itself, 4 for shares of 0.75 and 0.25, each
    has exactly its share; among any others it misses it by less than one for each of the strategies.
    """
    order = _order(tuple(share.share for share in shares))
    return shares[order[number % len(order)]].strategy


@lru_cache(maxsize=256)
def _order(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Places of the strategies, until the order repeats itself."""
    total = sum(weights)
    shares = [weight / total for weight in weights]
    length = next(
        (count for count in range(1, _LONGEST) if all(_is_whole(count * share) for share in shares)), _LONGEST
    )
    chosen = [0] * len(shares)
    order = []
    for number in range(1, length + 1):
        behind = [number * share - count for share, count in zip(shares, chosen, strict=True)]
        # The first one when several are equally far behind, whatever their sums have lost in rounding.
        place = next(place for place, lag in enumerate(behind) if lag > max(behind) - _CLOSE)
        chosen[place] += 1
        order.append(place)
    return tuple(order)


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < _CLOSE
