from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from biosegment.database import Database, migrate
from biosegment.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from biosegment.sqlite import checkpoint
from tests.servers.postgres import postgres_server

FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("volumes", sa.Column("id", sa.String(63), primary_key=True), sa.Column("size", sa.Integer))
    op.create_table(
        "layers",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("volume_id", sa.String(63), sa.ForeignKey("volumes.id"), nullable=False),
    )
"""

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("volumes", sa.Column("title", sa.String, nullable=False, server_default="untitled"))
    {then}
"""


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of migrations of a package of its own for each test; `package` is its name."""
    folder = tmp_path / "code" / f"biosegment_{tmp_path.name}" / "migrations" / "versions"
    folder.mkdir(parents=True)
    (folder.parent.parent / "__init__.py").touch()
    (folder / "0001_volumes.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    return folder


@pytest.fixture
def package(versions: Path) -> str:
    return versions.parent.parent.name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "service.sqlite"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture
async def database(url: str, package: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrate, url, package)
    database = Database.open(url, wait_s=10)
    yield database
    await database.close()


async def _add(database: Database, volume_id: str) -> None:
    async with database.write() as connection:
        await connection.execute(text("INSERT INTO volumes (id, size) VALUES (:id, 1)"), {"id": volume_id})


async def _count(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM volumes"))).scalar_one())


async def test_what_is_written_can_be_read_by_the_next_process(database: Database, url: str) -> None:
    await _add(database, "v1")
    other = Database.open(url)
    assert await _count(other) == 1
    await other.check()
    await other.close()


@pytest.mark.parametrize("error", [NotFound("X", "x"), ValueError("x"), asyncio.CancelledError()])
async def test_an_exception_undoes_the_whole_transaction(database: Database, error: BaseException) -> None:
    async def write() -> None:
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO volumes (id) VALUES ('v1')"))
            raise error

    with pytest.raises(type(error)):
        await write()
    assert await _count(database) == 0
    await _add(database, "v1")


async def test_writers_in_two_processes_that_read_first_all_succeed(database: Database, url: str) -> None:
    await _add(database, "v1")
    other = Database.open(url)

    async def increment(writer: Database) -> None:
        async with writer.write() as connection:
            size = (await connection.execute(text("SELECT size FROM volumes"))).scalar_one()
            await asyncio.sleep(0.001)
            await connection.execute(text("UPDATE volumes SET size = :size"), {"size": size + 1})

    try:
        await asyncio.gather(*(increment(writer) for _ in range(25) for writer in (database, other)))
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT size FROM volumes"))).scalar_one() == 51
    finally:
        await other.close()


async def test_a_reader_sees_one_state_and_does_not_wait_for_a_writer(database: Database) -> None:
    await _add(database, "v1")
    count = text("SELECT count(*) FROM volumes")
    async with database.read() as reader:
        before = (await reader.execute(count)).scalar_one()
        await _add(database, "v2")
        assert (await reader.execute(count)).scalar_one() == before == 1
    assert await _count(database) == 2


async def test_sqlite_is_durable_checks_references_and_keeps_a_log(database: Database) -> None:
    async with database.read() as connection:
        settings = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    assert database.dialect == "sqlite"


async def test_a_broken_constraint_stays_what_it_is(database: Database) -> None:
    async def write(statement: str) -> None:
        async with database.write() as connection:
            await connection.execute(text(statement))

    with pytest.raises(IntegrityError):
        await write("INSERT INTO layers (id, volume_id) VALUES ('l', 'no such volume')")
    with pytest.raises(OperationalError, match="no such table"):
        await write("INSERT INTO absent VALUES (1)")


async def test_a_full_disk_is_said_and_nothing_is_written(database: Database) -> None:
    async def fill() -> None:
        async with database.write() as connection:
            pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
            await connection.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
            for number in range(1000):
                await connection.execute(
                    text("INSERT INTO volumes (id) VALUES (:id)"), {"id": f"{number}-{'x' * 1000}"}
                )

    with pytest.raises(ResourceExhausted, match="make room") as caught:
        await fill()
    assert caught.value.reason == "DISK_FULL"
    assert await _count(database) == 0


async def test_a_database_that_stays_locked_is_unavailable(database: Database, file: Path, url: str) -> None:
    impatient = Database.open(url, wait_s=0.1)
    holder = sqlite3.connect(file)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="try again") as caught:
            await _add(impatient, "v1")
        assert caught.value.reason == "DATABASE_UNAVAILABLE"
        assert await _count(impatient) == 0
        holder.rollback()
        await _add(impatient, "v1")
    finally:
        holder.close()
        await impatient.close()


async def test_a_writer_that_waits_too_long_for_its_turn_is_told(database: Database, url: str) -> None:
    impatient = Database.open(url, wait_s=0.05)
    try:
        async with impatient.write():
            with pytest.raises(Unavailable, match="busy"):
                await _add(impatient, "v1")
        await _add(impatient, "v1")
    finally:
        await impatient.close()


async def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    for url in (
        f"sqlite+aiosqlite:///{tmp_path}/no/such/folder/x.sqlite",
        "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
    ):
        database = Database.open(url)
        with pytest.raises(Unavailable) as caught:
            await database.check()
        assert caught.value.reason == "DATABASE_UNAVAILABLE"
        await database.close()


def test_migrations_are_applied_once_and_new_ones_later(
    url: str, file: Path, package: str, versions: Path
) -> None:
    migrate(url, package)
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO volumes (id) VALUES ('v1')")
    connection.close()
    migrate(url, package)
    (versions / "0002_title.py").write_text(SECOND.format(then=""))
    migrate(url, package)
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT id, title FROM volumes").fetchall() == [("v1", "untitled")]
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind(
    url: str, file: Path, package: str, versions: Path
) -> None:
    migrate(url, package)
    (versions / "0002_title.py").write_text(SECOND.format(then="raise ZeroDivisionError('a bug')"))
    with pytest.raises(ZeroDivisionError):
        migrate(url, package)
    connection = sqlite3.connect(file)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(volumes)")]
    connection.close()
    assert columns == ["id", "size"]


async def test_processes_that_start_at_once_migrate_once(url: str, file: Path, package: str) -> None:
    script = "import sys; from biosegment.database import migrate; migrate(*sys.argv[1:])"
    path = str(next(parent for parent in file.parents if (parent / "code").is_dir()) / "code")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, url, package, env={**os.environ, "PYTHONPATH": path}
        )
        for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    connection.close()


def test_a_database_of_a_newer_release_is_refused(url: str, package: str, versions: Path) -> None:
    second = versions / "0002_title.py"
    second.write_text(SECOND.format(then=""))
    migrate(url, package)
    second.unlink()
    with pytest.raises(FailedPrecondition, match="0002") as caught:
        migrate(url, package)
    assert caught.value.reason == "DATABASE_TOO_NEW"


@pytest.mark.parametrize("name", ["no_such_package_at_all", "json"])
def test_a_package_without_migrations_is_named(url: str, name: str) -> None:
    with pytest.raises(FailedPrecondition, match=name):
        migrate(url, name)


async def test_cancelled_tasks_leave_no_lock_behind(tmp_path: Path) -> None:
    """Clients cancel calls at any moment; whoever writes next must not wait for what they left."""
    database = Database.open(f"sqlite+aiosqlite:///{tmp_path / 'cancelled.db'}", wait_s=20)
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE counts (value INTEGER)"))

    async def write() -> None:
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO counts VALUES (1)"))

    random = Random(0)
    cancelled = 0
    for _ in range(150):
        tasks = [asyncio.create_task(write()) for _ in range(3)]
        await asyncio.sleep(random.random() * 0.006)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += sum(isinstance(result, asyncio.CancelledError) for result in results)
        await write()  # Unavailable, when a lock was left
    assert cancelled > 0
    async with database.read() as connection:
        count = (await connection.execute(text("SELECT count(*) FROM counts"))).scalar_one()
    assert count >= 150
    await database.close()


async def test_a_timeout_around_a_transaction_still_ends_it(tmp_path: Path) -> None:
    database = Database.open(f"sqlite+aiosqlite:///{tmp_path / 'slow.db'}")

    async def dawdle() -> None:
        async with asyncio.timeout(0.2), database.write() as connection:
            await connection.execute(text("SELECT 1"))
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await dawdle()
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE after_it (value INTEGER)"))
    await database.close()


async def test_only_lazy_transactions_may_be_lost_by_a_power_cut(database: Database) -> None:
    def write(connection: Connection) -> int:
        connection.execute(text("INSERT INTO volumes (id) VALUES (:id)"), {"id": f"v{next(numbers)}"})
        # 1: the log is flushed with a later transaction, 2: with this one.
        return int(connection.scalar(text("PRAGMA synchronous")) or 0) - 1

    numbers = iter(range(9))
    asked = [False, True, True, False, True, False]
    assert [await database.write_at_once(write, lazily=lazily) for lazily in asked] == [
        int(not lazily) for lazily in asked
    ]
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM volumes")) == len(asked)


@pytest.mark.system
async def test_every_kind_of_transaction_goes_on_after_a_restart_of_the_server() -> None:
    def number(connection: Connection) -> object:
        return connection.execute(text("SELECT 1")).scalar_one()

    with postgres_server() as server:
        database = Database.open(server.url().replace("postgresql://", "postgresql+psycopg://"))
        for _ in range(2):
            async with database.read() as connection:
                await connection.execute(text("SELECT 1"))
            assert await database.read_at_once(number) == 1
            assert await database.write_at_once(number) == 1
            server.stop()
            server.start()
        assert await database.read_at_once(number) == 1
        await database.close()


def _in_the_database_itself(file: Path) -> int:
    """Rows of `t`, as if there were no log."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])
        except sqlite3.Error:
            return 0


