"""Scoring a pool and choosing from it: the trainer's prediction and the sampler's selection, without services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from biosegment_sampler.domain.blindness import FOREGROUND_MEASURE, blindness
from biosegment_sampler.domain.embedding import embed_windows
from biosegment_sampler.domain.grid import CandidateField, CandidateGrid
from biosegment_sampler.domain.neighbourhood import nearest
from biosegment_sampler.domain.pool import StrategyShare, VolumeRegion
from biosegment_sampler.domain.scores import score_windows
from biosegment_sampler.domain.selection import select
from biosegment_sampler.strategies import COLD_START, Candidates
from biosegment_sampler.strategies.strategy import EMBEDDING, Passes
from biosegment_trainer.learning.measures import CELL
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.passes import PassesConfig
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor
from numpy.typing import NDArray

from benchmarks.active_learning import trial
from benchmarks.active_learning.record import RANDOM
from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region
from bundles.data import Stack

Maps = dict[str, NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How batches are chosen.

    Attributes:
        shares: Strategies and their parts of a batch.
        slice_distance: Picks that overlap in plane lie at least so many slices of the pool apart; None for what suits
            the tissue.
    """

    shares: tuple[StrategyShare, ...]
    slice_distance: int | None = None


def parse_plan(text: str) -> Plan:
    """Read `entropy`, `entropy:0.75+stratified:0.25`, or with a slice distance `entropy/4`.

    Nothing keeps picks of `random` apart: it is what chance does.
    """
    mixed, _, distance = text.partition("/")
    parts = [part.partition(":") for part in mixed.split("+")]
    shares = tuple(StrategyShare(name, float(share or 1.0)) for name, _, share in parts)
    for share in shares:
        trial.find(share.strategy)
    spread = None if mixed != RANDOM else 1
    return Plan(shares, int(distance) if distance else spread)


@dataclass(frozen=True, slots=True)
class Choice:
    """A batch, best first, and what an annotator would be told about it."""

    regions: list[Region]
    notice: str


