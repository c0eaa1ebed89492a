"""A service's SQL database: SQLite or PostgreSQL behind one small class, and its migrations.

    database = Database.open(settings.database_url)
    async with database.write() as connection:      # one transaction, committed at the end
        await connection.execute(insert(volumes).values(...))
    await database.close()

Migrations live in the service's package, in `migrations/versions/`, one Alembic script per step; nothing else
is needed there, neither `alembic.ini` nor `env.py`. `0001_volumes.py`:

    import sqlalchemy as sa
    from alembic import op

    revision = "0001"
    down_revision = None

    def upgrade() -> None:
        op.create_table("volumes", sa.Column("id", sa.String(63), primary_key=True), ...)

and at start, before the database is opened:

    await asyncio.to_thread(migrate, settings.database_url, "biosegment_datastore")

Scripts run in one transaction on both databases; write each so that it works on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import sqlite3
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from biosegment.errors import BiosegmentError, FailedPrecondition, ResourceExhausted, Unavailable
from biosegment.sqlite import LAZY, WRITING, checkpoint, flush, prepare_sqlite

_T = TypeVar("_T")
_log = structlog.get_logger("biosegment.database")

_BUSY_TIMEOUT_S: Final = 15.0
_POOL_SIZE: Final = 8
_CHECKPOINT_AFTER_S: Final = 2.0
"""The log of SQLite grows for so long."""
_DISK_FULL: Final = re.compile(
    r"database or disk is full|no space left|disk full|could not extend file", re.I
)
_AWAY: Final = re.compile(
    r"database (table )?is locked|database is busy|unable to open database|disk i/o error"
    r"|connection (is )?(closed|refused|failed|timeout|reset|lost)|server closed the connection"
    r"|could not connect|could not translate host|terminating connection|the database system is"
    r"|too many (clients|connections)"
    r"|consuming input failed",
    re.I,
)
# Connection, operator intervention, serialization and deadlock, too many connections, lock not available.
_AWAY_STATES: Final = ("08", "57P", "40001", "40P01", "53300", "55P03")


class Database:
    """Transactions on one database; safe for many tasks of one event loop, and for many processes."""

    def __init__(self, engine: AsyncEngine, wait_s: float) -> None:
        self._engine = engine
        self._blocking: Engine | None = None
        self._wait_s = wait_s
        # SQLite has one writer; its own waiting is by polling and unfair, so tasks queue here first.
        self._queue = asyncio.Lock() if engine.dialect.name == "sqlite" else None
        self._tidying: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._is_untidy = False
        self._flushing = asyncio.Lock()
        self._next_flush: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, url: str, wait_s: float = _BUSY_TIMEOUT_S) -> Database:
        """Prepare the pool; connects with the first transaction.

        Args:
            url: `sqlite+aiosqlite:////absolute/file` or `postgresql+psycopg://user:password@host/name`.
            wait_s: How long an SQLite transaction waits for the lock of another process.
        """
        if make_url(url).get_backend_name() == "sqlite":
            engine = create_async_engine(
                url, pool_size=_POOL_SIZE, max_overflow=0, connect_args={"timeout": wait_s}
            )
            prepare_sqlite(engine.sync_engine, wait_s)
        else:
            engine = create_async_engine(
                url,
                pool_size=_POOL_SIZE,
                max_overflow=_POOL_SIZE,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 5},
            )
        return cls(engine, wait_s)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads; on SQLite it sees one state of the database throughout.

        Raises:
            Unavailable: DATABASE_UNAVAILABLE when it cannot be reached or stays locked; try again.
        """
        with _translated():
            async with self._engine.connect() as connection, connection.begin():
                yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write, committed at the end and rolled back by any exception; never nested.

        On SQLite it holds the only write lock from its beginning, so keep other work out of it.

        Raises:
            Unavailable: DATABASE_UNAVAILABLE when it cannot be reached or stays locked; try again.
            ResourceExhausted: DISK_FULL; nothing of this transaction was written.
        """
        async with self._turn():
            with _translated():
                async with self._engine.connect() as connection:
                    await connection.execution_options(**{WRITING: True})
                    async with connection.begin():
                        yield connection

    async def write_at_once(self, work: Callable[[Connection], _T], *, lazily: bool = False) -> _T:
        """Carry out a whole transaction that may write in one thread; for those of many statements that happen often.

        Each statement of `write` wakes two threads, which on a busy machine takes longer than the statement.

        Args:
            work: Called with the connection; blocking. Its exceptions roll back.
            lazily: It need not be on the disk when this returns, because it can be done again: a power cut may lose it,
                a killed process does not. It is on the disk with the next transaction that is not lazy.

        Raises:
            BiosegmentError: As `write`.
        """
        async with self._turn():
            return await self._in_thread(_begin_lazily if lazily else begin_writing, work)

    async def write_then_flush(self, work: Callable[[Connection], _T]) -> _T:
        """As `write_at_once`, and on the disk when this returns, but nobody else waits for the disk in order to write.

        A disk may need a second now and then. Others may see what was written before a power cut can lose it no more.

        Raises:
            BiosegmentError: As `write`.
        """
        if self._queue is None:
            return await self.write_at_once(work)
        result = await self.write_at_once(work, lazily=True)
        if self._next_flush is None:
            self._next_flush = asyncio.create_task(self._flush())
        # It has not begun yet, so that it covers what is written by now.
        await asyncio.shield(self._next_flush)
        return result

    async def _flush(self) -> None:
        async with self._flushing:
            self._next_flush = None
            with _translated():
                await asyncio.to_thread(flush, self._engine.url.database or "")

    async def read_at_once(self, work: Callable[[Connection], _T]) -> _T:
        """Carry out a whole transaction that only reads in one thread; as `write_at_once`, and as `read`."""
        return await self._in_thread(_begin_plain, work)

    async def _in_thread(
        self, begin: Callable[[Engine], AbstractContextManager[Connection]], work: Callable[[Connection], _T]
    ) -> _T:
        engine = self._blocking_engine()

        def transact() -> _T:
            with begin(engine) as connection:
                return work(connection)

        thread = asyncio.ensure_future(asyncio.to_thread(transact))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            # It goes on whether somebody waits or not, and holds the write lock until its end.
            await asyncio.wait({thread})
            raise

    def _blocking_engine(self) -> Engine:
        if self._blocking is None:
            self._blocking = open_engine(self._engine.url.render_as_string(hide_password=False))
        return self._blocking

    async def check(self) -> None:
        """Raise Unavailable unless the database answers; for readiness."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        if isinstance(self._tidying, asyncio.Task):
            await self._tidying
        if isinstance(self._tidying, asyncio.TimerHandle):
            self._tidying.cancel()
        await self._engine.dispose()
        if self._blocking is not None:
            await asyncio.to_thread(self._blocking.dispose)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._queue is None:
            yield
            return
        try:
            async with asyncio.timeout(2 * self._wait_s):
                await self._queue.acquire()
        except TimeoutError as error:
            raise Unavailable(
                "DATABASE_UNAVAILABLE",
                f"the database was busy with other writes for {2 * self._wait_s:g} s; try again",
            ) from error
        try:
            yield
        finally:
            self._queue.release()
            self._is_untidy = True
            self._tidy_soon()

    def _tidy_soon(self) -> None:
        if self._is_untidy and self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_CHECKPOINT_AFTER_S, self._tidy)

    def _tidy(self) -> None:
        self._is_untidy = False
        self._tidying = asyncio.create_task(self._checkpoint())

    async def _checkpoint(self) -> None:
        try:
            await asyncio.to_thread(checkpoint, self._blocking_engine())
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            # The next one moves it, or a commit that finds the log too long.
            _log.warning("checkpoint_failed", error=str(error))
        finally:
            self._tidying = None
            # What was written while it was at work may still be in the log.
            self._tidy_soon()


