"""What the experiment is to show, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from biosegment_sampler.domain.pool import PoolSettings

from benchmarks.active_learning.group import (
    BASELINES,
    FIRST,
    Comparison,
    Group,
    interval,
    percent,
    share_of_budget,
)
from benchmarks.active_learning.record import ASKING_PARENT, PARENT, RANDOM, SCRATCH
from benchmarks.active_learning.trial import TRIALS

PROFILE: Final = "small"
FEW: Final = "fives"
"""The profile whose queries are small."""
_GAIN: Final = {"epfl": 0.05, "vnc": 0.12}
_SEEDS: Final = 5
_AT: Final = (60, 100, 200)


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure against what was asked of it.

    Attributes:
        name: What was asked.
        figure: What was found.
        reached: Whether it is enough.
        seeds: It rests on.
    """

    name: str
    figure: str
    reached: bool
    seeds: int

    @property
    def passed(self) -> bool:
        return self.reached and self.seeds >= _SEEDS

    @property
    def row(self) -> tuple[str, str, str]:
        """Of the table."""
        verdict = "PASS" if self.reached else "**FAIL**"
        if not self.seeds:
            verdict = "not run"
        elif self.seeds < _SEEDS:
            verdict = f"{verdict} so far, {self.seeds} seeds of {_SEEDS}"
        return self.name, self.figure, verdict


def default_strategy() -> str:
    """What a new project of the platform is sampled by, as `chooser.parse_plan` reads it."""
    shares = PoolSettings().strategies
    return shares[0].strategy if len(shares) == 1 else "+".join(f"{s.strategy}:{s.share:g}" for s in shares)


def best_strategy(groups: Sequence[Group]) -> str | None:
    """That with the largest mean gain in area over random choice, over all tissues from scratch, on the first seeds;
    of those that were run on all of them with the most seeds, no baseline and no trial.
    """
    gains = [
        {c.strategy: c for c in group.compared() if c.strategy not in (*BASELINES, *TRIALS)}
        for group in _among(groups, SCRATCH).values()
    ]
    if not gains:
        return None
    common = set(gains[0]).intersection(*gains[1:])
    seeds = {s: min(len(gain[s].seeds) for gain in gains) for s in common}
    eligible = [s for s in sorted(common) if seeds[s] == max(seeds.values())]
    return max(eligible, key=lambda s: float(np.mean([g[s].area.mean for g in gains])), default=None)


def targets(groups: Sequence[Group]) -> list[Finding]:
    """All that was asked for."""
    best, default = best_strategy(groups), default_strategy()
    found: list[Finding] = []
    scratch = _among(groups, SCRATCH)
    for tissue in _GAIN:
        group = scratch.get(tissue)
        few = _among(groups, SCRATCH, profile=FEW).get(tissue)
        what = f"`{best}` minus random from scratch"
        found += _gains(what, groups, PROFILE, tissue, best)
        found += _gains(f"{what}, both with five patches a query", groups, FEW, tissue, best)
        for asked, which in ((group, "from scratch"), (few, "from scratch with five patches a query")):
            name = f"{tissue.upper()}, `{best}`: labels for random's final IoU, {which}: at most 60 %"
            found.append(_labels(name, asked, group, best, 0.6))
        for profile, start, which in (
            (PROFILE, PARENT, "a parent"),
            (PROFILE, ASKING_PARENT, "a parent that chooses the first patches too"),
            (FEW, PARENT, "a parent and five patches a query"),
        ):
            parent = _among(groups, start, profile=profile).get(tissue)
            for share, what in ((0.25, "at most 25 %"), (0.1, "at most 10 % (stretch)")):
                name = f"{tissue.upper()}, `{best}` with {which}: labels for random's final IoU from scratch: {what}"
                found.append(_labels(name, parent, group, best, share))
        name = f"{tissue.upper()}, the default (`{default}`) minus random, area from scratch: at least -0.01"
        found.append(_area(name, _comparison(group, default)))
    return found


def _among(
    groups: Sequence[Group], start: str, is_fresh: bool = False, profile: str = PROFILE
) -> dict[str, Group]:
    """By tissue."""
    wanted = (profile, start, is_fresh)
    return {g.tissue: g for g in groups if (g.profile, g.start, g.is_fresh) == wanted and g.tissue in _GAIN}


def _comparison(group: Group | None, strategy: str | None) -> Comparison | None:
    found = group.compared() if group else []
    return next((c for c in found if c.strategy == strategy), None)


def _gains(
    what: str, groups: Sequence[Group], profile: str, tissue: str, strategy: str | None
) -> tuple[Finding, Finding]:
    """What the first seeds say, and what the fresh ones say."""
    first = _comparison(_among(groups, SCRATCH, profile=profile).get(tissue), strategy)
    fresh = _comparison(_among(groups, SCRATCH, is_fresh=True, profile=profile).get(tissue), strategy)
    # One budget, chosen before: three looks would confirm more than there is.
    at = [n for n in _AT if first and n in first.at]
    chosen = max(at, key=lambda n: first.at[n].mean if first else 0.0, default=_AT[0])
    name, least = f"{tissue.upper()}, {what}", _GAIN[tissue]
    return (
        _gain(f"{name}, seeds 0 to 4, at one budget: at least +{least:g}", first, _AT, least),
        _gain(
            f"{name}, fresh seeds 5 to 9 at {chosen}, where it is largest: at least +{least:g}",
            fresh,
            (chosen,),
            least,
        ),
    )


def _gain(name: str, comparison: Comparison | None, budgets: Sequence[int], least: float) -> Finding:
    at = {n: d for n, d in comparison.at.items() if n in budgets} if comparison else {}
    if comparison is None or not at:
        return Finding(name, "", False, 0)
    figure = ", ".join(f"{interval(d)} at {n}" for n, d in at.items())
    return Finding(name, figure, any(d.mean >= least for d in at.values()), len(comparison.seeds))


def _area(name: str, comparison: Comparison | None) -> Finding:
    if comparison is None:
        return Finding(name, "", False, 0)
    return Finding(name, interval(comparison.area), comparison.area.mean >= -0.01, len(comparison.seeds))


def _labels(
    name: str, group: Group | None, scratch: Group | None, strategy: str | None, most: float
) -> Finding:
    """Share of the labels of random choice from scratch that reach what it ends with; seeds that all were run with."""
    if group is None or scratch is None or strategy is None:
        return Finding(name, "", False, 0)
    seeds = [s for s in group.seeds(strategy) if (RANDOM, s) in scratch.records]
    if not seeds:
        return Finding(name, "", False, 0)
    share = share_of_budget(group.mean(strategy, seeds), scratch.final(seeds), scratch.last)
    least = FIRST / scratch.last
    # What the first patches reach may have been reached with fewer; it was not tried.
    figure = f"not within {group.last} patches" if share is None else percent(share, least, digits=1)
    return Finding(name, figure, share is not None and max(share, least) <= most, len(seeds))
