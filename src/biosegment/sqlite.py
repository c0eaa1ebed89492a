"""How SQLite's connections must be set up to serve many tasks and processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

WRITING: Final = "biosegment_writing"
"""Execution option of connections whose next transaction may write."""
LAZY: Final = "biosegment_lazy"
"""Execution option of connections whose next transaction need not be on the disk when it has ended."""
_FLUSHING: Final = "biosegment_flushing"
_LONGEST_LOG: Final = 16_000


def prepare_sqlite(engine: Any, wait_s: float) -> None:
    """Have an engine's connections wait for locks, survive power cuts, and begin transactions when they are told to.

    Args:
        engine: A blocking one, or the blocking side of an asynchronous one.
        wait_s: How long to wait for the lock of another process.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        if engine.dialect.is_async:
            _finish_statements(connection.driver_connection)
        # Python's driver would begin transactions late and by itself; `begin` below does so explicitly.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={int(wait_s * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            # Pages: so far nobody has to wait, because `checkpoint` was faster.
            f"wal_autocheckpoint={_LONGEST_LOG}",
            # 8 MiB, filled when used: what lies near a place is on many pages of a long history.
            "cache_size=-8192",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that starts to write may find that another wrote meanwhile: waiting cannot cure that.
        options = connection.get_execution_options()
        writing = options.get(WRITING, False)
        flushing = "NORMAL" if options.get(LAZY, False) else "FULL"
        if writing and connection.info.get(_FLUSHING, "FULL") != flushing:
            connection.exec_driver_sql(f"PRAGMA synchronous={flushing}")
            connection.info[_FLUSHING] = flushing
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def checkpoint(engine: Engine) -> None:
    """Move what was committed from the log to its place in the database; blocking, but in nobody's way.

    SQLite does it by itself in the middle of a commit, whenever the log has got so long, and that commit waits for it.
    """
    # Not by `connect`, which would begin a transaction.
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    finally:
        connection.close()


def flush(file: str) -> None:
    """Wait until what was committed to a database is on the disk; blocking, but holding no lock of SQLite.

    What is not in its log is on the disk already: before SQLite begins the log anew or removes it, it flushes both.
    """
    # SQLite has no lock on the log, whose loss closing it would mean.
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(f"{file}-wal", os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _finish_statements(driver: Any) -> None:
    """Keep cancellation out of transactions: a task hears of it with its first wait that is not for this driver.

    The driver's thread carries a statement out whether somebody waits for it or not, and a connection that is thrown
    away in the middle of one goes on holding the write lock: after a client's cancellation nobody could write any more.
    """
    execute = driver._execute

    async def execute_to_the_end(*arguments: Any, **keywords: Any) -> Any:
        statement = asyncio.ensure_future(execute(*arguments, **keywords))
        was_cancelled = False
        while not statement.done():
            try:
                await asyncio.wait({statement})
            except asyncio.CancelledError:
                was_cancelled = True
        if was_cancelled:
            asyncio.get_running_loop().call_soon(_cancel_again, asyncio.current_task())
        return statement.result()

    driver._execute = execute_to_the_end


def _cancel_again(task: asyncio.Task[Any] | None) -> None:
    # A timeout that has been left meanwhile took its cancellation back.
    if task is not None and not task.done() and task.cancelling():
        task.uncancel()
        task.cancel()
