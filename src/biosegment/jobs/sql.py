"""Jobs as rows. Every change is one transaction, guarded by the attempt that it speaks for."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import AlreadyExists, NotFound
from biosegment.ids import new_id
from biosegment.jobs.job import (
    MAX_CRASHES,
    Job,
    JobError,
    JobResult,
    JobState,
    LogLine,
    NewJob,
    Progress,
    outdated,
)
from biosegment.jobs.signal import JobSignal
from biosegment.jobs.tables import job_log_table, job_table

_METADATA: Final = sa.MetaData()
_JOBS: Final = job_table(_METADATA)
_LOGS: Final = job_log_table(_METADATA)
_MAX_LOG_LINES: Final = 20_000
_MAX_LINE: Final = 4000


class SqlJobs:
    """The jobs of one service.

    Args:
        database: Migrated, with the tables of `tables`.
        service: Prefix of job ids, `datastore` or `trainer`.
        signal: Rung after each change.
    """

    def __init__(self, database: Database, service: str, signal: JobSignal) -> None:
        self._database = database
        self.service = service
        self.signal = signal

    async def create(self, new: NewJob) -> Job:
        """Queue a job; a request that was made before answers with its job.

        Raises:
            AlreadyExists: REQUEST_ID_REUSED when the request id belongs to another request.
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
            "create_us": _now_us(),
            "log_lines": 0,
            "progress": asdict(Progress()),
            "metrics": {},
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(sa.insert(_JOBS).values(**values))
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
        query = sa.select(_JOBS.c.job_id, _JOBS.c.digest).where(
            _JOBS.c.project_id == project_id, _JOBS.c.request_id == request_id
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
            job = await _load(connection, job_id)
            return await _with_position(connection, job)

    async def list(
        self, project_id: str | None, states: Collection[JobState] = (), before: str = "", limit: int = 50
    ) -> Sequence[Job]:
        """At most `limit` jobs with ids before `before`, newest first; of all projects with None."""
        query = sa.select(_JOBS).order_by(_JOBS.c.job_id.desc()).limit(limit)
        if project_id is not None:
            query = query.where(_JOBS.c.project_id == project_id)
        if states:
            query = query.where(_JOBS.c.state.in_([state.value for state in states]))
        if before:
            query = query.where(_JOBS.c.job_id < before)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            return [await _with_position(connection, _job(row)) for row in rows]

    async def claim(self, instance: str, kinds: Collection[str]) -> Job | None:
        """Begin the next attempt of the queued job whose turn it is; None when there is none."""
        query = (
            sa.select(_JOBS.c.job_id)
            .where(_JOBS.c.state == JobState.QUEUED.value, _JOBS.c.kind.in_(list(kinds)))
            .order_by(_JOBS.c.priority.desc(), _JOBS.c.job_id)
            .limit(1)
        )
        async with self._database.write() as connection:
            while (job_id := (await connection.execute(query)).scalar_one_or_none()) is not None:
                claimed = await _update(
                    connection,
                    (_JOBS.c.job_id == job_id, _JOBS.c.state == JobState.QUEUED.value),
                    state=JobState.RUNNING.value,
                    attempt=_JOBS.c.attempt + 1,
                    instance=instance,
                    heartbeat_us=_now_us(),
                    start_us=_now_us(),
                    end_us=None,
                    progress=asdict(Progress()),
                    metrics={},
                    error=None,
                )
                if claimed:
                    break
            else:
                return None
        return await self._changed(job_id)

    async def heartbeat(self, instance: str, job_ids: Collection[str]) -> None:
        """Say that `instance` lives and works on these jobs."""
        mine = (_JOBS.c.instance == instance, _JOBS.c.job_id.in_(list(job_ids)))
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(_JOBS)
                .where(_JOBS.c.state == JobState.RUNNING.value, *mine)
                .values(heartbeat_us=_now_us())
            )

    async def report(
        self, job_id: str, attempt: int, progress: Progress, metrics: Mapping[str, float] | None = None
    ) -> Job:
        """Store an attempt's progress (and add to its metrics); Conflict ATTEMPT_OUTDATED."""
        async with self._database.write() as connection:
            job = await _load(connection, job_id)
            job.require_attempt(attempt)
            await _update(
                connection,
                _running(job_id, attempt),
                progress=asdict(progress),
                metrics={**job.metrics, **(metrics or {})},
                heartbeat_us=_now_us(),
            )
        return await self._changed(job_id)

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
        values: dict[str, Any] = {
            "state": state.value,
            "end_us": _now_us(),
            "cancel_requested": False,
            "result": asdict(result) if result else None,
            "error": asdict(error) if error else None,
        }
        async with self._database.write() as connection:
            job = await _load(connection, job_id)
            job.require_attempt(attempt)
            if state is JobState.SUCCEEDED:
                values["progress"] = asdict(replace(job.progress, fraction=1.0, eta_s=0.0))
            await _update(connection, _running(job_id, attempt), **values)
        return await self._changed(job_id)

    async def release(self, job_id: str, attempt: int) -> None:
        """Give an attempt back to the queue because this process stops on purpose; Conflict
        ATTEMPT_OUTDATED.
        """
        async with self._database.write() as connection:
            job = await _load(connection, job_id)
            job.require_attempt(attempt)
            await _requeue(connection, job, crashes=job.crashes, why="")
        await self._changed(job_id)

    async def crash(self, job_id: str, attempt: int, why: str) -> Job:
        """Queue an attempt again whose worker died, or fail the job after too many; Conflict
        ATTEMPT_OUTDATED.
        """
        async with self._database.write() as connection:
            job = await _load(connection, job_id)
            job.require_attempt(attempt)
            await _requeue(connection, job, crashes=job.crashes + 1, why=why)
        return await self._changed(job_id)

    async def recover(self, instance: str, stale_s: float | None = None) -> Sequence[Job]:
        """Queue lost jobs again: those without a heartbeat for `stale_s`, or with None all of other instances.

        Also those of this instance: the answer to its claim may have been lost. A job whose process died too often
        fails with JOB_CRASHED. Returns the jobs as they were.
        """
        if stale_s is None:
            is_lost = _JOBS.c.instance != instance
        else:
            is_lost = _JOBS.c.heartbeat_us < _now_us() - int(stale_s * 1e6)
        query = sa.select(_JOBS).where(_JOBS.c.state == JobState.RUNNING.value, is_lost)
        async with self._database.write() as connection:
            lost = [_job(row) for row in (await connection.execute(query)).all()]
            for job in lost:
                await _requeue(
                    connection, job, crashes=job.crashes + 1, why="the service stopped unexpectedly"
                )
        if lost:
            self.signal.ring()
        return lost

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a queued job, ask a running one to stop, leave an ended one as it is."""
        async with self._database.write() as connection:
            job = await _load(connection, job_id)
            match job.state:
                case JobState.QUEUED:
                    await _update(
                        connection,
                        (_JOBS.c.job_id == job_id,),
                        state=JobState.CANCELLED.value,
                        end_us=_now_us(),
                    )
                case JobState.RUNNING if not job.cancel_requested:
                    await _update(connection, (_JOBS.c.job_id == job_id,), cancel_requested=True)
        return await self._changed(job_id)

    async def retry(self, job_id: str) -> Job:
        """Queue an ended job again, with a fresh count of crashes; FailedPrecondition JOB_NOT_ENDED."""
        async with self._database.write() as connection:
            job = await _load(connection, job_id)
            job.require_ended()
            await _update(
                connection,
                (_JOBS.c.job_id == job_id,),
                state=JobState.QUEUED.value,
                crashes=0,
                cancel_requested=False,
                error=None,
                end_us=None,
                progress=asdict(Progress()),
            )
        return await self._changed(job_id)

    async def append_log(self, job_id: str, attempt: int, texts: Sequence[str]) -> None:
        """Append lines (each cut at 4000 characters, 20 000 in all); Conflict ATTEMPT_OUTDATED."""
        if not texts:
            return
        async with self._database.write() as connection:
            count = sa.update(_JOBS).where(*_running(job_id, attempt))
            count = count.values(log_lines=_JOBS.c.log_lines + len(texts))
            last = (await connection.execute(count.returning(_JOBS.c.log_lines))).scalar_one_or_none()
            if last is None:
                raise outdated(job_id, attempt)
            first = last - len(texts) + 1
            lines = [
                {
                    "job_id": job_id,
                    "line": first + i,
                    "time_us": _now_us(),
                    "attempt": attempt,
                    "text": text[:_MAX_LINE],
                }
                for i, text in enumerate(texts)
                if first + i <= _MAX_LOG_LINES
            ]
            if lines:
                await connection.execute(sa.insert(_LOGS), lines)

    async def list_log(self, job_id: str, after_line: int = 0, limit: int = 200) -> Sequence[LogLine]:
        """Lines after `after_line`, oldest first."""
        query = sa.select(_LOGS).where(_LOGS.c.job_id == job_id, _LOGS.c.line > after_line)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(_LOGS.c.line).limit(limit))).all()
        return [LogLine(row.line, _time(row.time_us), row.attempt, row.text) for row in rows]

    async def _changed(self, job_id: str) -> Job:
        self.signal.ring()
        return await self.get(job_id)


async def _load(connection: AsyncConnection, job_id: str) -> Job:
    row = (await connection.execute(sa.select(_JOBS).where(_JOBS.c.job_id == job_id))).one_or_none()
    if row is None:
        raise NotFound("JOB_NOT_FOUND", f"there is no job jobs/{job_id}, or you may not see it")
    return _job(row)


async def _with_position(connection: AsyncConnection, job: Job) -> Job:
    if job.state is not JobState.QUEUED:
        return job
    before = sa.or_(
        _JOBS.c.priority > job.priority,
        sa.and_(_JOBS.c.priority == job.priority, _JOBS.c.job_id < job.job_id),
    )
    query = sa.select(sa.func.count()).where(_JOBS.c.state == JobState.QUEUED.value, before)
    return replace(job, queue_position=int((await connection.execute(query)).scalar_one()))


async def _update(connection: AsyncConnection, where: Sequence[Any], **values: Any) -> bool:
    statement = sa.update(_JOBS).where(*where).values(revision=_JOBS.c.revision + 1, **values)
    return bool((await connection.execute(statement)).rowcount)


async def _requeue(connection: AsyncConnection, job: Job, crashes: int, why: str) -> None:
    values: dict[str, Any] = {
        "state": JobState.QUEUED.value,
        "crashes": crashes,
        "progress": asdict(Progress()),
    }
    if job.cancel_requested:
        values = {"state": JobState.CANCELLED.value, "end_us": _now_us(), "cancel_requested": False}
    elif crashes >= MAX_CRASHES:
        message = f"{why} while working on it, {crashes} times; look into its log before trying again"
        error = asdict(JobError("JOB_CRASHED", message))
        values = {"state": JobState.FAILED.value, "crashes": crashes, "end_us": _now_us(), "error": error}
    await _update(connection, _running(job.job_id, job.attempt), **values)


def _running(job_id: str, attempt: int) -> tuple[Any, ...]:
    return (_JOBS.c.job_id == job_id, _JOBS.c.attempt == attempt, _JOBS.c.state == JobState.RUNNING.value)


def _job(row: Any) -> Job:
    result = row.result
    return Job(
        job_id=row.job_id,
        project_id=row.project_id,
        kind=row.kind,
        spec=bytes(row.spec),
        owner=row.owner,
        request_id=row.request_id,
        digest=row.digest,
        priority=row.priority,
        state=JobState(row.state),
        attempt=row.attempt,
        crashes=row.crashes,
        revision=row.revision,
        cancel_requested=row.cancel_requested,
        create_time=_time(row.create_us),
        start_time=_time(row.start_us) if row.start_us is not None else None,
        end_time=_time(row.end_us) if row.end_us is not None else None,
        progress=Progress(**row.progress),
        metrics=row.metrics,
        error=JobError(**row.error) if row.error else None,
        result=JobResult(
            **{**result, "layers": tuple(result["layers"]), "annotations": tuple(result["annotations"])}
        )
        if result
        else None,
    )


def _now_us() -> int:
    return time.time_ns() // 1000


def _time(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)
