"""Which strategies there are: those of this package, and those that other distributions bring.

A strategy of this package is a module here with a `STRATEGY`. Another distribution names one in its entry points:

    [project.entry-points."biosegment.strategies"]
    mine = "my_package.my_module:STRATEGY"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from biosegment_sampler.strategies.strategy import Strategy

GROUP: Final = "biosegment.strategies"
_log = structlog.get_logger("biosegment_sampler.strategies")


def own_strategies(package: str, path: Iterable[str]) -> dict[str, Strategy]:
    """By name, of all modules of a package."""
    modules = [importlib.import_module(f"{package}.{module.name}") for module in pkgutil.iter_modules(path)]
    found = [module.STRATEGY for module in modules if hasattr(module, "STRATEGY")]
    return {strategy.name: strategy for strategy in found}


def with_third_parties(own: Mapping[str, Strategy]) -> dict[str, Strategy]:
    """And those of entry points; one that is broken, or takes a name that is taken, is logged and left out."""
    found = dict(own)
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            strategy = point.load()
        except Exception as error:
            _refuse(point, f"{type(error).__name__}: {error}")
            continue
        if not isinstance(strategy, Strategy):
            _refuse(point, f"it is {type(strategy).__name__} and no Strategy")
        elif strategy.name in found:
            _refuse(point, f"there is a strategy {strategy.name!r} already")
        else:
            found[strategy.name] = strategy
    return found


def _refuse(point: EntryPoint, why: str) -> None:
    distribution = point.dist.name if point.dist else ""
    _log.error(
        "a strategy was left out",
        entry_point=point.name,
        value=point.value,
        distribution=distribution,
        why=why,
    )