def migrate(url: str, package: str) -> None:
    """Bring a database to the newest schema of a service; blocking; several processes may do so at once.

    Args:
        url: As for `Database.open`; the folder of an SQLite file is made.
        package: Import name of the service, `biosegment_datastore`; holds `migrations/versions/`.

    Raises:
        FailedPrecondition: NO_MIGRATIONS, or DATABASE_TOO_NEW when a newer release has used this database.
        Unavailable: DATABASE_UNAVAILABLE.
        ResourceExhausted: DISK_FULL.
    """
    engine = open_engine(url)
    try:
        with begin_writing(engine) as connection:
            if engine.dialect.name != "sqlite":
                key = zlib.crc32(b"biosegment.migrate:" + package.encode())
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            upgrade(connection, package)
    finally:
        engine.dispose()


def open_engine(url: str) -> Engine:
    """A blocking engine for tools and migrations; transactions begin and wait as those of `Database` do.

    Args:
        url: As for `Database.open`; the folder of an SQLite file is made.
    """
    place = make_url(url)
    is_sqlite = place.get_backend_name() == "sqlite"
    if is_sqlite:
        place = place.set(drivername="sqlite")
        if place.database:
            Path(place.database).parent.mkdir(parents=True, exist_ok=True)
    if is_sqlite:
        engine = create_engine(place, connect_args={"timeout": _BUSY_TIMEOUT_S})
        prepare_sqlite(engine, _BUSY_TIMEOUT_S)
    else:
        engine = create_engine(place, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    return engine


@contextlib.contextmanager
def begin_writing(engine: Engine) -> Iterator[Connection]:
    """One transaction of a blocking engine that may write, as `Database.write`."""
    with _translated(), engine.connect() as connection:
        connection.execution_options(**{WRITING: True})
        with connection.begin():
            yield connection


@contextlib.contextmanager
def _begin_lazily(engine: Engine) -> Iterator[Connection]:
    with _translated(), engine.connect() as connection:
        connection.execution_options(**{WRITING: True, LAZY: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL synchronous_commit = off"))
            yield connection


@contextlib.contextmanager
def _begin_plain(engine: Engine) -> Iterator[Connection]:
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def begin_reading(engine: Engine) -> Iterator[Connection]:
    """One transaction of a blocking engine that sees one state of the database throughout, as it is now."""
    with _translated(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            # The state is that of the first statement, on both databases.
            connection.execute(text("SELECT count(*) FROM alembic_version"))
            yield connection


def upgrade(connection: Connection, package: str, revision: str = "head") -> None:
    """Bring a database to a revision of a service's schema, within the transaction of `connection`.

    Raises:
        FailedPrecondition: NO_MIGRATIONS, or DATABASE_TOO_NEW when this release does not know the revision.
    """
    with _MIGRATING:
        _upgrade(connection, _migrations_folder(package), revision)


# Alembic's `op` is one per process.
_MIGRATING: Final = threading.Lock()


def _migrations_folder(package: str) -> Path:
    specification = importlib.util.find_spec(package)
    places = list(specification.submodule_search_locations or ()) if specification else []
    for place in places:
        folder = Path(place) / "migrations"
        if (folder / "versions").is_dir():
            return folder
    raise FailedPrecondition("NO_MIGRATIONS", f"package {package} has no folder migrations/versions")


def _upgrade(connection: Connection, folder: Path, target: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return scripts._upgrade_revs(target, revision)

    try:
        with EnvironmentContext(config, scripts, fn=steps) as environment:
            environment.configure(connection=connection)
            environment.run_migrations()
    except CommandError as error:
        raise FailedPrecondition(
            "DATABASE_TOO_NEW",
            f"the database does not fit the migrations in {folder}: {error}; install the release that "
            "wrote it, or a newer one",
        ) from error


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        translated = _translate(error)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception) -> BiosegmentError | None:
    """Our error for a full disk or a database that is away; None for other mistakes (SQL, constraints)."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    if state == "53100" or _DISK_FULL.search(str(cause)):
        return ResourceExhausted(
            "DISK_FULL", f"the disk of the database is full; make room and try again ({cause})"
        )
    is_away = (
        isinstance(error, PoolTimeoutError)
        or (
            isinstance(error, DBAPIError) and (error.connection_invalidated or bool(_AWAY.search(str(cause))))
        )
        or state.startswith(_AWAY_STATES)
    )
    if is_away:
        return Unavailable(
            "DATABASE_UNAVAILABLE", f"the database cannot be used right now; try again ({cause})"
        )
    return None
