"""Picking a batch: greedy, best first, without overlap and without near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Region
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.pool import StrategyShare, VolumeRegion


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Candidates in the order of a strategy.

    Attributes:
        order: Numbers of candidates, best first; int64 (n,). What is not in it is no candidate for the strategy.
        scores: Larger is better, by number; float32 (all,), or None for strategies without scores.
    """

    order: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """A chosen candidate."""

    strategy: str
    number: int
    volume_id: str
    region: Region
    score: float


class Occupancy:
    """Which candidates are out of reach."""

    def __init__(self, field: CandidateField) -> None:
        self._field = field
        self._blocked: NDArray[np.bool_] = np.zeros(len(field), np.bool_)
        self._views = {
            grid.volume_id: (grid, self._blocked[part].reshape(grid.counts)) for grid, part in field.parts()
        }

    def block(self, regions: Iterable[VolumeRegion], slices_apart: int = 1) -> Occupancy:
        """Take out the windows that touch one of the regions, or lie nearer than `slices_apart` slices to it."""
        for taken in regions:
            if taken.volume_id in self._views:
                grid, view = self._views[taken.volume_id]
                view[grid.overlapping(taken.region, slices_apart)] = True
        return self

    def is_blocked(self, number: int) -> bool:
        return bool(self._blocked[number])

    @property
    def open_count(self) -> int:
        return int(len(self._blocked) - np.count_nonzero(self._blocked))

    def first_open(self, order: NDArray[np.int64]) -> int | None:
        """Position in `order` of the first candidate that is not blocked."""
        step = 4096
        for first in range(0, len(order), step):
            free = np.flatnonzero(~self._blocked[order[first : first + step]])
            if len(free):
                return first + int(free[0])
        return None


def select(
    field: CandidateField,
    rankings: Mapping[str, Ranking],
    shares: Sequence[StrategyShare],
    count: int,
    *,
    taken: Sequence[VolumeRegion],
    near: Sequence[VolumeRegion] = (),
    slice_distance: int = 1,
    chosen_before: Mapping[str, int] | None = None,
    reserve: str = "",
) -> list[Pick]:
    """Choose up to `count` candidates.

    Args:
        field: All candidates.
        rankings: One per strategy of `shares`.
        shares: Parts of the batch; a strategy that has nothing left leaves its part to the others.
        count: At most so many.
        taken: Labelled, leased, skipped and excluded regions; no pick touches one.
        near: Regions that are held or were labelled since the model was trained. What lies within
            `slice_distance` slices of one shows nearly the same, and the scores do not know of it yet: it
            comes only when nothing else is left.
        slice_distance: Picks that overlap in plane lie at least so many slices apart.
        chosen_before: Samples per strategy so far, so that shares hold over many small batches.
        reserve: Strategy, with a ranking, that fills up when those of `shares` have nothing left.

    Returns:
        Picks, best first; fewer than `count` when the pool is used up.
    """
    picks: list[Pick] = []
    spare = (StrategyShare(reserve, 1.0),) if reserve else ()
    for nearby, parts in ((near, shares), ((), shares), ((), spare)):
        if len(picks) == count:
            break
        occupancy = Occupancy(field).block(taken).block(nearby, slice_distance)
        occupancy.block((VolumeRegion(pick.volume_id, pick.region) for pick in picks), slice_distance)
        _fill(picks, field, rankings, parts, count, occupancy, slice_distance, dict(chosen_before or {}))
    return picks


def _fill(
    picks: list[Pick],
    field: CandidateField,
    rankings: Mapping[str, Ranking],
    shares: Sequence[StrategyShare],
    count: int,
    occupancy: Occupancy,
    slice_distance: int,
    chosen: dict[str, int],
) -> None:
    for pick in picks:
        chosen[pick.strategy] = chosen.get(pick.strategy, 0) + 1
    remaining = {share.strategy: rankings[share.strategy].order for share in shares}
    while remaining and len(picks) < count:
        strategy = next_strategy([share for share in shares if share.strategy in remaining], chosen)
        place = occupancy.first_open(remaining[strategy])
        if place is None:
            del remaining[strategy]
            continue
        number = int(remaining[strategy][place])
        remaining[strategy] = remaining[strategy][place + 1 :]
        volume_id, region = field.locate(number)
        scores = rankings[strategy].scores
        picks.append(
            Pick(strategy, number, volume_id, region, 0.0 if scores is None else float(scores[number]))
        )
        occupancy.block((VolumeRegion(volume_id, region),), slice_distance)
        chosen[strategy] = chosen.get(strategy, 0) + 1


def next_strategy(shares: Sequence[StrategyShare], chosen: Mapping[str, int]) -> str:
    """The strategy that is furthest behind its share; the first one on a tie."""
    total = sum(chosen.get(share.strategy, 0) for share in shares) + 1
    weight = sum(share.share for share in shares)
    behind = [total * share.share / weight - chosen.get(share.strategy, 0) for share in shares]
    return shares[int(np.argmax(behind))].strategy
