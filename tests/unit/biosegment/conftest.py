from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from biosegment.database import Database
from biosegment.jobs import JobSignal, SqlJobs
from biosegment.jobs.queue import Lane
from biosegment.jobs.tables import create_job_tables_v1, extend_job_tables_v2, extend_job_tables_v3


def create_job_tables(url: str) -> None:
    """All that the migrations make of jobs, in an empty database."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        create_job_tables_v1(operations)
        extend_job_tables_v2(operations)
        extend_job_tables_v3(operations)
    engine.dispose()


@pytest.fixture
async def job_database(tmp_path: Path) -> AsyncIterator[Callable[..., SqlJobs]]:
    """Opens the jobs of one database, as often as there are processes that share it."""
    create_job_tables(f"sqlite:///{tmp_path}/jobs.db")
    opened = []

    def jobs(lanes: Sequence[Lane] = ()) -> SqlJobs:
        opened.append(Database.open(f"sqlite+aiosqlite:///{tmp_path}/jobs.db"))
        return SqlJobs(opened[-1], "trainer", JobSignal(), lanes)

    yield jobs
    for database in opened:
        await database.close()
