"""Picking a batch: greedy, best first, without overlap and without near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biosegment.volume import Region
from biosegment_sampler.domain.dealing import strategy_at
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.occupancy import BATCH, NEAR, TAKEN, Hold, Occupancy, View
from biosegment_sampler.domain.pool import StrategyShare, VolumeRegion
from biosegment_sampler.domain.ranking import Ranking


@dataclass(frozen=True, slots=True)
class Pick:
    """A chosen candidate."""

    strategy: str
    number: int
    volume_id: str
    region: Region
    score: float


def select(
    field: CandidateField,
    rankings: Mapping[str, Ranking],
    shares: Sequence[StrategyShare],
    count: int,
    *,
    taken: Sequence[VolumeRegion],
    near: Sequence[VolumeRegion] = (),
    slice_distance: int = 1,
    first: int = 0,
    reserve: str = "",
) -> list[Pick]:
    """As `pick`, from a field of which nothing is known yet but what is given here.

    Args:
        field: All candidates.
        rankings: One per strategy of `shares`.
        shares: Parts of the batch.
        count: At most so many.
        taken: Labelled, leased, skipped and excluded regions; no pick touches one.
        near: Regions of which the scores do not know yet.
        slice_distance: Between picks, and between picks and `near`.
        first: As in `pick`.
        reserve: Strategy that fills up.
    """
    occupancy = Occupancy(field, slice_distance)
    holds = [*(Hold(place, TAKEN) for place in taken), *(Hold(place, NEAR) for place in near)]
    occupancy.fill(enumerate(holds))
    return pick(occupancy.view(), rankings, shares, count, first=first, reserve=reserve)


def pick(
    view: View,
    rankings: Mapping[str, Ranking],
    shares: Sequence[StrategyShare],
    count: int,
    *,
    first: int = 0,
    reserve: str = "",
    also_taken: Sequence[VolumeRegion] = (),
) -> list[Pick]:
    """Choose up to `count` candidates; nothing is held by that.

    Args:
        view: All candidates, and which are taken. What lies near to something of which the scores do not know yet
            shows nearly the same: it comes only when nothing else is left. Picks that overlap in plane lie at least the
            slice distance of the occupancy apart.
        rankings: One per strategy of `shares`.
        shares: Parts of the batch; a strategy that has nothing left leaves its part to the others.
        count: At most so many.
        first: Number of the first pick among all that were dealt, so that shares hold over many small batches.
        reserve: Strategy, with a ranking, that fills up when those of `shares` have nothing left.
        also_taken: As if they were in the batch already.

    Returns:
        Picks, best first; fewer than `count` when the pool is used up.
    """
    picks: list[Pick] = []
    spare = (StrategyShare(reserve, 1.0),) if reserve else ()
    for place in also_taken:
        view.mark(place.volume_id, place.region)
    try:
        for bits, parts in ((TAKEN | NEAR, shares), (TAKEN, shares), (TAKEN, spare)):
            if view.has_open(bits):
                _fill(picks, view, rankings, parts, count, bits | BATCH, first)
    finally:
        for volume_id, region in [(each.volume_id, each.region) for each in picks] + [
            (place.volume_id, place.region) for place in also_taken
        ]:
            view.unmark(volume_id, region)
    return picks


def _fill(
    picks: list[Pick],
    view: View,
    rankings: Mapping[str, Ranking],
    shares: Sequence[StrategyShare],
    count: int,
    bits: np.uint8,
    first: int,
) -> None:
    left = list(shares)
    while left and len(picks) < count:
        strategy = strategy_at(left, first + len(picks))
        ranking = rankings[strategy]
        number = view.queue(ranking).first_open(bits)
        if number is None:
            left = [share for share in left if share.strategy != strategy]
            continue
        volume_id, region = view.field.locate(number)
        score = 0.0 if ranking.scores is None else float(ranking.scores[number])
        view.mark(volume_id, region)
        picks.append(Pick(strategy, number, volume_id, region, score))
