"""A lane of the queue as the rows have it now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.jobs.job import JobState, Progress
from biosegment.jobs.queue import MEMORY_S, Lane, Waiting, Work, start_etas, turns
from biosegment.jobs.row import JOBS, now_us

_HISTORY: Final = 20
_FIGURES: Final = (
    JOBS.c.job_id,
    JOBS.c.owner,
    JOBS.c.kind,
    JOBS.c.priority,
    JOBS.c.start_us,
    JOBS.c.end_us,
    JOBS.c.heartbeat_us,
    JOBS.c.earlier_work_us,
    JOBS.c.progress,
)


@dataclass(frozen=True, slots=True)
class Line:
    """A lane as it is now: its queued jobs in the order of their turns, and what was done lately."""

    lane: Lane
    ordered: Sequence[Waiting]
    work: Sequence[Work]
    usual_s: Mapping[str, float]

    @classmethod
    async def read(cls, connection: AsyncConnection, lane: Lane) -> Line:
        now, mine = now_us(), JOBS.c.kind.in_(list(lane.kinds)) if lane.kinds else sa.true()
        since = now - int(MEMORY_S * 1e6)
        lately = {
            JobState.QUEUED: JOBS.c.state == JobState.QUEUED.value,
            JobState.RUNNING: JOBS.c.state == JobState.RUNNING.value,
            None: JOBS.c.end_us > since,
        }
        waiting: list[Waiting] = []
        work: list[Work] = []
        for state, condition in lately.items():
            for row in (await connection.execute(sa.select(*_FIGURES).where(condition, mine))).all():
                if state is JobState.QUEUED:
                    waiting.append(Waiting(row.job_id, row.owner, row.kind, row.priority))
                work += _work_of(row, state, since, now)
        kinds = {job.kind for job in waiting} | {item.kind for item in work if item.runs}
        usual_s = {kind: seconds for kind in kinds if (seconds := await _usual_s(connection, kind))}
        return cls(lane, turns(waiting, work, usual_s), work, usual_s)

    @property
    def running(self) -> int:
        return sum(item.runs for item in self.work)

    def places(self) -> dict[str, tuple[int, float]]:
        """Position and seconds until the start of each queued job."""
        etas = start_etas(self.ordered, self.work, self.usual_s, self.lane.concurrent or self.running)
        return {
            job.job_id: (position, eta)
            for position, (job, eta) in enumerate(zip(self.ordered, etas, strict=True))
        }


def _work_of(row: Any, state: JobState | None, since: int, now: int) -> Iterator[Work]:
    """What was done for a job since a moment, by its attempt and by those before it."""
    begun_us = None if state is JobState.QUEUED else row.start_us
    if begun_us is not None:
        runs = state is JobState.RUNNING
        seconds = ((now if runs else row.end_us) - max(since, begun_us)) / 1e6
        eta_s = Progress(**row.progress).eta_s if runs else 0.0
        yield Work(row.owner, row.kind, seconds, runs, eta_s)
    # Earlier attempts came right before it, or ended with the last sign of life.
    earlier_us = min(row.earlier_work_us, (begun_us or row.heartbeat_us) - since)
    if earlier_us > 0:
        yield Work(row.owner, row.kind, earlier_us / 1e6, runs=False)


async def _usual_s(connection: AsyncConnection, kind: str) -> float:
    """Seconds that the last successful jobs of a kind took in the mean, 0 when there was none."""
    query = (
        sa.select(JOBS.c.start_us, JOBS.c.end_us)
        .where(JOBS.c.kind == kind, JOBS.c.end_us.is_not(None))
        .where(JOBS.c.state == JobState.SUCCEEDED.value)
        .order_by(JOBS.c.end_us.desc())
        .limit(_HISTORY)
    )
    rows = (await connection.execute(query)).all()
    return sum(row.end_us - row.start_us for row in rows) / 1e6 / len(rows) if rows else 0.0