class Chooser:
    """Chooses samples of one stack, as the sampler does for a project.

    Args:
        stack: The pool; its truth is looked at by trials alone that say so.
        factor: Level-0 voxels per working pixel.
        edge: Of a sample, level-0 voxels.
        slice_distance: Of picks, unless a plan says otherwise; in slices of the stack.
        passes: Of dropout, or of augmentation, for strategies that compare them.
        device: As in `Predictor`.
    """

    def __init__(
        self, stack: Stack, factor: int, edge: int, slice_distance: int, passes: int, device: str
    ) -> None:
        self._stack, self._factor, self._passes, self._device = stack, factor, passes, device
        self._slice_distance, self._edge = slice_distance, edge
        self._statistics = stack.statistics
        self._shape = Index(*stack.raw.shape)
        self._downsampling = Index(1, CELL * factor, CELL * factor)
        self._grid = CandidateGrid.over(stack.name, self._shape, Index(1, edge, edge))
        self._field = CandidateField([self._grid])

    def __len__(self) -> int:
        return len(self._field)

    @property
    def tiles(self) -> list[Region]:
        """Samples side by side over the whole stack, as many as fit."""
        edge = self._edge
        return [
            Region.of_shape((1, edge, edge), Index(z, y, x))
            for z in range(self._shape.z)
            for y in range(0, self._shape.y - edge + 1, edge)
            for x in range(0, self._shape.x - edge + 1, edge)
        ]

    def start(self, count: int, seed: int) -> list[Region]:
        """A starting set, the same for every strategy."""
        return self.choose(parse_plan(RANDOM), None, [], count, 0, seed).regions

    def choose(
        self,
        plan: Plan,
        model: NetworkModel | None,
        labelled: Sequence[Region],
        count: int,
        round_: int,
        seed: int,
    ) -> Choice:
        """The next batch.

        Args:
            plan: How.
            model: What scores; None when no strategy needs scores.
            labelled: What has been annotated.
            count: How many.
            round_: Trainings so far.
            seed: Of the run.
        """
        strategies = [trial.find(share.strategy) for share in plan.shares]
        needed = sorted({measure for strategy in strategies for measure in strategy.measures})
        maps = self._maps(model, needed, {s.passes for s in strategies}) if needed and model else {}
        scores, peak = self._scores(maps)
        taken = [VolumeRegion(self._stack.name, region) for region in labelled]
        candidates = Candidates(
            self._field,
            scores,
            lambda numbers: self._embed(maps, numbers),
            labelled=nearest(self._field, taken),
            batch=count,
            round=round_,
            # What is random in a ranking differs from round to round.
            seed=int(np.random.SeedSequence([seed, round_]).generate_state(1)[0]),
        )
        parts: dict[str, float] = {}
        notices = []
        for share, strategy in zip(plan.shares, strategies, strict=True):
            name, measure = strategy.name, next(iter(strategy.measures), "")
            blind = blindness(scores[measure], peak) if measure and measure != EMBEDDING else ""
            if blind:
                notices.append(f"{blind}: {COLD_START.name} instead of {name}")
                name = COLD_START.name
            parts[name] = parts.get(name, 0.0) + share.share
        rankings = {name: trial.find(name).rank(candidates) for name in {*parts, COLD_START.name}}
        picks = select(
            self._field,
            rankings,
            [StrategyShare(name, part) for name, part in parts.items()],
            count,
            taken=taken,
            slice_distance=plan.slice_distance or self._slice_distance,
            reserve=COLD_START.name,
        )
        return Choice([pick.region for pick in picks], "; ".join(dict.fromkeys(notices)))

    def _maps(self, model: NetworkModel, measures: Sequence[str], passes: set[Passes]) -> Maps:
        """Score maps of the whole stack, (z, cells y, cells x * channels)."""
        varied = passes - {Passes.NONE}
        if len(varied) > 1:
            raise InvalidArgument("BAD_PASSES", "strategies that compare different passes cannot be mixed")
        platforms = [measure for measure in measures if measure not in trial.TRIALS]
        config = PredictionConfig(
            factor=self._factor,
            measures=(*dict.fromkeys([*platforms, FOREGROUND_MEASURE]),),
            with_labels=False,
            passes=PassesConfig(
                mc_dropout=self._passes if varied == {Passes.DROPOUT} else 0,
                test_time_augmentation=self._passes if varied == {Passes.AUGMENTATION} else 0,
            ),
            backend="eager",
        )
        predictor = Predictor(model, config, self._device)
        whole = Region(Index(0, 0, 0), self._shape)
        parts = list(
            predictor.predict(
                lambda region: self._stack.raw[region.slices], whole, self._shape, self._statistics
            )
        )
        maps = {name: np.concatenate([part.scores[name] for part in parts]) for name in config.measures}
        for name in trial.TRIALS.keys() & measures:
            maps[name] = trial.score_map(name, model, self._stack, self._factor, self._device)
        return maps

    def _scores(self, maps: Maps) -> tuple[dict[str, NDArray[np.float32]], float | None]:
        """Means over windows by measure, (n,) or (n, channels), and the largest foreground of any cell."""
        found: dict[str, NDArray[np.float32]] = {}
        peak: float | None = None
        for measure, values in maps.items():
            if measure == EMBEDDING:
                continue
            channels = self._channels(values)
            cells = values.reshape(*values.shape[:2], -1, channels)
            windows = score_windows(
                lambda z, y, x, cells=cells: cells[z, y, x],  # type: ignore[misc]
                channels,
                self._downsampling,
                self._grid,
            )
            found[measure] = windows.means.reshape(len(self._grid), *windows.means.shape[3:])
            if measure == FOREGROUND_MEASURE:
                peak = windows.peak
        return found, peak

    def _embed(self, maps: Maps, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        values: NDArray[Any] | None = maps.get(EMBEDDING)
        if values is None:
            return np.full((len(numbers), 1), np.nan, np.float32)
        channels = self._channels(values)
        cells = values.reshape(*values.shape[:2], -1, channels)
        return embed_windows(
            lambda z, y, x: cells[z, y, x], channels, self._downsampling, self._grid, numbers
        )

    def _channels(self, values: NDArray[Any]) -> int:
        return int(values.shape[2] // -(-self._shape.x // self._downsampling.x))