async def _until_there_are(file: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while _in_the_database_itself(file) < count:
            await asyncio.sleep(0.01)


def _insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO t VALUES (1)"))


async def test_the_log_of_sqlite_is_moved_into_the_database_while_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biosegment.database._CHECKPOINT_AFTER_S", 0.01)
    file = tmp_path / "d.sqlite"
    database = Database.open(f"sqlite+aiosqlite:///{file}")
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
    for count in (50, 100):
        for _ in range(50):
            await database.write_at_once(_insert)
        await _until_there_are(file, count)
    await database.close()


async def test_what_is_written_while_the_log_is_moved_is_moved_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, go_on = threading.Event(), threading.Event()

    def slow_checkpoint(engine: Engine) -> None:
        checkpoint(engine)
        moved.set()
        assert go_on.wait(60)

    monkeypatch.setattr("biosegment.database._CHECKPOINT_AFTER_S", 0.01)
    monkeypatch.setattr("biosegment.database.checkpoint", slow_checkpoint)
    file = tmp_path / "d.sqlite"
    database = Database.open(f"sqlite+aiosqlite:///{file}")
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
    assert await asyncio.to_thread(moved.wait, 60)
    await database.write_at_once(_insert)
    go_on.set()
    await _until_there_are(file, 1)
    await database.close()
