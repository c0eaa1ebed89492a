"""What can rank a pool; one module per strategy, each with a `STRATEGY`: adding one is adding a module."""

from __future__ import annotations

from typing import Final

from biosegment.errors import InvalidArgument
from biosegment_sampler.strategies.registry import own_strategies, with_third_parties
from biosegment_sampler.strategies.strategy import Candidates, Passes, Strategy

STRATEGIES: Final = with_third_parties(own_strategies(__name__, __path__))
COLD_START: Final = STRATEGIES["stratified"]
"""What ranks while there is no model, and fills up what others leave."""
NEAR_FOREGROUND: Final = STRATEGIES["near_foreground"]
"""What ranks in turn with it when a model's scores say nothing, once anybody has annotated what is looked for."""


def find_strategy(name: str) -> Strategy:
    """Raises InvalidArgument UNKNOWN_STRATEGY."""
    if name not in STRATEGIES:
        raise InvalidArgument(
            "UNKNOWN_STRATEGY", f"strategy {name!r} is unknown; known are {', '.join(sorted(STRATEGIES))}"
        )
    return STRATEGIES[name]


__all__ = ["COLD_START", "NEAR_FOREGROUND", "STRATEGIES", "Candidates", "Passes", "Strategy", "find_strategy"]
