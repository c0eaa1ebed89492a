"""The second half of the loop: the newest model scores the pool, and its scores are taken into use."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from biosegment.errors import BiosegmentError, DeadlineExceeded, NotFound, ResourceExhausted, Unavailable
from biosegment.failpoint import failpoint
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.domain.pool import Pool, VolumeGeometry
from biosegment_sampler.loop_store import LoopStore
from biosegment_sampler.ports import Clock, Datastore, JobState, Ledger, ScoreLayer, Trainer
from biosegment_sampler.proposal import Proposer, wanted_scorings
from biosegment_sampler.strategies import Passes

PASSING: Final = (Unavailable, DeadlineExceeded)
"""Errors that are over sooner or later; the step is made again."""
RETRIES_S: Final = (300.0, 1800.0)
"""So long after a failure the same model is scored again, the first time and the second; it may have lost a worker."""
NAMESPACE: Final = uuid.UUID("6f0c7d5e-6a0b-4d35-9a44-0d6d1b7f3f5a")
"""Of the request ids of the loop."""
_log = structlog.get_logger("biosegment_sampler.scoring")


@dataclass(frozen=True, slots=True)
class Request:
    """What one scoring job is asked for."""

    volume_ids: tuple[str, ...]
    measures: tuple[str, ...]
    passes: Passes

    def variants(self) -> tuple[Request, ...]:
        """This one, and what is asked for instead when the network has no dropout."""
        if self.passes is not Passes.DROPOUT:
            return (self,)
        return self, replace(self, passes=Passes.AUGMENTATION)


class ScoringLoop:
    """Has the newest model score each pool; asks for measures over different passes one after the other.

    Args:
        ledger: The pools.
        datastore: Volumes and score maps.
        trainer: Scores.
        proposer: Ranks by new scores before they are taken into use.
        directory: Candidates of the pools.
        clock: Seconds since 1970.
        max_pixels: Working pixels that one scoring may cost; 0 for all.
    """

    def __init__(
        self,
        ledger: Ledger,
        datastore: Datastore,
        trainer: Trainer,
        proposer: Proposer,
        directory: VolumeDirectory,
        clock: Clock,
        max_pixels: int,
    ) -> None:
        self._ledger = ledger
        self._loops = LoopStore(ledger)
        self._datastore = datastore
        self._trainer = trainer
        self._proposer = proposer
        self._directory = directory
        self._clock = clock
        self._max_pixels = max_pixels
        self._failed: dict[str, tuple[str, int, float]] = {}
        """Of pools: the model whose scoring failed, how often that was tried again, and since when it waits."""

    async def step(self, pool: Pool) -> Pool:
        """Bring the scores of a pool as far as they get without waiting."""
        loop = pool.loop
        if loop.scoring_request_id and loop.scoring_model != loop.latest_model:
            # Nobody would use these scores any more.
            if loop.scoring_job:
                await self._cancel(loop.scoring_job)
            pool = await self._end(pool, "")
        if pool.loop.scoring_job:
            return await self._follow(pool)
        if not pool.loop.latest_model or not self._may_ask(pool):
            return pool
        volumes = await self._volumes(pool)
        async with self._ledger.read(pool.project_id) as transaction:
            in_use = await transaction.score_layers(pool.loop.latest_model)
        if not _requests(pool, volumes, in_use):
            return pool
        found = await self._committed(pool, volumes)
        if requests := _requests(pool, volumes, found):
            return await self._ask(pool, requests[0])
        return await self._take_into_use(pool, volumes, found)

    def _may_ask(self, pool: Pool) -> bool:
        """Whether the newest model may be scored: its scoring has not failed, or long enough ago, and not too often.

        Only this process remembers how often; another one begins to count, which does no harm.
        """
        model, now = pool.loop.latest_model, self._clock()
        if pool.loop.failed_model != model:
            self._failed.pop(pool.project_id, None)
            return True
        if pool.loop.scoring_request_id:
            return True  # it was decided on, and the trainer has not answered yet
        known, count, since = self._failed.get(pool.project_id, ("", 0, now))
        if known != model:
            count, since = 0, now
        is_due = count < len(RETRIES_S) and now >= since + RETRIES_S[count]
        self._failed[pool.project_id] = (model, count + 1, now) if is_due else (model, count, since)
        return is_due

    async def _ask(self, pool: Pool, request: Request) -> Pool:
        # Until the job's name is stored the number stays, so that asking again after a crash is the same request.
        number = pool.loop.scoring_number + (not pool.loop.scoring_request_id)
        for variant in request.variants():
            pool = await self._loops.store(
                pool,
                scoring_number=number,
                scoring_request_id=self._request_id(pool, number, variant),
                scoring_job="",
                scoring_model=pool.loop.latest_model,
            )
            try:
                job = await self._trainer.score(
                    pool.project_id,
                    pool.loop.scoring_request_id,
                    pool.loop.scoring_model,
                    variant.volume_ids,
                    variant.measures,
                    variant.passes,
                    self._max_pixels,
                )
            except (*PASSING, ResourceExhausted):
                # No room for it now is no failure: it is asked for until there is.
                raise
            except BiosegmentError as error:
                if error.reason == "NO_DROPOUT" and variant.passes is Passes.DROPOUT:
                    continue
                return await self._fail(
                    pool, f"the trainer refused to score: {error.reason}: {error.message}"
                )
            failpoint("sampler.scoring.requested")
            return await self._loops.change(pool, "scoring", scoring_job=job)
        raise AssertionError("the last variant has no dropout")

    async def _follow(self, pool: Pool) -> Pool:
        try:
            job = await self._trainer.job(pool.loop.scoring_job)
        except NotFound:
            return await self._fail(pool, f"the trainer does not know {pool.loop.scoring_job} any more")
        if job.state is JobState.RUNNING:
            return pool
        if job.state is JobState.FAILED:
            return await self._fail(pool, f"scoring {job.name} failed: {job.failure}")
        volumes = await self._volumes(pool)
        found = await self._committed(pool, volumes)
        requests = _requests(pool, volumes, found)
        if any(self._is_present(pool, request) for request in requests):
            return await self._fail(pool, f"scoring {job.name} succeeded, but there is no new score map")
        if requests:
            # Something else is left: another request than the one that has ended.
            over = replace(pool, loop=replace(pool.loop, scoring_request_id=""))
            return await self._ask(over, requests[0])
        return await self._take_into_use(pool, volumes, found)

    async def _take_into_use(
        self,
        pool: Pool,
        volumes: Sequence[VolumeGeometry],
        layers: Sequence[ScoreLayer],
        failure: str = "",
    ) -> Pool:
        """Switch to the newest model's scores: maps and model in one transaction."""
        model = pool.loop.latest_model
        layers = await self._with_passes(layers)
        future = replace(pool, loop=replace(pool.loop, scored_model=model))
        await self._proposer.prepare(future, await self._directory.field(future, fresh=True), layers)
        async with self._ledger.write(pool.project_id) as transaction:
            current = await transaction.pool() or pool
            if current.loop.latest_model != model:
                return current
            await transaction.put_score_layers(model, layers)
            loop = replace(
                current.loop,
                scored_model=model,
                scoring_request_id="",
                scoring_job="",
                scoring_model="",
                failed_model=model if failure else "",
                failure=failure or ("" if current.loop.failed_model else current.loop.failure),
            )
            pool = replace(current, loop=loop)
            await transaction.put_pool(pool)
        failpoint("sampler.scores.switched")
        return pool

    async def _fail(self, pool: Pool, failure: str) -> Pool:
        """End a scoring; what other ones of the same model have found is used all the same."""
        if pool.loop.scoring_model == pool.loop.latest_model != pool.loop.scored_model:
            volumes = await self._volumes(pool)
            found = await self._committed(pool, volumes)
            if len(_requests(pool, volumes, found)) < len(wanted_scorings(pool)):
                return await self._take_into_use(pool, volumes, found, failure)
        return await self._end(pool, failure)

    async def _end(self, pool: Pool, failure: str) -> Pool:
        return await self._loops.change(
            pool,
            "scoring",
            scoring_request_id="",
            scoring_job="",
            scoring_model="",
            failure=failure or pool.loop.failure,
            failed_model=pool.loop.scoring_model if failure else pool.loop.failed_model,
        )

    async def _cancel(self, job: str) -> None:
        try:
            await self._trainer.cancel(job)
        except BiosegmentError as error:
            _log.warning("an outdated scoring could not be cancelled", job=job, error=error.message)

    async def _volumes(self, pool: Pool) -> list[VolumeGeometry]:
        wanted = pool.settings.volumes
        present = await self._datastore.volumes(pool.project_id)
        return [volume for volume in present if not wanted or volume.volume_id in wanted]

    async def _committed(self, pool: Pool, volumes: Sequence[VolumeGeometry]) -> list[ScoreLayer]:
        """The newest committed map of each volume and wanted measure, by the newest model."""
        measures = {measure for scoring in wanted_scorings(pool) for measure in scoring.measures}
        found: dict[tuple[str, str], ScoreLayer] = {}
        for volume in volumes:
            for layer in await self._datastore.score_layers(
                pool.project_id, volume.volume_id, pool.loop.latest_model
            ):
                if layer.measure in measures:
                    found.setdefault((volume.volume_id, layer.measure), layer)
        return list(found.values())

    async def _with_passes(self, layers: Sequence[ScoreLayer]) -> list[ScoreLayer]:
        """The layers with what the passes varied over which they were computed, as their jobs say."""
        passes: dict[str, Passes] = {"": Passes.NONE}
        for job in {layer.job for layer in layers if layer.job}:
            try:
                passes[job] = (await self._trainer.job(job)).passes
            except NotFound:
                passes[job] = Passes.NONE
        return [replace(layer, passes=passes[layer.job]) for layer in layers]

    def _request_id(self, pool: Pool, number: int, request: Request) -> str:
        loop = pool.loop
        what = f"{loop.nonce}/score/{number}/{loop.latest_model}/{request}/{self._max_pixels}"
        return str(uuid.uuid5(NAMESPACE, what))

    def _is_present(self, pool: Pool, request: Request) -> bool:
        """Whether a request is the one whose job is known."""
        ids = {self._request_id(pool, pool.loop.scoring_number, variant) for variant in request.variants()}
        return pool.loop.scoring_request_id in ids


def _requests(pool: Pool, volumes: Sequence[VolumeGeometry], found: Sequence[ScoreLayer]) -> list[Request]:
    """What is left to be asked for, with these maps."""
    places = {(layer.volume_id, layer.measure) for layer in found}
    requests = []
    for scoring in wanted_scorings(pool):
        missing = tuple(
            volume.volume_id
            for volume in volumes
            if not {(volume.volume_id, measure) for measure in scoring.measures} <= places
        )
        if missing:
            requests.append(Request(missing, scoring.measures, scoring.passes))
    return requests
