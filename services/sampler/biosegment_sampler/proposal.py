"""Ranking the pool of a project: which strategies can work now, and in which order they put the candidates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default
from textwrap import shorten
from typing import Final

import numpy as np

from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.blindness import FOREGROUND_MEASURE
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.pool import Loop, Pool, StrategyShare
from biosegment_sampler.domain.ranking import Ranking, in_order
from biosegment_sampler.ports import Ledger, ScoreLayer, ScoreMaps
from biosegment_sampler.strategies import COLD_START, NEAR_FOREGROUND, STRATEGIES, Passes, Strategy
from biosegment_sampler.survey import Context, Failure, Survey

_KEPT_BYTES: Final = 1 << 30
"""Of the scores that are kept for pools that were not the last one to be asked for."""
_MAX_FAILURE: Final = 300


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A ranked pool.

    Attributes:
        field: All candidates.
        rankings: By the strategies that really rank, and by the one for a cold start, which fills up.
        shares: Of those.
        notice: What the annotator should know, or ''.
        model: Whose scores were used, or ''.
        layers: Score maps to show over samples, by measure and volume id.
        follows_annotations: The next annotation may make another one of it.
    """

    field: CandidateField
    rankings: Mapping[str, Ranking]
    shares: tuple[StrategyShare, ...]
    notice: str
    model: str
    layers: Mapping[tuple[str, str], ScoreLayer]
    follows_annotations: bool = False

    @property
    def nbytes(self) -> int:
        return sum(ranking.nbytes for ranking in self.rankings.values())


@dataclass(frozen=True, slots=True)
class Scoring:
    """What one scoring job is to do.

    Attributes:
        measures: Sorted.
        passes: Over what.
    """

    measures: tuple[str, ...]
    passes: Passes = Passes.NONE

    @property
    def instead(self) -> Passes | None:
        """Passes that also tell what a model does not know, for networks without dropout."""
        return Passes.AUGMENTATION if self.passes is Passes.DROPOUT else None


def wanted_scorings(pool: Pool) -> tuple[Scoring, ...]:
    """What must be scored for the pool: its strategies' measures, and what shows whether the model finds anything.

    One job for each kind of passes; measures that need none come with the first.
    """
    strategies = [
        STRATEGIES[share.strategy] for share in pool.settings.strategies if share.strategy in STRATEGIES
    ]
    passes_of: dict[str, Passes] = {}
    for strategy in sorted(strategies, key=lambda strategy: not strategy.passes):
        for measure in strategy.measures:
            passes_of.setdefault(measure, strategy.passes)
    if not passes_of:
        return ()
    passes_of.setdefault(FOREGROUND_MEASURE, Passes.NONE)
    kinds = sorted(set(passes_of.values()) - {Passes.NONE}) or [Passes.NONE]
    first = {kinds[0], Passes.NONE}
    return tuple(
        Scoring(
            tuple(
                sorted(name for name, of in passes_of.items() if of in (first if kind in first else {kind}))
            ),
            kind,
        )
        for kind in kinds
    )


class Proposer:
    """Ranks pools, remembering what was read; score maps are immutable, so nothing goes stale."""

    def __init__(self, ledger: Ledger, score_maps: ScoreMaps) -> None:
        self._ledger = ledger
        self._score_maps = score_maps
        self._surveys: OrderedDict[object, tuple[object, Survey]] = OrderedDict()

    async def propose(self, pool: Pool, field: CandidateField, shares: Sequence[StrategyShare]) -> Proposal:
        """Rank candidates of a pool by `shares`.

        A strategy that cannot work now gives way: before the first scores to stratified choice, afterwards to windows
        near annotations that show a class and stratified choice in turn.

        Raises:
            Unavailable: Object storage cannot be read.
        """
        while True:
            model = pool.loop.scored_model
            async with self._ledger.read(pool.project_id) as transaction:
                layers = await transaction.score_layers(model) if model else ()
                current = await transaction.pool() or pool
            if current.loop.scored_model == model:
                return await self._propose(pool, field, shares, layers)
            # Newer scores were taken into use meanwhile, and those of the older model are gone.
            pool = replace(pool, loop=current.loop)

    async def prepare(self, pool: Pool, field: CandidateField, layers: Sequence[ScoreLayer]) -> None:
        """Rank by score maps before they are taken into use, so that no annotator waits for it.

        Args:
            pool: As it will be, with its `scored_model`.
            field: All of its candidates.
            layers: Score maps of that model.

        Raises:
            Unavailable: Object storage cannot be read.
        """
        await self._propose(pool, field, pool.settings.strategies, layers)

    async def _propose(
        self,
        pool: Pool,
        field: CandidateField,
        shares: Sequence[StrategyShare],
        layers: Sequence[ScoreLayer],
    ) -> Proposal:
        survey = self._survey(pool, field, layers)
        context = Context(
            pool.settings.retrain.after_annotations,
            pool.loop.rounds,
            abs(pool.settings.seed),
            lambda: self._annotations(pool.project_id),
        )
        mixture = _Mixture()
        for share in shares:
            await _add(mixture, share, pool, survey, context)
        rankings = mixture.rankings
        if COLD_START.name not in rankings:
            spread = await survey.ranking(COLD_START, context)
            nothing = in_order(np.zeros(0, np.int64))
            rankings[COLD_START.name] = nothing if isinstance(spread, Failure) else spread
        await self._forget_lost(pool, survey)
        merged = _merged(mixture.parts)
        used = [STRATEGIES[share.strategy] for share in merged]
        return Proposal(
            survey.field,
            rankings,
            merged,
            " ".join(dict.fromkeys(mixture.notices)),
            pool.loop.scored_model if any(strategy.measures for strategy in used) else "",
            {
                place: layer
                for strategy in used
                if strategy.shown
                for place, layer in survey.shown(strategy.shown).items()
            },
            # With the first annotation that shows a class there is something to be near to.
            follows_annotations=mixture.fell_back or any(strategy.follows_annotations for strategy in used),
        )

    def _survey(self, pool: Pool, field: CandidateField, layers: Sequence[ScoreLayer]) -> Survey:
        """That of the same volumes, as long as neither they nor the scores have changed."""
        key = (pool.project_id, tuple(grid.volume_id for grid in field.grids))
        places = tuple((grid.shape, grid.window, grid.counts) for grid in field.grids)
        stamp = (places, tuple(sorted((layer.name, layer.uri) for layer in layers)))
        last, survey = self._surveys.get(key, (None, None))
        if survey is None or last != stamp:
            by_place = {(layer.measure, layer.volume_id): layer for layer in layers}
            survey = Survey(field, by_place, self._score_maps)
            self._surveys[key] = (stamp, survey)
        self._surveys.move_to_end(key)
        while len(self._surveys) > 1 and sum(each.nbytes for _, each in self._surveys.values()) > _KEPT_BYTES:
            self._surveys.popitem(last=False)
        return survey

    async def _annotations(self, project_id: str) -> Sequence[Annotation]:
        # In a thread: there may be a hundred thousand.
        return await self._ledger.read_at_once(project_id, lambda rows: rows.annotations())

    async def _forget_lost(self, pool: Pool, survey: Survey) -> None:
        """Somebody deleted maps; forgetting them makes the loop score again."""
        if not survey.lost:
            return
        async with self._ledger.write(pool.project_id) as transaction:
            for layer in survey.lost:
                await transaction.drop_score_layer(layer)
        survey.lost.clear()


