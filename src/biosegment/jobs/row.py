"""Rows of jobs: what is read from them, and the few ways in which they change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.errors import NotFound
from biosegment.jobs.job import (
    MAX_CRASHES,
    MAX_LOSSES,
    Job,
    JobError,
    JobResult,
    JobState,
    Progress,
    Resources,
)
from biosegment.jobs.tables import job_log_table, job_table

_METADATA: Final = sa.MetaData()
JOBS: Final = job_table(_METADATA)
LOGS: Final = job_log_table(_METADATA)


async def load(connection: AsyncConnection, job_id: str) -> Job:
    row = (await connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id))).one_or_none()
    if row is None:
        raise NotFound("JOB_NOT_FOUND", f"there is no job jobs/{job_id}, or you may not see it")
    return job_of(row)


async def update(connection: AsyncConnection, where: Sequence[Any], **values: Any) -> bool:
    statement = sa.update(JOBS).where(*where).values(revision=JOBS.c.revision + 1, **values)
    return bool((await connection.execute(statement)).rowcount)


async def set_aside(connection: AsyncConnection, job: Job, where: Sequence[Any], **values: Any) -> bool:
    """Take a job from the attempt that it is in, or ended with, whose computing still counts; False when it changed."""
    if job.start_time is not None:
        end_us = sa.func.coalesce(JOBS.c.end_us, now_us())
        values["earlier_work_us"] = JOBS.c.earlier_work_us + end_us - JOBS.c.start_us
    return await update(connection, where, **{"start_us": None, "end_us": None, **values})


async def begin(connection: AsyncConnection, job_id: str, instance: str) -> bool:
    return await update(
        connection,
        queued(job_id),
        state=JobState.RUNNING.value,
        attempt=JOBS.c.attempt + 1,
        instance=instance,
        heartbeat_us=now_us(),
        start_us=now_us(),
        end_us=None,
        progress=asdict(Progress()),
        metrics={},
        error=None,
    )


async def requeue(
    connection: AsyncConnection, job: Job, why: str, *, crashes: bool = False, losses: bool = False
) -> None:
    counts = {"crashes": job.crashes + crashes, "losses": job.losses + losses}
    mine = running(job.job_id, job.attempt)
    values: dict[str, Any]
    if job.cancel_requested:
        values = {"state": JobState.CANCELLED.value, "end_us": now_us(), "cancel_requested": False}
    elif counts["crashes"] >= MAX_CRASHES or counts["losses"] >= MAX_LOSSES:
        times = counts["crashes"] if crashes else counts["losses"]
        message = f"{why} while working on it, {times} times; look into its log before trying again"
        error = asdict(JobError("JOB_CRASHED" if crashes else "JOB_LOST", message))
        values = {"state": JobState.FAILED.value, "end_us": now_us(), "error": error}
    else:
        again = {"state": JobState.QUEUED.value, "progress": asdict(Progress())}
        await set_aside(connection, job, mine, **again, **counts)
        return
    await update(connection, mine, **values, **counts)


def queued(job_id: str) -> tuple[Any, ...]:
    return (JOBS.c.job_id == job_id, JOBS.c.state == JobState.QUEUED.value)


def running(job_id: str, attempt: int | None = None) -> tuple[Any, ...]:
    """In an attempt, or in any."""
    is_attempt = sa.true() if attempt is None else JOBS.c.attempt == attempt
    return (JOBS.c.job_id == job_id, is_attempt, JOBS.c.state == JobState.RUNNING.value)


def ended(job_id: str, attempt: int) -> tuple[Any, ...]:
    final = [state.value for state in JobState if state.is_final]
    return (JOBS.c.job_id == job_id, JOBS.c.attempt == attempt, JOBS.c.state.in_(final))


def job_of(row: Any) -> Job:
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
        losses=row.losses,
        resources=Resources(**row.resources),
        revision=row.revision,
        cancel_requested=row.cancel_requested,
        create_time=time_of(row.create_us),
        start_time=time_of(row.start_us) if row.start_us is not None else None,
        end_time=time_of(row.end_us) if row.end_us is not None else None,
        progress=Progress(**row.progress),
        metrics=row.metrics,
        error=JobError(**row.error) if row.error else None,
        result=_result(result) if result else None,
    )


def _result(stored: Mapping[str, Any]) -> JobResult:
    """What a job made; fields that an earlier release did not know are missing."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return JobResult(**fields)


def now_us() -> int:
    return time.time_ns() // 1000


def time_of(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)
