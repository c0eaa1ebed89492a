"""Ranking the pool of a project: which strategies can work now, and in which order they put the candidates."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import NotFound
from biosegment_sampler.domain.blindness import FOREGROUND_MEASURE, blindness
from biosegment_sampler.domain.grid import CandidateField, CandidateGrid
from biosegment_sampler.domain.pool import Pool, StrategyShare, VolumeGeometry
from biosegment_sampler.domain.scores import WindowScore
from biosegment_sampler.domain.selection import Ranking
from biosegment_sampler.ports import Ledger, ScoreLayer, ScoreMaps
from biosegment_sampler.strategies import COLD_START, Strategy, find_strategy

_CACHED: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A ranked pool.

    Attributes:
        field: All candidates.
        rankings: By the strategies that really rank, and by the one for a cold start, which fills up.
        shares: Of those.
        notice: What the annotator should know, or ''.
        model: Whose scores were used, or ''.
        layers: Score map layer by strategy and volume id.
    """

    field: CandidateField
    rankings: Mapping[str, Ranking]
    shares: tuple[StrategyShare, ...]
    notice: str
    model: str
    layers: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """Scores of all candidates by measure, the largest foreground probability, and the layers behind them."""

    means: Mapping[str, NDArray[np.float32]]
    foreground_peak: float | None
    layers: Mapping[tuple[str, str], str]


def candidate_field(pool: Pool, volumes: Sequence[VolumeGeometry]) -> CandidateField:
    """The candidates of a pool in those volumes."""
    shape = pool.settings.sample_shape
    return CandidateField(
        [CandidateGrid.over(volume.volume_id, volume.shape, volume.sample_shape(shape)) for volume in volumes]
    )


def wanted_measures(pool: Pool) -> tuple[str, ...]:
    """What must be scored for the pool: its strategies' measures, and what shows whether the model finds anything."""
    measures = {
        measure for share in pool.settings.strategies for measure in find_strategy(share.strategy).measures
    }
    return tuple(sorted(measures | {FOREGROUND_MEASURE})) if measures else ()


class Proposer:
    """Ranks pools, remembering the scores of windows; score maps are immutable, so nothing goes stale."""

    def __init__(self, ledger: Ledger, score_maps: ScoreMaps) -> None:
        self._ledger = ledger
        self._score_maps = score_maps
        self._windows: OrderedDict[tuple[object, ...], WindowScore] = OrderedDict()
        self._rankings: OrderedDict[tuple[object, ...], Ranking] = OrderedDict()

    async def propose(
        self, pool: Pool, volumes: Sequence[VolumeGeometry], shares: tuple[StrategyShare, ...]
    ) -> Proposal:
        """Rank the candidates in `volumes` by `shares`; strategies that cannot work now give way to stratified choice.

        Raises:
            Unavailable: Object storage cannot be read.
        """
        field = candidate_field(pool, volumes)
        strategies = [find_strategy(share.strategy) for share in shares]
        needed = {measure for strategy in strategies for measure in strategy.measures}
        scores = await self._scores(pool, field, needed) if needed else _Scores({}, None, {})
        working, notices = [], []
        for share, strategy in zip(shares, strategies, strict=True):
            problem = _problem(pool, strategy, scores) if strategy.measures else ""
            working.append(StrategyShare(COLD_START.name, share.share) if problem else share)
            if problem and problem not in notices:
                notices.append(problem)
        merged = _merged(working)
        rankings = {
            name: await self._ranking(find_strategy(name), field, scores, pool.settings.seed)
            for name in {*(share.strategy for share in merged), COLD_START.name}
        }
        uses_scores = any(find_strategy(share.strategy).measures for share in merged)
        return Proposal(
            field,
            rankings,
            merged,
            " ".join(notices),
            pool.loop.scored_model if uses_scores else "",
            scores.layers,
        )

    async def _ranking(
        self, strategy: Strategy, field: CandidateField, scores: _Scores, seed: int
    ) -> Ranking:
        places = tuple((grid.volume_id, grid.shape, grid.window) for grid in field.grids)
        layers = tuple(sorted(scores.layers.items())) if strategy.measures else ()
        key = (strategy.name, seed, places, layers)
        found = self._rankings.get(key)
        if found is None:
            found = await asyncio.to_thread(strategy.rank, field, scores.means, abs(seed))
            self._rankings[key] = found
            if len(self._rankings) > _CACHED:
                self._rankings.popitem(last=False)
        self._rankings.move_to_end(key)
        return found

    async def _scores(self, pool: Pool, field: CandidateField, needed: set[str]) -> _Scores:
        """Scores of the candidates for the needed measures, from the maps of the pool's scored model."""
        async with self._ledger.read(pool.project_id) as transaction:
            known = await transaction.score_layers(pool.loop.scored_model) if pool.loop.scored_model else ()
        by_place = {(layer.measure, layer.volume_id): layer for layer in known}
        means: dict[str, NDArray[np.float32]] = {}
        used: dict[tuple[str, str], str] = {}
        peak: float | None = None
        for measure in sorted(needed | {FOREGROUND_MEASURE}):
            values = np.full(len(field), np.nan, np.float32)
            for grid, part in field.parts():
                layer = by_place.get((measure, grid.volume_id))
                windows = await self._window_score(pool, layer, grid) if layer else None
                if layer is None or windows is None:
                    continue
                values[part] = windows.means.reshape(-1)
                used[measure, grid.volume_id] = layer.name
                if measure == FOREGROUND_MEASURE:
                    peak = max(windows.peak, -np.inf if peak is None else peak)
            if any(name == measure for name, _ in used):
                means[measure] = values
        return _Scores(means, peak, used)

    async def _window_score(self, pool: Pool, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore | None:
        key = (layer.name, layer.uri, grid.window, grid.counts)
        found = self._windows.get(key)
        if found is None:
            try:
                found = await self._score_maps.windows(layer, grid)
            except NotFound:
                # Somebody deleted it; forgetting it makes the loop score again.
                async with self._ledger.write(pool.project_id) as transaction:
                    await transaction.drop_score_layer(layer.name)
                return None
            self._windows[key] = found
            if len(self._windows) > _CACHED:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        return found


def _problem(pool: Pool, strategy: Strategy, scores: _Scores) -> str:
    """Why a strategy with measures cannot rank now, and what can be done; '' when it can."""
    what = f"these samples are spread evenly instead of chosen by {strategy.name}"
    if not pool.loop.scored_model:
        why = "a model is being scored" if pool.loop.latest_model else "there is no model yet"
        return f"{why}: {what}; add regions of your own that show what you look for."
    missing = [measure for measure in strategy.measures if measure not in scores.means]
    if missing:
        return f"no {missing[0]} was scored for {pool.loop.scored_model}: {what}."
    blind = blindness(scores.means[strategy.measures[0]], scores.foreground_peak)
    if blind:
        return f"{blind}: {what}; add regions of your own that show what you look for."
    return ""


def _merged(shares: Sequence[StrategyShare]) -> tuple[StrategyShare, ...]:
    merged: dict[str, float] = {}
    for share in shares:
        merged[share.strategy] = merged.get(share.strategy, 0.0) + share.share
    return tuple(StrategyShare(name, part) for name, part in merged.items())
