"""A lane of the queue as the rows have it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.jobs.job import JobState, Progress
from biosegment.jobs.queue import MEMORY_S, Lane, Waiting, Work, start_etas, turns
from biosegment.jobs.row import JOBS, now_us

_HISTORY: Final = 20


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
        columns = (JOBS.c.job_id, JOBS.c.owner, JOBS.c.kind, JOBS.c.priority)
        queued = sa.select(*columns).where(JOBS.c.state == JobState.QUEUED.value, mine)
        waiting = [Waiting(*row) for row in (await connection.execute(queued)).all()]
        since = now - int(MEMORY_S * 1e6)
        figures = (JOBS.c.owner, JOBS.c.kind, JOBS.c.start_us, JOBS.c.end_us, JOBS.c.progress)
        runs = sa.select(*figures).where(JOBS.c.state == JobState.RUNNING.value, mine)
        ended = sa.select(*figures).where(mine, JOBS.c.end_us > since, JOBS.c.start_us.is_not(None))
        work = [
            Work(
                row.owner,
                row.kind,
                ((row.end_us or now) - max(since, row.start_us)) / 1e6,
                row.end_us is None,
                Progress(**row.progress).eta_s if row.end_us is None else 0.0,
            )
            for query in (runs, ended)
            for row in (await connection.execute(query)).all()
        ]
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
