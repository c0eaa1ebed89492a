"""Following all jobs of a project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from biosegment.jobs.job import Job
from biosegment.jobs.row import now_us
from biosegment.jobs.signal import wait
from biosegment.jobs.sql import SqlJobs
from biosegment.resume_token import read_resume_token

_POLL_S: Final = 2.0
_PAUSE_S: Final = 0.5
"""Between two looks: a training reports its progress many times in a second."""
_OVERLAP_US: Final = 30_000_000
"""A job that ended may be seen so much later than one that ended after it: clocks differ, transactions take time."""


async def watch_project(
    jobs: SqlJobs, project_id: str, resume_token: str, check: Callable[[], Awaitable[None]]
) -> AsyncGenerator[tuple[Job | None, str], None]:
    """The jobs of a project that have not ended, then each time that one changes, for ever.

    Args:
        jobs: The rows.
        project_id: Whose jobs.
        resume_token: That came last, or ''.
        check: Asked before each look whether the caller may still see them; raises when not.

    Yields:
        A job, None when there is none to begin with, and where to resume after it; '' when more of the same look
        follow.

    Raises:
        InvalidArgument: BAD_RESUME_TOKEN.
    """
    since_us = read_resume_token(resume_token)
    known: dict[str, tuple[int, int]] = {}
    is_first = True
    while True:
        await check()
        rung, now = jobs.signal.listen(), now_us()
        found = await jobs.list_current(project_id, (since_us or now) - _OVERLAP_US)
        news = [
            job
            for job in found
            if known.get(job.job_id) != _state(job) and not (since_us is None and job.state.is_final)
        ]
        known = {job.job_id: _state(job) for job in found}
        since_us = now
        for job in news[:-1]:
            yield job, ""
        if news or is_first:
            yield (news[-1] if news else None), str(now)
        is_first = False
        await asyncio.sleep(_PAUSE_S)
        await wait(rung, _POLL_S)


def _state(job: Job) -> tuple[int, int]:
    """What changes when the job does; a queued one also when others leave the queue before it."""
    return job.revision, job.queue_position
