"""Runs that differ in strategy and seed alone, and how their strategies compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from benchmarks.active_learning.record import ASKING_PARENT, EVERYTHING, PARENT, RANDOM, SCRATCH, Record
from benchmarks.active_learning.statistic import (
    Curve,
    Difference,
    area,
    holm,
    mean_curve,
    paired_difference,
    reached_at,
)
from benchmarks.active_learning.trial import TRIALS

BASELINES: Final = (RANDOM, "stratified", "foreground_random")
FIRST: Final = 20
"""Where areas begin: the starting set, which all strategies share."""
ENOUGH: Final = 3
"""Seeds, below which intervals and p say nothing."""
FRESH: Final = 5
"""From which seed on runs only confirm what was chosen on those before."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A strategy against another run of the same seeds.

    Attributes:
        strategy: Which.
        seeds: That both were run with.
        curve: Mean over the seeds.
        areas: One per seed.
        area: Difference of the areas.
        at: Difference of the IoU, by budget.
        p: Of the area, adjusted for all comparisons of the group that have as many seeds; None with fewer than others,
            and for trials, which are no candidates.
        apart: By how much the IoU of their first models differs at most, where the first patches are the same; such
            runs were made on other processors, and are no pairs.
    """

    strategy: str
    seeds: tuple[int, ...]
    curve: dict[float, float]
    areas: tuple[float, ...]
    area: Difference
    at: dict[int, Difference]
    p: float | None
    apart: float


@dataclass(frozen=True, eq=False)
class Group:
    """Finished runs of one profile, tissue and start.

    Attributes:
        profile: In `PROFILES`.
        tissue: In `TISSUES`.
        start: In `STARTS`.
        is_fresh: The strategies were not compared on these seeds before one was chosen.
        records: By strategy and seed.
        last: Budget of its runs; the smallest where they differ.
    """

    profile: str
    tissue: str
    start: str
    is_fresh: bool
    records: dict[tuple[str, int], Record]
    last: int

    @property
    def budgets(self) -> list[int]:
        """At which IoU is told."""
        return sorted({self.last, *(count for count in (20, 40, 60, 100, 200) if count <= self.last)})

    @property
    def strategies(self) -> list[str]:
        """Random choice first, then other baselines, then the others by name, trials last."""
        found = {strategy for strategy, _ in self.records}
        return sorted(found, key=lambda s: (s not in BASELINES, s != RANDOM, s in TRIALS, s))

    def seeds(self, strategy: str) -> tuple[int, ...]:
        """With which a strategy was run."""
        return tuple(sorted(seed for name, seed in self.records if name == strategy))

    def of(self, strategy: str, seeds: Sequence[int]) -> list[Record]:
        """The runs of a strategy with some seeds."""
        return [self.records[strategy, seed] for seed in seeds]

    def mean(self, strategy: str, seeds: Sequence[int]) -> dict[float, float]:
        """Mean curve of some runs, to the budget of the group."""
        curves = [
            {x: y for x, y in record.curve.items() if x <= self.last} for record in self.of(strategy, seeds)
        ]
        return mean_curve(curves)

    def areas(self, strategy: str, seeds: Sequence[int]) -> list[float]:
        """Normalised areas under the curves of some runs."""
        return [area(record.curve, FIRST, self.last) for record in self.of(strategy, seeds)]

    def compared(self, against: str = RANDOM) -> list[Comparison]:
        """All strategies against one, each over the seeds that both have."""
        found = []
        for strategy in self.strategies:
            seeds = tuple(s for s in self.seeds(strategy) if (against, s) in self.records)
            if strategy == against or not seeds:
                continue
            mine, theirs = self.of(strategy, seeds), self.of(against, seeds)
            areas = self.areas(strategy, seeds)
            found.append(
                Comparison(
                    strategy=strategy,
                    seeds=seeds,
                    curve=self.mean(strategy, seeds),
                    areas=tuple(areas),
                    area=paired_difference(areas, self.areas(against, seeds)),
                    at={
                        budget: paired_difference(
                            [r.curve[budget] for r in mine], [r.curve[budget] for r in theirs]
                        )
                        for budget in self.budgets[1:]
                    },
                    p=None,
                    apart=0.0 if self.start == ASKING_PARENT else _apart(mine, theirs),
                )
            )
        most = max((len(comparison.seeds) for comparison in found), default=0)
        tested = [c.strategy for c in found if len(c.seeds) == most and c.strategy not in TRIALS]
        adjusted = dict(zip(tested, holm([c.area.p for c in found if c.strategy in tested]), strict=True))
        return [replace(c, p=adjusted.get(c.strategy)) for c in found]

    def final(self, seeds: Sequence[int], strategy: str = RANDOM) -> float:
        """Mean IoU of a strategy at the end."""
        return float(np.mean([record.curve[self.last] for record in self.of(strategy, seeds)]))

    @property
    def title(self) -> str:
        """For people."""
        start = {
            SCRATCH: "from scratch",
            PARENT: "from a parent of the other data set",
            ASKING_PARENT: "from a parent of the other data set that chooses the first patches too",
        }[self.start]
        seeds = "fresh seeds 5 to 9" if self.is_fresh else "seeds 0 to 4"
        return f"{self.tissue.upper()}, {start}, {seeds}"

    @property
    def key(self) -> str:
        """For files."""
        return f"{self.profile}-{self.tissue}-{self.start}{'-fresh' * self.is_fresh}"


def _apart(some: Sequence[Record], others: Sequence[Record]) -> float:
    pairs = zip(some, others, strict=True)
    return max(abs(one.curve[FIRST] - other.curve[FIRST]) for one, other in pairs)


def share_of_budget(curve: Curve, height: float, last: float) -> float | None:
    """Of `last`, at which a curve reaches a height; None when it never does."""
    found = reached_at(curve, height)
    return None if found is None else found / last


def interval(difference: Difference) -> str:
    """A mean difference, and between what it lies by 95 %."""
    if difference.count < ENOUGH:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def percent(share: float | None, least: float = 0.0, digits: int = 0) -> str:
    """A share; what is reached by the first point of a curve, at `least`, may have been reached before."""
    if share is None:
        return "not reached"
    return f"{least:.{digits}%} or less" if share <= least else f"{share:.{digits}%}"


def grouped(records: Sequence[Record]) -> list[Group]:
    """Groups of the runs that have spent their budget."""
    found: dict[tuple[str, str, str, bool], dict[tuple[str, int], Record]] = {}
    for record in records:
        name = record.name
        if record.finished and name.strategy != EVERYTHING:
            key = (name.profile, name.tissue, name.start, name.seed >= FRESH)
            found.setdefault(key, {})[name.strategy, name.seed] = record
    for (profile, tissue, start, is_fresh), runs in found.items():
        if start == ASKING_PARENT:
            # Random choice asks no model: its first patches are the starting set.
            shared = found.get((profile, tissue, PARENT, is_fresh), {})
            runs.update({key: run for key, run in shared.items() if key[0] == RANDOM})
    return [
        Group(*key, records=runs, last=min(int(record.settings["budget"]) for record in runs.values()))
        for key, runs in found.items()
    ]