@dataclass(slots=True)
class _Mixture:
    """What ranks, in which shares, and what the annotator should know of it."""

    rankings: dict[str, Ranking] = default(default_factory=dict)
    parts: list[StrategyShare] = default(default_factory=list)
    notices: list[str] = default(default_factory=list)
    fell_back: bool = False


async def _add(mixture: _Mixture, share: StrategyShare, pool: Pool, survey: Survey, context: Context) -> None:
    """Have a strategy rank for its share, or what gives a way out in its place, or for half of it."""
    strategy = STRATEGIES.get(share.strategy)
    why, part, which = await _problem(pool, share.strategy, strategy, survey), share.share, "these samples"
    if strategy is not None and not why:
        found = await survey.ranking(strategy, context)
        if isinstance(found, Failure):
            why = found.why
        else:
            mixture.rankings[strategy.name] = found
            mixture.notices += _remarks(strategy, survey)
            why = "" if strategy.cold_start else pool.loop.misleading
            if not why:
                mixture.parts.append(share)
                return
            # What the model says may still help; by itself it would lead to the same places again and again.
            part, which = part / 2, "half of these samples"
            mixture.parts.append(StrategyShare(strategy.name, part))
    mixture.fell_back = mixture.fell_back or bool(pool.loop.scored_model)
    near = await survey.ranking(NEAR_FOREGROUND, context) if pool.loop.scored_model else None
    if near is None or isinstance(near, Failure):
        mixture.parts.append(StrategyShare(COLD_START.name, part))
        how = "spread evenly"
    else:
        mixture.rankings[NEAR_FOREGROUND.name] = near
        mixture.parts += [StrategyShare(name, part / 2) for name in (NEAR_FOREGROUND.name, COLD_START.name)]
        how = "near annotations that show a class, or spread evenly,"
    mixture.notices.append(
        f"{why}: {which} are {how} instead of chosen by {share.strategy}; add regions of your own that show what you "
        "look for."
    )


async def _problem(pool: Pool, name: str, strategy: Strategy | None, survey: Survey) -> str:
    """Why a strategy cannot rank now; '' when it can."""
    if strategy is None:
        return f"this sampler has no strategy {name!r} any more"
    if strategy.cold_start:
        return ""
    if not pool.loop.scored_model:
        return _waiting(pool.loop)
    return await survey.problem(strategy)


def _waiting(loop: Loop) -> str:
    """Why no model has scored anything."""
    if not loop.latest_model:
        return "there is no model yet"
    if not loop.scoring_failure:
        return "a model is being scored"
    failure = shorten(loop.scoring_failure, _MAX_FAILURE, placeholder=" ...")
    return (
        f"the model could not be scored ({failure}), which is tried again twice, after a while, and with the next "
        "training"
    )


def _remarks(strategy: Strategy, survey: Survey) -> list[str]:
    """What the annotator should know of a strategy that works."""
    if strategy.passes is not Passes.DROPOUT or Passes.AUGMENTATION not in survey.passes(
        strategy.measures[0]
    ):
        return []
    return [
        f"the network has no dropout: {strategy.name} compares turned and mirrored copies; train with the option "
        "network.dropout to compare passes with dropout."
    ]


def _merged(shares: Sequence[StrategyShare]) -> tuple[StrategyShare, ...]:
    merged: dict[str, float] = {}
    for share in shares:
        merged[share.strategy] = merged.get(share.strategy, 0.0) + share.share
    return tuple(StrategyShare(name, part) for name, part in merged.items())
