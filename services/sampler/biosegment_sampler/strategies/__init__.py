"""What can rank a pool; one module per strategy, all with the shape of `Strategy`.

A new one is a module and a line here.
"""

from __future__ import annotations

from typing import Final

from biosegment.errors import InvalidArgument
from biosegment_sampler.strategies.entropy import ENTROPY
from biosegment_sampler.strategies.least_confidence import LEAST_CONFIDENCE
from biosegment_sampler.strategies.margin import MARGIN
from biosegment_sampler.strategies.random import RANDOM
from biosegment_sampler.strategies.strategy import Strategy
from biosegment_sampler.strategies.stratified import STRATIFIED

STRATEGIES: Final[dict[str, Strategy]] = {
    strategy.name: strategy for strategy in (ENTROPY, LEAST_CONFIDENCE, MARGIN, RANDOM, STRATIFIED)
}
COLD_START: Final = STRATIFIED
"""What ranks while there is no model, and when a model's scores say nothing."""


def find_strategy(name: str) -> Strategy:
    """Raises InvalidArgument UNKNOWN_STRATEGY."""
    if name not in STRATEGIES:
        raise InvalidArgument(
            "UNKNOWN_STRATEGY", f"strategy {name!r} is unknown; known are {', '.join(sorted(STRATEGIES))}"
        )
    return STRATEGIES[name]


__all__ = ["COLD_START", "STRATEGIES", "Strategy", "find_strategy"]
