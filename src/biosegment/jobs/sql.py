"""Jobs as rows. Every change is one transaction, guarded by the attempt that it speaks for."""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import AlreadyExists, ResourceExhausted
from biosegment.ids import new_id
from biosegment.jobs.job import (
    Job,
    JobError,
    JobResult,
    JobState,
    LogLine,
    NewJob,
    Progress,
    Resources,
    outdated,
)
from biosegment.jobs.line import Line
from biosegment.jobs.queue import Lane, Pace
from biosegment.jobs.row import (
    JOBS,
    LOGS,
    begin,
    ended,
    job_of,
    load,
    now_us,
    queued,
    requeue,
    running,
    set_aside,
    time_of,
    update,
)
from biosegment.jobs.signal import JobSignal

_MAX_LOG_LINES: Final = 20_000
_MAX_LINE: Final = 4000


class SqlJobs:
    """The jobs of one service.

    Args:
        database: Migrated, with the tables of `tables`.
        service: Prefix of job ids, `datastore` or `trainer`.
        signal: Rung after each change.
        lanes: Lines in which jobs wait, each kind in one of them; one for all when not given.
    """

    def __init__(
        self, database: Database, service: str, signal: JobSignal, lanes: Sequence[Lane] = ()
    ) -> None:
        self._database = database
        self.service = service
        self.signal = signal
        self.lanes = tuple(lanes) or (Lane("jobs"),)
        self._paces: dict[str, tuple[int, Pace]] = {}

    async def create(self, new: NewJob, most: int = 0) -> Job:
        """Queue a job; a request that was made before answers with its job.

        Args:
            new: What it is.
            most: Jobs of its owner that may wait or run, this one among them; 0 for any number.

        Raises:
            AlreadyExists: REQUEST_ID_REUSED when the request id belongs to another request.
            ResourceExhausted: TOO_MANY_JOBS.
        """
        values = {
            "job_id": f"{self.service}-{new_id()}",
            "project_id": new.project_id,
            "kind": new.kind,
            "spec": new.spec,
            "owner": new.owner,
            "request_id": new.request_id,
            "digest": new.digest,
            "priority": new.priority,
            "state": JobState.QUEUED.value,
            "attempt": 0,
            "crashes": 0,
            "revision": 1,
            "cancel_requested": False,
            "instance": "",
            "heartbeat_us": 0,
            "create_us": now_us(),
            "log_lines": 0,
            "progress": asdict(Progress()),
            "metrics": {},
            "resources": asdict(new.resources),
            "losses": 0,
        }
        try:
            async with self._database.write() as connection:
                if most:
                    await _require_room(connection, self._database.dialect, new.owner, most)
                await connection.execute(sa.insert(JOBS).values(**values))
        except sa.exc.IntegrityError:
            # Somebody was faster with this request id; anything else is a mistake of ours.
            earlier = await self.find_request(new.project_id, new.request_id, new.digest)
            if earlier is None:
                raise
            return earlier
        self.signal.ring()
        return await self.get(str(values["job_id"]))

    async def find_request(self, project_id: str, request_id: str, digest: str) -> Job | None:
        """The job of an earlier request, None when there was none; AlreadyExists REQUEST_ID_REUSED."""
        query = sa.select(JOBS.c.job_id, JOBS.c.digest).where(
            JOBS.c.project_id == project_id, JOBS.c.request_id == request_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        if row.digest != digest:
            raise AlreadyExists(
                "REQUEST_ID_REUSED",
                f"request_id {request_id!r} was used for another job (jobs/{row.job_id}); take a new UUID",
                job=f"jobs/{row.job_id}",
            )
        return await self.get(row.job_id)

    async def get(self, job_id: str) -> Job:
        """One job; NotFound JOB_NOT_FOUND."""
        async with self._database.read() as connection:
            job = await load(connection, job_id)
            return (await self._with_positions(connection, [job]))[0]

    async def list(
        self, project_id: str | None, states: Collection[JobState] = (), before: str = "", limit: int = 50
    ) -> Sequence[Job]:
        """At most `limit` jobs with ids before `before`, newest first; of all projects with None."""
        query = sa.select(JOBS).order_by(JOBS.c.job_id.desc()).limit(limit)
        if project_id is not None:
            query = query.where(JOBS.c.project_id == project_id)
        if states:
            query = query.where(JOBS.c.state.in_([state.value for state in states]))
        if before:
            query = query.where(JOBS.c.job_id < before)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            return await self._with_positions(connection, [job_of(row) for row in rows])

    async def open_of_kind(self, project_id: str, kind: str) -> Sequence[Job]:
        """All jobs of one kind of a project that wait or run, oldest first, without their places in the queue."""
        query = sa.select(JOBS).where(
            JOBS.c.project_id == project_id,
            JOBS.c.kind == kind,
            JOBS.c.state.in_([JobState.QUEUED.value, JobState.RUNNING.value]),
        )
        async with self._database.read() as connection:
            return [job_of(row) for row in (await connection.execute(query.order_by(JOBS.c.job_id))).all()]

    async def list_current(self, project_id: str, ended_after_us: int) -> Sequence[Job]:
        """Jobs of a project that have not ended, or ended after a moment (us since 1970), oldest first."""
        has_not = JOBS.c.state.in_([JobState.QUEUED.value, JobState.RUNNING.value])
        query = sa.select(JOBS).where(
            JOBS.c.project_id == project_id, sa.or_(has_not, JOBS.c.end_us > ended_after_us)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(JOBS.c.job_id))).all()
            return await self._with_positions(connection, [job_of(row) for row in rows])

    async def claim(self, instance: str, kinds: Collection[str]) -> Job | None:
        """Begin the next attempt of the queued job whose turn it is in its lane; None when there is none.

        Args:
            instance: Who begins it.
            kinds: Of one or of several lanes; lanes that are full are passed over.
        """
        for lane in self.lanes:
            mine = [kind for kind in kinds if lane.covers(kind)]
            if mine and (job_id := await self._claim(instance, lane, mine)):
                return await self._changed(job_id)
        return None

    async def _claim(self, instance: str, lane: Lane, kinds: Collection[str]) -> str:
        waits = sa.select(JOBS.c.job_id).where(JOBS.c.state == JobState.QUEUED.value, JOBS.c.kind.in_(kinds))
        async with self._database.write() as connection:
            if (await connection.execute(waits.limit(1))).one_or_none() is None:
                return ""
            if self._database.dialect == "postgresql":
                # Others count and choose when this transaction has ended: a lane is never fuller than it may be.
                await connection.execute(sa.text("SELECT pg_advisory_xact_lock(7001, 1)"))
            line = await Line.read(connection, lane)
            if lane.concurrent and line.running >= lane.concurrent:
                return ""
            for job in line.ordered:
                if job.kind in kinds and await begin(connection, job.job_id, instance):
                    return job.job_id
        return ""

    async def _with_positions(self, connection: AsyncConnection, jobs: Sequence[Job]) -> Sequence[Job]:
        queued = {job.kind for job in jobs if job.state is JobState.QUEUED}
        places: dict[str, tuple[int, float]] = {}
        for lane in self.lanes:
            if any(lane.covers(kind) for kind in queued):
                places |= (await Line.read(connection, lane)).places()
        return [
            replace(job, queue_position=places[job.job_id][0], start_eta_s=places[job.job_id][1])
            if job.job_id in places
            else job
            for job in jobs
        ]

    async def heartbeat(self, instance: str, job_ids: Collection[str]) -> None:
        """Say that `instance` lives and works on these jobs."""
        mine = (JOBS.c.instance == instance, JOBS.c.job_id.in_(list(job_ids)))
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(JOBS)
                .where(JOBS.c.state == JobState.RUNNING.value, *mine)
                .values(heartbeat_us=now_us())
            )

    async def report(
        self, job_id: str, attempt: int, progress: Progress, metrics: Mapping[str, float] | None = None
    ) -> Job:
        """Store an attempt's progress (and add to its metrics); Conflict ATTEMPT_OUTDATED.

        Seconds to the end are estimated from its pace where it does not say them.
        """
        if not progress.eta_s:
            progress = replace(progress, eta_s=self._eta_s(job_id, attempt, progress.fraction))
        async with self._database.write() as connection:
            job = await load(connection, job_id)
            job.require_attempt(attempt)
            await update(
                connection,
                running(job_id, attempt),
                progress=asdict(progress),
                metrics={**job.metrics, **(metrics or {})},
                heartbeat_us=now_us(),
            )
        return await self._changed(job_id)

    def _eta_s(self, job_id: str, attempt: int, fraction: float) -> float:
        known, pace = self._paces.get(job_id, (0, Pace()))
        if known != attempt:
            pace = Pace()
        self._paces[job_id] = (attempt, pace)
        return pace.eta_s(fraction, time.monotonic())

    async def finish(
        self,
        job_id: str,
        attempt: int,
        state: JobState,
        *,
        result: JobResult | None = None,
        error: JobError | None = None,
    ) -> Job:
        """End an attempt in a final state; Conflict ATTEMPT_OUTDATED."""
        self._paces.pop(job_id, None)
        values: dict[str, Any] = {
            "state": state.value,
            "end_us": now_us(),
            "cancel_requested": False,
            "result": asdict(result) if result else None,
            "error": asdict(error) if error else None,
        }
        async with self._database.write() as connection:
            job = await load(connection, job_id)
            job.require_attempt(attempt)
            if state is JobState.SUCCEEDED:
                values["progress"] = asdict(replace(job.progress, fraction=1.0, eta_s=0.0))
            await update(connection, running(job_id, attempt), **values)
        return await self._changed(job_id)

    async def release(self, job_id: str, attempt: int) -> None:
        """Give an attempt back to the queue because this process stops on purpose; Conflict
        ATTEMPT_OUTDATED.
        """
        self._paces.pop(job_id, None)
        async with self._database.write() as connection:
            job = await load(connection, job_id)
            job.require_attempt(attempt)
            await requeue(connection, job, "")
        await self._changed(job_id)

    async def crash(self, job_id: str, attempt: int, why: str, *, lost: bool = False) -> Job:
        """Queue an attempt again whose worker died, or fail the job after too many deaths.

        Args:
            job_id: The job.
            attempt: Its attempt.
            why: For people.
            lost: The node died, which is not the job's fault, rather than the worker alone.

        Raises:
            Conflict: ATTEMPT_OUTDATED.
        """
        self._paces.pop(job_id, None)
        async with self._database.write() as connection:
            job = await load(connection, job_id)
            job.require_attempt(attempt)
            await requeue(connection, job, why, crashes=not lost, losses=lost)
        return await self._changed(job_id)

    async def recover(
        self, instance: str, stale_s: float | None = None, *, blame: bool = True
    ) -> Sequence[Job]:
        """Queue lost jobs again: those without a heartbeat for `stale_s`, or with None all of other instances.

        Also those of this instance: the answer to its claim may have been lost. A job whose process died too often
        fails with JOB_CRASHED. Returns the jobs as they were.

        Args:
            instance: Who asks.
            stale_s: See above.
            blame: The process died with the job's work in it, which may have been the cause; where the work is
                done by other processes, it was not.
        """
        if stale_s is None:
            is_lost = JOBS.c.instance != instance
        else:
            is_lost = JOBS.c.heartbeat_us < now_us() - int(stale_s * 1e6)
        query = sa.select(JOBS).where(JOBS.c.state == JobState.RUNNING.value, is_lost)
        async with self._database.write() as connection:
            lost = [job_of(row) for row in (await connection.execute(query)).all()]
            for job in lost:
                why = "the service stopped unexpectedly"
                await requeue(connection, job, why, crashes=blame, losses=not blame)
        if lost:
            self.signal.ring()
        return lost

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a queued job, ask a running one to stop, leave an ended one as it is."""
        async with self._database.write() as connection:
            await load(connection, job_id)
            # Whatever others make of it at this moment, one of the two finds it.
            if not await update(connection, queued(job_id), state=JobState.CANCELLED.value, end_us=now_us()):
                asked = (*running(job_id), JOBS.c.cancel_requested.is_(False))
                await update(connection, asked, cancel_requested=True)
        return await self._changed(job_id)

    async def retry(self, job_id: str) -> Job:
        """Queue an ended job again, with a fresh count of crashes; FailedPrecondition JOB_NOT_ENDED."""
        async with self._database.write() as connection:
            job = await load(connection, job_id)
            job.require_ended()
            await set_aside(
                connection,
                job,
                # Who retries it at the same moment was faster: its next attempt may have begun.
                ended(job_id, job.attempt),
                state=JobState.QUEUED.value,
                crashes=0,
                losses=0,
                cancel_requested=False,
                error=None,
                progress=asdict(Progress()),
            )
        return await self._changed(job_id)

    async def reserve(self, job_id: str, attempt: int, resources: Resources) -> None:
        """Store what a running job reserves; Conflict ATTEMPT_OUTDATED."""
        async with self._database.write() as connection:
            if not await update(connection, running(job_id, attempt), resources=asdict(resources)):
                raise outdated(job_id, attempt)
        self.signal.ring()

    async def append_log(self, job_id: str, attempt: int, texts: Sequence[str]) -> None:
        """Append lines (each cut at 4000 characters, 20 000 in all); Conflict ATTEMPT_OUTDATED."""
        if not texts:
            return
        async with self._database.write() as connection:
            count = sa.update(JOBS).where(*running(job_id, attempt))
            count = count.values(log_lines=JOBS.c.log_lines + len(texts))
            last = (await connection.execute(count.returning(JOBS.c.log_lines))).scalar_one_or_none()
            if last is None:
                raise outdated(job_id, attempt)
            first = last - len(texts) + 1
            lines = [
                {
                    "job_id": job_id,
                    "line": first + i,
                    "time_us": now_us(),
                    "attempt": attempt,
                    "text": text[:_MAX_LINE],
                }
                for i, text in enumerate(texts)
                if first + i <= _MAX_LOG_LINES
            ]
            if lines:
                await connection.execute(sa.insert(LOGS), lines)

    async def list_log(self, job_id: str, after_line: int = 0, limit: int = 200) -> Sequence[LogLine]:
        """Lines after `after_line`, oldest first."""
        query = sa.select(LOGS).where(LOGS.c.job_id == job_id, LOGS.c.line > after_line)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(LOGS.c.line).limit(limit))).all()
        return [LogLine(row.line, time_of(row.time_us), row.attempt, row.text) for row in rows]

    async def _changed(self, job_id: str) -> Job:
        self.signal.ring()
        return await self.get(job_id)


async def _require_room(connection: AsyncConnection, dialect: str, owner: str, most: int) -> None:
    if dialect == "postgresql":
        # Else two that are made at the same time would not see each other.
        key = zlib.crc32(f"biosegment.jobs:{owner}".encode())
        await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    active = [state.value for state in JobState if not state.is_final]
    query = sa.select(sa.func.count()).where(JOBS.c.owner == owner, JOBS.c.state.in_(active))
    count = (await connection.execute(query)).scalar_one()
    if count >= most:
        raise ResourceExhausted(
            "TOO_MANY_JOBS",
            f"{count} jobs of {owner!r} wait or run already, which is the limit; wait for one or cancel one",
            limit=str(most),
        )
