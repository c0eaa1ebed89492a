"""Works off the queued jobs of one service in its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from biosegment.errors import BiosegmentError, Conflict, Internal, Unavailable
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.jobs.job import Job, JobError, JobResult, JobState, Progress, Resources
from biosegment.jobs.signal import wait
from biosegment.jobs.sql import SqlJobs

_REPORT_EVERY_S: Final = 0.3
AWAY: Final = ("DATABASE_UNAVAILABLE", "SERVICE_UNAVAILABLE")
"""Reasons for which nobody is to blame: something is being restarted, and another attempt waits for it."""
_log = structlog.get_logger("biosegment.jobs")


class JobCancelled(Exception):
    """Raised by a handler that has stopped because the job was cancelled."""


class JobCrashed(Exception):
    """Raised by a handler whose worker process died: the job is tried again, at most three times in all.

    Args:
        why: For the job's log.
        lost: The worker was not to blame: the node that it ran on died, or the whole cluster.
    """

    def __init__(self, why: str, *, lost: bool = False) -> None:
        super().__init__(why)
        self.lost = lost


class _ServiceLost(Exception):
    """A handler could not go on without the database or another service: an attempt begins when it is back."""


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How a runner behaves.

    Attributes:
        concurrent: Jobs at the same time.
        poll_s: How often other processes' changes (new jobs, cancellations) are looked for.
        heartbeat_s: How often it says that it lives.
        stale_s: Running jobs without a heartbeat for so long are taken over.
    """

    concurrent: int = 1
    poll_s: float = 2.0
    heartbeat_s: float = 10.0
    stale_s: float = 60.0


class JobContext:
    """What a handler knows of its attempt, and how it speaks of it.

    Attributes:
        job: As it was when the attempt began; parse `job.spec` with `biosegment.jobs.convert.spec_of`.
        cancelled: Set when the job should stop; may be read from any thread.
        is_over: The handler has ended; only its outcome remains to be stored.
    """

    def __init__(self, job: Job, jobs: SqlJobs) -> None:
        self.job = job
        self.cancelled = asyncio.Event()
        self.is_over = False
        self._jobs = jobs
        self._reported_s = 0.0
        self._step = ""

    @property
    def attempt(self) -> int:
        return self.job.attempt

    async def progress(self, progress: Progress, metrics: Mapping[str, float] | None = None) -> None:
        """Report progress; calls in quick succession cost nothing. It is dropped while the database is away.

        Raises:
            Conflict: ATTEMPT_OUTDATED: stop and write nothing more.
            JobCancelled: The job should stop.
        """
        self.raise_if_cancelled()
        now = time.monotonic()
        is_news = progress.step != self._step or bool(metrics) or progress.fraction >= 1.0
        if now - self._reported_s < _REPORT_EVERY_S and not is_news:
            return
        self._reported_s, self._step = now, progress.step
        try:
            job = await self._jobs.report(self.job.job_id, self.attempt, progress, metrics)
        except Unavailable as error:
            # Hours of work are not to be lost for a restart of the database.
            _log.warning("progress_dropped", job=self.job.job_id, reason=error.reason)
            return
        if job.cancel_requested:
            self.cancelled.set()
            raise JobCancelled

    async def log(self, *texts: str) -> None:
        """Append lines to the job's log; no secrets. Conflict ATTEMPT_OUTDATED."""
        await self._jobs.append_log(self.job.job_id, self.attempt, texts)

    async def reserve(self, resources: Resources) -> None:
        """Reserve what was not known yet when the job was created; Conflict ATTEMPT_OUTDATED."""
        if resources != self.job.resources:
            await self._jobs.reserve(self.job.job_id, self.attempt, resources)
            self.job = replace(self.job, resources=resources)

    def raise_if_cancelled(self) -> None:
        """Raise JobCancelled when the job should stop."""
        if self.cancelled.is_set():
            raise JobCancelled


Handler = Callable[[JobContext], Awaitable[JobResult]]
"""Does the work of one attempt. Errors of `biosegment.errors` fail the job with their reason and message."""


