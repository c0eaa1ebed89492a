from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from biosegment_gateway.sql import SqlAccounts

from biosegment.database import Database, migrate


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **span: float) -> None:
        self.time += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/gateway.sqlite"
    migrate(url, "biosegment_gateway")
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
def accounts(database: Database) -> SqlAccounts:
    return SqlAccounts(database)
