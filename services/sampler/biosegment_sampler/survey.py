"""What the score maps of one model say of all candidates, read once and kept while they are of use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Final, Generic, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from biosegment.errors import BiosegmentError, NotFound
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.blindness import FOREGROUND_MEASURE, blindness
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.neighbourhood import nearest
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.ranking import Ranking, all_open
from biosegment_sampler.ports import ScoreLayer, ScoreMaps
from biosegment_sampler.strategies import Candidates, Passes, Strategy
from biosegment_sampler.strategies.strategy import EMBEDDING

_log = structlog.get_logger("biosegment_sampler.survey")
_Value = TypeVar("_Value")
_MAX_WHY: Final = 200


class Once(Generic[_Value]):
    """Makes each value once, however many ask for it at the same time."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[object, asyncio.Task[_Value]]] = {}

    async def get(
        self, key: str, make: Callable[[], Coroutine[Any, Any, _Value]], stamp: object = None
    ) -> _Value:
        """The value of a key; made anew for another stamp, and when making it failed."""
        last, task = self._tasks.get(key, (None, None))
        if task is None or last != stamp or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(make())
            self._tasks[key] = (stamp, task)
        # One who gives up does not take the value from the others.
        return await asyncio.shield(task)


@dataclass(frozen=True, slots=True)
class Context:
    """What a ranking depends on besides the scores.

    Attributes:
        batch: As in `Candidates`.
        round: As in `Candidates`.
        seed: As in `Candidates`.
        annotations: Looks up those that hold.
    """

    batch: int
    round: int
    seed: int
    annotations: Callable[[], Awaitable[Sequence[Annotation]]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a strategy ranks nothing, for annotators."""

    why: str


class Survey:
    """The candidates of some volumes and the scores that one model gave them.

    Args:
        field: The candidates.
        layers: Score maps of the model, by measure and volume id.
        maps: Reads them.
    """

    def __init__(
        self, field: CandidateField, layers: Mapping[tuple[str, str], ScoreLayer], maps: ScoreMaps
    ) -> None:
        self.field = field
        self.lost: set[str] = set()
        """Names of layers that were not there any more when they were read."""
        present = {grid.volume_id for grid in field.grids}
        self._layers = {place: layer for place, layer in layers.items() if place[1] in present}
        self._maps = maps
        self._measures: Once[NDArray[np.float32] | None] = Once()
        self._peaks: Once[float | None] = Once()
        self._problems: Once[str] = Once()
        self._rankings: Once[Ranking | Failure] = Once()
        self._sizes: dict[str, int] = {}

    @property
    def nbytes(self) -> int:
        """Of the scores that are kept."""
        return sum(self._sizes.values())

    def shown(self, measure: str) -> dict[tuple[str, str], ScoreLayer]:
        """The maps behind a measure, by it and volume id."""
        return {place: layer for place, layer in self._layers.items() if place[0] == measure}

    def passes(self, measure: str) -> set[Passes]:
        """What the passes of a measure varied, as far as it is known."""
        return {layer.passes for (name, _), layer in self._layers.items() if name == measure}

    async def problem(self, strategy: Strategy) -> str:
        """Why a strategy cannot rank these candidates; '' when it can."""
        return await self._problems.get(strategy.name, lambda: self._problem(strategy))

    async def ranking(self, strategy: Strategy, context: Context) -> Ranking | Failure:
        """The candidates in the order of a strategy, or why there is none.

        Raises:
            Unavailable: Object storage cannot be read.
        """
        positives = np.zeros(0, np.int64)
        if strategy.follows_annotations:
            known = await context.annotations()
            positives = await asyncio.to_thread(
                lambda: self._nearest(item for item in known if item.shows_class)
            )
        stamp = (context.batch, context.seed, positives.tobytes())
        return await self._rankings.get(
            strategy.name, lambda: self._rank(strategy, context, positives), stamp
        )

    async def _problem(self, strategy: Strategy) -> str:
        for measure in strategy.measures:
            if not any(measure == name for name, _ in self._layers):
                return f"no {measure} was scored"
        if strategy.cold_start or strategy.measures[0] == EMBEDDING:
            # What things look like says something also when the model finds nothing.
            return ""
        scores = await self._measure(strategy.measures[0])
        if scores is None:
            return f"no {strategy.measures[0]} was scored"
        peak = await self._peaks.get(FOREGROUND_MEASURE, self._peak)
        return await asyncio.to_thread(blindness, scores, peak)

    async def _rank(
        self, strategy: Strategy, context: Context, positives: NDArray[np.int64]
    ) -> Ranking | Failure:
        scores = {}
        for measure in strategy.measures:
            if measure != EMBEDDING and (values := await self._measure(measure)) is not None:
                scores[measure] = values
        known = [] if strategy.cold_start else await context.annotations()
        candidates = Candidates(
            self.field,
            scores,
            self._embed,
            labelled=await asyncio.to_thread(
                lambda: self._nearest(item for item in known if item.in_latest_model)
            ),
            positives=positives,
            batch=context.batch,
            round=context.round,
            seed=context.seed,
        )
        try:
            found = await asyncio.to_thread(strategy.rank, candidates)
            await asyncio.to_thread(found.check, len(self.field))
            _, anything = await asyncio.to_thread(found.best, 1, all_open)
        except BiosegmentError:
            raise
        except Exception as error:
            # It may be somebody else's code; annotators get samples all the same.
            _log.exception("a strategy failed", strategy=strategy.name)
            why = shorten(f"{type(error).__name__}: {error}", _MAX_WHY, placeholder=" ...")
            return Failure(f"{strategy.name} failed ({why})")
        return found if len(anything) else Failure(f"{strategy.name} has nothing to rank")

    def _nearest(self, annotations: Iterable[Annotation]) -> NDArray[np.int64]:
        return nearest(self.field, (VolumeRegion(item.volume_id, item.region) for item in annotations))

    async def _measure(self, measure: str) -> NDArray[np.float32] | None:
        return await self._measures.get(measure, lambda: self._read(measure))

    async def _read(self, measure: str) -> NDArray[np.float32] | None:
        """Scores of all candidates, (n,) or (n, channels); NaN in volumes without a map, None when all are."""
        values: NDArray[np.float32] | None = None
        for grid, part in self.field.parts():
            layer = self._layers.get((measure, grid.volume_id))
            if layer is None:
                continue
            try:
                windows = await self._maps.windows(layer, grid)
            except NotFound:
                self.lost.add(layer.name)
                continue
            means = windows.means.reshape(-1, *windows.means.shape[3:])
            if len(means) == len(self.field):
                values = means
                break
            if values is None:
                values = np.full((len(self.field), *means.shape[1:]), np.nan, np.float32)
            values[part] = means
        self._sizes[measure] = values.nbytes if values is not None else 0
        return values

    async def _peak(self) -> float | None:
        """Largest foreground probability of any cell, None when it was not scored."""
        peak = -np.inf
        for grid, _ in self.field.parts():
            layer = self._layers.get((FOREGROUND_MEASURE, grid.volume_id))
            if layer is not None:
                try:
                    peak = max(peak, (await self._maps.windows(layer, grid)).peak)
                except NotFound:
                    self.lost.add(layer.name)
        return peak if np.isfinite(peak) else None

    def _embed(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        found: list[tuple[NDArray[np.bool_], NDArray[np.float32]]] = []
        for grid, part in self.field.parts():
            layer = self._layers.get((EMBEDDING, grid.volume_id))
            mine = (numbers >= part.start) & (numbers < part.stop)
            if layer is None or not mine.any():
                continue
            try:
                found.append((mine, self._maps.embeddings(layer, grid, numbers[mine] - part.start)))
            except NotFound:
                self.lost.add(layer.name)
        size = max((values.shape[1] for _, values in found), default=1)
        result = np.full((len(numbers), size), np.nan, np.float32)
        for mine, values in found:
            result[mine] = values
        return result