class JobRunner:
    """Claims queued jobs and runs their handlers.

    Args:
        jobs: The service's jobs.
        handlers: By kind.
        limits: Defaults: one job at a time.
        instance: Name of this process among those that share the database; made up when empty.
        exclusive: No other process works on these jobs, so that at the start all running ones are known to
        be lost.
        work_elsewhere: Other processes do the jobs' work, so that a death of this one is not the jobs' fault.
    """

    def __init__(
        self,
        jobs: SqlJobs,
        handlers: Mapping[str, Handler],
        limits: RunnerLimits | None = None,
        *,
        instance: str = "",
        exclusive: bool = True,
        work_elsewhere: bool = False,
    ) -> None:
        self._jobs = jobs
        self._handlers = dict(handlers)
        self._limits = limits or RunnerLimits()
        self.instance = instance or new_id()
        self._exclusive = exclusive
        self._work_elsewhere = work_elsewhere
        self._running: dict[asyncio.Task[None], JobContext] = {}

    async def run(self) -> None:
        """Work until cancelled; then running jobs go back to the queue."""
        try:
            await self._recover(None if self._exclusive else self._limits.stale_s)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._claim_for_ever())
                group.create_task(self._beat_for_ever())
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _claim_for_ever(self) -> None:
        while True:
            rung = self._jobs.signal.listen()
            try:
                await self._cancel_asked()
                while len(self._running) < self._limits.concurrent:
                    job = await self._jobs.claim(self.instance, list(self._handlers))
                    if job is None:
                        break
                    self._start(job)
            except Unavailable as error:
                _log.warning("jobs_unavailable", reason=error.reason, message=error.message)
                await asyncio.sleep(self._limits.poll_s)
            await wait(rung, self._limits.poll_s)

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._limits.heartbeat_s)
            with contextlib.suppress(Unavailable):
                if self._running:
                    alive = [context.job.job_id for context in self._running.values()]
                    await self._jobs.heartbeat(self.instance, alive)
                await self._recover(self._limits.stale_s)

    async def _recover(self, stale_s: float | None) -> None:
        for job in await self._jobs.recover(self.instance, stale_s, blame=not self._work_elsewhere):
            _log.warning("job_recovered", job=job.job_id, attempt=job.attempt)

    async def _cancel_asked(self) -> None:
        for task, context in list(self._running.items()):
            job = await self._jobs.get(context.job.job_id)
            if context.is_over:
                continue
            if job.attempt != context.attempt or job.state is not JobState.RUNNING:
                # Not as a cancelled job, whose handler removes what a newer attempt may be working with.
                task.cancel()
            elif job.cancel_requested:
                context.cancelled.set()

    def _start(self, job: Job) -> None:
        context = JobContext(job, self._jobs)
        task = asyncio.create_task(self._attempt(context), name=job.job_id)
        self._running[task] = context
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._jobs.signal.ring()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("job_lost", job=task.get_name(), exc_info=error)

    async def _attempt(self, context: JobContext) -> None:
        job_id, attempt = context.job.job_id, context.attempt
        log = _log.bind(job=job_id, kind=context.job.kind, attempt=attempt)
        log.info("job_started")
        try:
            state, result, error = await self._outcome(context)
            failpoint(f"{self._jobs.service}.job.before_finish")
            await self._until_stored(
                lambda: self._jobs.finish(job_id, attempt, state, result=result, error=error)
            )
            log.info("job_ended", state=state.value, reason=error.reason if error else "")
        except _ServiceLost as away:
            log.warning("job_lost_service", message=str(away))
            with contextlib.suppress(Conflict):
                await self._until_stored(lambda: self._jobs.release(job_id, attempt))
        except asyncio.CancelledError:
            with contextlib.suppress(BiosegmentError):
                await asyncio.shield(self._jobs.release(job_id, attempt))
            raise
        except JobCrashed as crash:
            log.warning("job_crashed", why=str(crash))
            with contextlib.suppress(Conflict):
                why, lost = str(crash), crash.lost
                line = f"lost: {why}" if lost else f"crashed: {why}"
                await self._until_stored(lambda: self._jobs.append_log(job_id, attempt, [line]))
                await self._until_stored(lambda: self._jobs.crash(job_id, attempt, why, lost=lost))
        except Conflict as conflict:
            log.warning("attempt_outdated", message=conflict.message)

    async def _until_stored(self, call: Callable[[], Awaitable[object]]) -> None:
        """Repeat a change of rows while the database is away: else the job would seem to run for ever."""
        while True:
            try:
                await call()
                return
            except Unavailable as error:
                _log.warning("jobs_unavailable", reason=error.reason, message=error.message)
                await asyncio.sleep(self._limits.poll_s)

    async def _outcome(self, context: JobContext) -> tuple[JobState, JobResult | None, JobError | None]:
        try:
            try:
                return JobState.SUCCEEDED, await self._handlers[context.job.kind](context), None
            finally:
                context.is_over = True
        except JobCancelled:
            return JobState.CANCELLED, None, None
        except JobCrashed:
            raise
        except BiosegmentError as error:
            if error.reason == "ATTEMPT_OUTDATED":
                raise
            if error.reason in AWAY:
                await asyncio.sleep(self._limits.poll_s)
                raise _ServiceLost(error.message) from error
            if isinstance(error, Internal):
                _log.error("job_internal", job=context.job.job_id, exc_info=error)
            return JobState.FAILED, None, JobError(error.reason, error.message)
        except Exception as error:
            error_id = new_id()
            _log.error("job_failed", job=context.job.job_id, error_id=error_id, exc_info=error)
            message = (
                f"internal error ({type(error).__name__}); details are in the service's log under {error_id}"
            )
            return JobState.FAILED, None, JobError("INTERNAL", message)
