"""The loop: annotations in, a training asked for, its model scored, the scores taken into use.

Each pool's place in the loop is in SQL. Every step reads it, does one thing and writes it, so that a process that is
killed anywhere goes on: what it had asked for is found again by its request id.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import Final

import structlog

from biosegment.errors import (
    BiosegmentError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unimplemented,
)
from biosegment.failpoint import failpoint
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.domain.misleading import misleading
from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.loop_store import LoopStore
from biosegment_sampler.ports import Clock, Datastore, JobState, Ledger, Trainer, Transaction
from biosegment_sampler.proposal import Proposer
from biosegment_sampler.scoring import NAMESPACE, PASSING, ScoringLoop

_AT_ONCE: Final = 8
_LOOKED_AT: Final = 20
"""Newest models, among which the newest one with weights is looked for."""
_LONGEST_PAUSE_S: Final = 60.0
_LASTING: Final = (FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unimplemented)
"""Refusals of a training that would be the same the next time, unless something else changes."""
_log = structlog.get_logger("biosegment_sampler.training")


class TrainingLoop:
    """Keeps all pools going; several processes may run it, requests to the trainer are idempotent.

    Args:
        ledger: The pools.
        datastore: Volumes and score maps.
        trainer: Trains and scores.
        feed: Brings the annotations.
        proposer: Ranks by new scores before they are taken into use.
        directory: Candidates of the pools.
        clock: Seconds since 1970.
        score_pixels: Working pixels that one scoring may cost; 0 for all.
    """

    def __init__(
        self,
        ledger: Ledger,
        datastore: Datastore,
        trainer: Trainer,
        feed: AnnotationFeed,
        proposer: Proposer,
        directory: VolumeDirectory,
        clock: Clock,
        score_pixels: int,
    ) -> None:
        self._ledger = ledger
        self._trainer = trainer
        self._feed = feed
        self._clock = clock
        self._loops = LoopStore(ledger)
        self._scoring = ScoringLoop(ledger, datastore, trainer, proposer, directory, clock, score_pixels)
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
        try:
            pool = await self._feed.pull(pool)
        except NotFound as error:
            if not error.metadata.get("deleted"):
                raise
            await self._forget(project_id)
            return
        pool = await self._notice_model(pool)
        refusal: BiosegmentError | None = None
        try:
            pool = await self._train(pool)
        except PASSING:
            raise
        except BiosegmentError as error:
            # It may be refused for long, and scores that were asked for before are of use meanwhile.
            refusal, pool = error, await self._pool(project_id) or pool
        await self._scoring.step(pool)
        if refusal is not None:
            raise refusal

    async def _forget(self, project_id: str) -> None:
        """Remove what there is of a project that was deleted: no other one ever gets its id."""
        async with self._ledger.write(project_id) as transaction:
            await transaction.remove()
        _log.info("removed the pool of a deleted project", project=project_id)

    async def request(self, project_id: str, user: str, force: bool) -> str:
        """Train now; returns the job's name, also of a training that is under way, whoever asked for it.

        Raises:
            FailedPrecondition: NO_ANNOTATIONS, or NOTHING_NEW unless `force`; and what the trainer refuses.
        """
        pool = await self._pool(project_id)
        if pool is not None and pool.loop.training_job:
            # One that has ended just now must not answer for what was annotated since.
            await self._follow_training(pool)
        running = await self._trainer.training_of(project_id)
        async with self._ledger.write(project_id) as transaction:
            pool = await transaction.pool()
            assert pool is not None
            if not pool.loop.training_request_id:
                if running:
                    return running
                if not await transaction.has_annotations():
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
        doubt = await self._doubt(pool.project_id, newest)
        async with self._ledger.write(pool.project_id) as transaction:
            await transaction.set_latest_model(seen)
            current = await transaction.pool() or pool
            # However an earlier training ended, there is a newer model now.
            pool = replace(
                current, loop=replace(current.loop, latest_model=newest, failure="", misleading=doubt)
            )
            await transaction.put_pool(pool)
        return pool

    async def _doubt(self, project_id: str, model: str) -> str:
        """Why the foreground of a model is not to be trusted, '' when nothing speaks against it."""
        newest = await self._trainer.models(project_id, _LOOKED_AT)
        return next((misleading(each) for each in newest if each.name == model), "")

    async def _train(self, pool: Pool) -> Pool:
        loop = pool.loop
        if loop.training_request_id:
            return await (self._follow_training(pool) if loop.training_job else self._ask_training(pool))
        async with self._ledger.read(pool.project_id) as transaction:
            if not await self._is_due(transaction, pool):
                return pool
        if await self._trainer.training_of(pool.project_id):
            # Somebody asked the trainer itself: what it leaves to learn is seen when it has ended.
            return pool
        async with self._ledger.write(pool.project_id) as transaction:
            pool = await transaction.pool() or pool
            if not await self._is_due(transaction, pool):
                return pool
            pool = _begin_training(pool, "")
            await transaction.put_pool(pool)
        return await self._ask_training(pool)

    async def _is_due(self, transaction: Transaction, pool: Pool) -> bool:
        new = await transaction.new_annotations(pool.loop.considered_sequence)
        return pool.loop.training_due(pool.settings.retrain, new, self._clock())

    async def _ask_training(self, pool: Pool) -> Pool:
        loop = pool.loop
        try:
            job = await self._trainer.train(pool.project_id, loop.training_request_id, loop.training_user)
        except PASSING:
            raise
        except BiosegmentError as error:
            # When there was no room for it, what it was to learn is still to be learnt.
            await self._end_training(
                pool,
                f"the trainer refused to train: {error.reason}: {error.message}",
                is_considered=isinstance(error, _LASTING),
            )
            raise
        failpoint("sampler.training.requested")
        # What failed to be scored is tried again with every training, but not with each that is refused.
        return await self._loops.change(pool, "training", training_job=job, failed_model="")

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

    async def _end_training(self, pool: Pool, failure: str, *, is_considered: bool = True) -> Pool:
        loop = pool.loop
        return await self._loops.change(
            pool,
            "training",
            training_request_id="",
            training_job="",
            training_user="",
            considered_sequence=loop.training_sequence if is_considered else loop.considered_sequence,
            failure=failure,
            rounds=loop.rounds + (not failure),
        )

    async def _pool(self, project_id: str) -> Pool | None:
        async with self._ledger.read(project_id) as transaction:
            return await transaction.pool()


def _begin_training(pool: Pool, user: str) -> Pool:
    number = pool.loop.training_number + 1
    loop = replace(
        pool.loop,
        training_number=number,
        training_request_id=str(uuid.uuid5(NAMESPACE, f"{pool.loop.nonce}/train/{number}")),
        training_job="",
        training_sequence=pool.loop.watermark,
        training_user=user,
        failure="",
    )
    return replace(pool, loop=loop)
