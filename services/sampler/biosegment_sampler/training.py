"""The loop: annotations in, a training asked for, its model scored, the scores taken into use.

Each pool's place in the loop is in SQL. Every step reads it, does one thing and writes it, so that a process that is
killed anywhere goes on: what it had asked for is found again by its request id.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from biosegment.errors import BiosegmentError, DeadlineExceeded, FailedPrecondition, NotFound, Unavailable
from biosegment.failpoint import failpoint
from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.ports import Clock, Datastore, JobState, Ledger, ScoreLayer, Trainer
from biosegment_sampler.proposal import wanted_measures

_NAMESPACE: Final = uuid.UUID("6f0c7d5e-6a0b-4d35-9a44-0d6d1b7f3f5a")
_PASSING: Final = (Unavailable, DeadlineExceeded)
_AT_ONCE: Final = 8
_LONGEST_PAUSE_S: Final = 60.0
_log = structlog.get_logger("biosegment_sampler.training")


class TrainingLoop:
    """Keeps all pools going; several processes may run it, requests to the trainer are idempotent.

    Args:
        ledger: The pools.
        datastore: Volumes and score maps.
        trainer: Trains and scores.
        feed: Brings the annotations.
        clock: Seconds since 1970.
        score_pixels: Working pixels that one scoring may cost; 0 for all.
    """

    def __init__(
        self,
        ledger: Ledger,
        datastore: Datastore,
        trainer: Trainer,
        feed: AnnotationFeed,
        clock: Clock,
        score_pixels: int,
    ) -> None:
        self._ledger = ledger
        self._datastore = datastore
        self._trainer = trainer
        self._feed = feed
        self._clock = clock
        self._score_pixels = score_pixels
        self._failures: dict[str, tuple[int, float]] = {}

    async def run(self, poll_interval_s: float) -> None:
        """Work for ever; a pool whose step fails is left alone for a while, longer each time."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def guarded(project_id: str) -> None:
            async with slots:
                await self._guarded_step(project_id, poll_interval_s)

        while True:
            try:
                projects = await self._ledger.projects()
                await asyncio.gather(*(guarded(project_id) for project_id in projects))
            except BiosegmentError as error:
                _log.warning("loop cannot read its pools", reason=error.reason, error=error.message)
            await asyncio.sleep(poll_interval_s)

    async def _guarded_step(self, project_id: str, poll_interval_s: float) -> None:
        count, wait_until = self._failures.get(project_id, (0, 0.0))
        if time.monotonic() < wait_until:
            return
        try:
            await self.step(project_id)
            self._failures.pop(project_id, None)
        except Exception as error:
            pause_s = min(_LONGEST_PAUSE_S, poll_interval_s * 2 ** min(count, 16))
            self._failures[project_id] = (count + 1, time.monotonic() + pause_s)
            _log.warning("loop step failed", project=project_id, pause_s=pause_s, error=str(error))
            if not isinstance(error, BiosegmentError):
                _log.exception("unexpected error in the loop", project=project_id)

    async def step(self, project_id: str) -> None:
        """Bring one pool as far as it gets without waiting."""
        pool = await self._pool(project_id)
        if pool is None:
            return
        pool = await self._feed.pull(pool)
        pool = await self._notice_model(pool)
        pool = await self._train(pool)
        await self._score(pool)

    async def request(self, project_id: str, user: str, force: bool) -> str:
        """Train now; returns the job's name, also of a training that is under way.

        Raises:
            FailedPrecondition: NO_ANNOTATIONS, or NOTHING_NEW unless `force`; and what the trainer refuses.
        """
        async with self._ledger.write(project_id) as transaction:
            pool = await transaction.pool()
            assert pool is not None
            if not pool.loop.training_request_id:
                if not (await transaction.progress(self._clock())).annotations:
                    raise FailedPrecondition(
                        "NO_ANNOTATIONS",
                        f"project {project_id!r} has no annotation to train on; make one first",
                    )
                if not force and not await transaction.new_annotations():
                    raise FailedPrecondition(
                        "NOTHING_NEW",
                        f"{pool.loop.latest_model} was trained on every annotation of project {project_id!r}; "
                        "annotate more, or ask with force",
                    )
                pool = _begin_training(pool, user)
                await transaction.put_pool(pool)
        if not pool.loop.training_job:
            pool = await self._ask_training(pool)
        return pool.loop.training_job

    async def _notice_model(self, pool: Pool) -> Pool:
        """Learn of the newest model, whoever had it made, and of what it has seen."""
        newest = await self._trainer.newest_model(pool.project_id)
        if not newest or newest == pool.loop.latest_model:
            return pool
        seen = await self._trainer.annotations_of(newest)
        async with self._ledger.write(pool.project_id) as transaction:
            await transaction.set_latest_model(seen)
            current = await transaction.pool() or pool
            # However an earlier training ended, there is a newer model now.
            pool = replace(current, loop=replace(current.loop, latest_model=newest, failure=""))
            await transaction.put_pool(pool)
        return pool

    async def _train(self, pool: Pool) -> Pool:
        loop = pool.loop
        if loop.training_request_id:
            return await (self._follow_training(pool) if loop.training_job else self._ask_training(pool))
        async with self._ledger.write(pool.project_id) as transaction:
            pool = await transaction.pool() or pool
            new = await transaction.new_annotations(pool.loop.considered_sequence)
            if not pool.loop.training_due(pool.settings.retrain, new, self._clock()):
                return pool
            pool = _begin_training(pool, "")
            await transaction.put_pool(pool)
        return await self._ask_training(pool)

    async def _ask_training(self, pool: Pool) -> Pool:
        loop = pool.loop
        try:
            job = await self._trainer.train(pool.project_id, loop.training_request_id, loop.training_user)
        except _PASSING:
            raise
        except BiosegmentError as error:
            await self._end_training(pool, f"the trainer refused to train: {error.reason}: {error.message}")
            raise
        failpoint("sampler.training.requested")
        return await self._change(pool, "training", training_job=job)

    async def _follow_training(self, pool: Pool) -> Pool:
        try:
            job = await self._trainer.job(pool.loop.training_job)
        except NotFound:
            return await self._end_training(
                pool, f"the trainer does not know {pool.loop.training_job} any more"
            )
        if job.state is JobState.RUNNING:
            return pool
        if job.state is JobState.FAILED:
            return await self._end_training(pool, f"training {job.name} failed: {job.failure}")
        # First what the model has seen: it must not look new for a moment, and cause another training.
        pool = await self._notice_model(pool)
        return await self._end_training(pool, "")

    async def _end_training(self, pool: Pool, failure: str) -> Pool:
        return await self._change(
            pool,
            "training",
            training_request_id="",
            training_job="",
            training_user="",
            considered_sequence=pool.loop.training_sequence,
            failure=failure,
            rounds=pool.loop.rounds + (not failure),
        )

    async def _score(self, pool: Pool) -> Pool:
        loop = pool.loop
        if loop.scoring_request_id and loop.scoring_model != loop.latest_model:
            # Nobody would use these scores any more.
            if loop.scoring_job:
                await self._cancel(loop.scoring_job)
            pool = await self._end_scoring(pool, "")
        if pool.loop.scoring_job:
            return await self._follow_scoring(pool)
        if not pool.loop.latest_model or pool.loop.failed_model == pool.loop.latest_model:
            return pool
        measures, volumes = wanted_measures(pool), await self._volume_ids(pool)
        wanted = {(volume, measure) for volume in volumes for measure in measures}
        async with self._ledger.read(pool.project_id) as transaction:
            in_use = await transaction.score_layers(pool.loop.latest_model)
        if not wanted - _places(in_use):
            return pool
        found = await self._committed(pool, volumes, measures)
        if missing := sorted({volume for volume, _ in wanted - _places(found)}):
            return await self._ask_scoring(pool, missing, measures)
        return await self._take_into_use(pool, found)

    async def _ask_scoring(self, pool: Pool, volumes: Sequence[str], measures: Sequence[str]) -> Pool:
        loop = pool.loop
        # Until the job's name is stored the number stays, so that asking again after a crash is the same request.
        number = loop.scoring_number + (not loop.scoring_request_id)
        what = f"{loop.nonce}/score/{number}/{loop.latest_model}/{volumes}/{measures}/{self._score_pixels}"
        request_id, model = str(uuid.uuid5(_NAMESPACE, what)), loop.latest_model
        pool = await self._store(
            pool, scoring_number=number, scoring_request_id=request_id, scoring_model=model
        )
        try:
            job = await self._trainer.score(
                pool.project_id, request_id, model, volumes, measures, self._score_pixels
            )
        except _PASSING:
            raise
        except BiosegmentError as error:
            return await self._end_scoring(
                pool, f"the trainer refused to score: {error.reason}: {error.message}"
            )
        failpoint("sampler.scoring.requested")
        return await self._change(pool, "scoring", scoring_job=job)

    async def _follow_scoring(self, pool: Pool) -> Pool:
        try:
            job = await self._trainer.job(pool.loop.scoring_job)
        except NotFound:
            return await self._end_scoring(
                pool, f"the trainer does not know {pool.loop.scoring_job} any more"
            )
        if job.state is JobState.RUNNING:
            return pool
        if job.state is JobState.FAILED:
            return await self._end_scoring(pool, f"scoring {job.name} failed: {job.failure}")
        found = await self._committed(pool, await self._volume_ids(pool), wanted_measures(pool))
        async with self._ledger.read(pool.project_id) as transaction:
            in_use = await transaction.score_layers(pool.loop.scoring_model)
        if not _places(found) - _places(in_use):
            return await self._end_scoring(
                pool, f"scoring {job.name} succeeded, but there is no new score map"
            )
        return await self._take_into_use(pool, found)

    async def _take_into_use(self, pool: Pool, layers: Sequence[ScoreLayer]) -> Pool:
        """Switch to the newest model's scores: maps and model in one transaction."""
        async with self._ledger.write(pool.project_id) as transaction:
            current = await transaction.pool() or pool
            if current.loop.latest_model != pool.loop.latest_model:
                return current
            await transaction.put_score_layers(pool.loop.latest_model, layers)
            loop = replace(
                current.loop,
                scored_model=pool.loop.latest_model,
                scoring_request_id="",
                scoring_job="",
                scoring_model="",
                failed_model="",
                failure="" if current.loop.failed_model else current.loop.failure,
            )
            pool = replace(current, loop=loop)
            await transaction.put_pool(pool)
        failpoint("sampler.scores.switched")
        return pool

    async def _end_scoring(self, pool: Pool, failure: str) -> Pool:
        return await self._change(
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

    async def _volume_ids(self, pool: Pool) -> list[str]:
        present = [volume.volume_id for volume in await self._datastore.volumes(pool.project_id)]
        return [volume for volume in present if not pool.settings.volumes or volume in pool.settings.volumes]

    async def _committed(
        self, pool: Pool, volumes: Sequence[str], measures: Sequence[str]
    ) -> list[ScoreLayer]:
        """The newest committed map of each volume and measure, by the newest model."""
        found: dict[tuple[str, str], ScoreLayer] = {}
        for volume in volumes:
            for layer in await self._datastore.score_layers(pool.project_id, volume, pool.loop.latest_model):
                if layer.measure in measures:
                    found.setdefault((volume, layer.measure), layer)
        return list(found.values())

    async def _pool(self, project_id: str) -> Pool | None:
        async with self._ledger.read(project_id) as transaction:
            return await transaction.pool()

    async def _change(self, pool: Pool, which: str, **changes: object) -> Pool:
        """Store changes, unless the training or scoring that they speak of is not the present one any more."""
        request = f"{which}_request_id"
        return await self._store(pool, getattr(pool.loop, request), request, **changes)

    async def _store(self, pool: Pool, expected: str = "", field: str = "", **changes: object) -> Pool:
        async with self._ledger.write(pool.project_id) as transaction:
            current = await transaction.pool() or pool
            if field and getattr(current.loop, field) != expected:
                return current
            pool = replace(current, loop=replace(current.loop, **changes))  # type: ignore[arg-type]
            await transaction.put_pool(pool)
            return pool


def _begin_training(pool: Pool, user: str) -> Pool:
    number = pool.loop.training_number + 1
    loop = replace(
        pool.loop,
        training_number=number,
        training_request_id=str(uuid.uuid5(_NAMESPACE, f"{pool.loop.nonce}/train/{number}")),
        training_job="",
        training_sequence=pool.loop.watermark,
        training_user=user,
        failure="",
        failed_model="",
    )
    return replace(pool, loop=loop)


def _places(layers: Sequence[ScoreLayer]) -> set[tuple[str, str]]:
    return {(layer.volume_id, layer.measure) for layer in layers}
