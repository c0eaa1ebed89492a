"""The sampler's rows in SQL."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment_sampler import rows, tables
from biosegment_sampler.corrections import corrected
from biosegment_sampler.domain.annotation import Annotation, AnnotationState
from biosegment_sampler.domain.lease import GRACE_S
from biosegment_sampler.domain.pool import Loop, Pool
from biosegment_sampler.domain.progress import Tally
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import Receipt, ScoreLayer
from biosegment_sampler.sql_changes import SqlChanges
from biosegment_sampler.sql_room import SqlRoom
from biosegment_sampler.tally import tally

_HOLDING = tuple(state.value for state in AnnotationState if state.holds)
_T = TypeVar("_T")
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")

# What claims need. Putting a statement together takes as long as carrying it out, so that is done once.
_MINE: Final[sa.BindParameter[str]] = sa.bindparam("project_id")
_POOL: Final = sa.select(tables.pools).where(tables.pools.c.project_id == _MINE)
_LOOP: Final = sa.select(
    tables.pools.c.revision, *(tables.pools.c[item.name] for item in fields(Loop))
).where(tables.pools.c.project_id == _MINE)
_FOLLOW: Final = (
    sa.update(tables.pools)
    .where(tables.pools.c.project_id == sa.bindparam("project"))
    .values(watermark=sa.bindparam("watermark"), last_annotation_at=sa.bindparam("last_annotation_at"))
)
_SAMPLE: Final = sa.select(tables.samples).where(
    tables.samples.c.project_id == _MINE, tables.samples.c.sample_id == sa.bindparam("sample_id")
)
_LEASED: Final = (
    sa.select(tables.samples)
    .where(tables.samples.c.project_id == _MINE, tables.samples.c.state == SampleState.LEASED.value)
    .order_by(tables.samples.c.created_at, tables.samples.c.rank, tables.samples.c.sample_id)
)
_ANNOTATION: Final = sa.select(tables.annotation_table).where(
    tables.annotation_table.c.project_id == _MINE, tables.annotation_table.c.name == sa.bindparam("name")
)
_OF_SAMPLE: Final = (
    sa.select(tables.annotation_table)
    .where(
        tables.annotation_table.c.project_id == _MINE,
        tables.annotation_table.c.sample_id == sa.bindparam("sample_id"),
    )
    .order_by(tables.annotation_table.c.sequence)
)
_RECEIPT: Final = sa.select(tables.receipts).where(
    tables.receipts.c.project_id == _MINE,
    tables.receipts.c.holder == sa.bindparam("holder"),
    tables.receipts.c.request_id == sa.bindparam("request_id"),
)


class SqlLedger:
    """`ports.Ledger` on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def read(self, project_id: str) -> AsyncIterator[SqlTransaction]:
        """A view of one moment; PostgreSQL shows each statement its own moment, which reading tolerates."""
        async with self._database.read() as connection:
            yield SqlTransaction(connection, project_id)

    @contextlib.asynccontextmanager
    async def write(self, project_id: str) -> AsyncIterator[SqlTransaction]:
        """Alone on the project: SQLite has one writer, on PostgreSQL the lock is the project's own."""
        async with self._database.write() as connection:
            if self._database.dialect == "postgresql":
                await connection.execute(_LOCK, {"key": f"biosegment.pool:{project_id}"})
            yield SqlTransaction(connection, project_id)

    async def read_at_once(self, project_id: str, work: Callable[[SqlTransaction], Awaitable[_T]]) -> _T:
        """As `read`, in one thread from beginning to end; `work` may await the transaction alone."""
        return await self._database.read_at_once(
            lambda connection: _carried_out(work(SqlTransaction(_blocking(connection), project_id)))
        )

    async def write_at_once(
        self, project_id: str, work: Callable[[SqlTransaction], Awaitable[_T]], *, lazily: bool = False
    ) -> _T:
        """As `write`, in the way of `read_at_once`; when `lazily` a power cut may lose it."""

        def transact(connection: sa.Connection) -> _T:
            if self._database.dialect == "postgresql":
                connection.execute(_LOCK, {"key": f"biosegment.pool:{project_id}"})
            return _carried_out(work(SqlTransaction(_blocking(connection), project_id)))

        if lazily:
            return await self._database.write_at_once(transact, lazily=True)
        return await self._database.write_then_flush(transact)

    async def projects(self) -> Sequence[str]:
        """Projects that have a pool, by id."""
        async with self._database.read() as connection:
            return list(
                await connection.scalars(
                    sa.select(tables.pools.c.project_id).order_by(tables.pools.c.project_id)
                )
            )


class SqlTransaction:
    """`ports.Transaction`."""

    def __init__(self, connection: AsyncConnection, project_id: str) -> None:
        self._connection = connection
        self._project_id = project_id
        self.room = SqlRoom(connection, project_id)
        self.log = SqlChanges(connection, project_id)
        self.written: dict[str, Sample] = {}

    async def pool(self) -> Pool | None:
        row = await self._one(_POOL)
        return rows.pool_from_row(row) if row else None

    async def pool_since(self, pool: Pool) -> Pool | None:
        row = await self._one(_LOOP)
        if row is None or (row["revision"], row["nonce"]) != (pool.revision, pool.loop.nonce):
            return await self.pool()
        return replace(pool, loop=rows.loop_from_row(row))

    async def put_pool(self, pool: Pool) -> None:
        await self._upsert(tables.pools, [rows.pool_values(pool)])

    async def remove(self) -> None:
        """Delete all rows of the project."""
        for table in tables.metadata.tables.values():
            await self._connection.execute(sa.delete(table).where(table.c.project_id == self._project_id))

    async def follow(self, watermark: int, last_annotation_at: float) -> None:
        values = {"watermark": watermark, "last_annotation_at": last_annotation_at}
        await self._connection.execute(_FOLLOW, {"project": self._project_id, **values})

    async def sample(self, sample_id: str) -> Sample | None:
        row = await self._one(_SAMPLE, sample_id=sample_id)
        return rows.sample_from_row(row) if row else None

    async def put_samples(self, items: Iterable[Sample]) -> None:
        new = list(items)
        if new:
            self.written |= {sample.sample_id: sample for sample in new}
            change = await self.log.number()
            numbers = {"first_change": change, "change": change}
            values = [{**rows.sample_values(sample), **numbers} for sample in new]
            await self._upsert(tables.samples, values, kept="first_change")

    async def samples_leased(self) -> Sequence[Sample]:
        return await self._samples(_LEASED)

    async def list_samples(
        self,
        states: frozenset[SampleState],
        holder: str,
        before: str,
        limit: int,
        now: float,
        user: str = "",
        flagged: bool = False,
    ) -> Sequence[Sample]:
        query = self._select(tables.samples)
        if user:
            query = query.where(self.room.concerns(user))
        if flagged:
            query = query.where(tables.samples.c.flag_text != "")
        if states:
            state = _state_at(now)
            query = query.where(state.in_([item.value for item in states]))
        if holder:
            leased = _state_at(now) == SampleState.LEASED.value
            query = query.where(tables.samples.c.holder == holder, leased)
        if before:
            query = query.where(tables.samples.c.sample_id < before)
        return await self._samples(query.order_by(tables.samples.c.sample_id.desc()).limit(limit))

    async def annotations(self) -> Sequence[Annotation]:
        found = await self._all(
            self._select(tables.annotation_table).where(tables.annotation_table.c.state.in_(_HOLDING))
        )
        return [rows.annotation_from_row(row) for row in found]

    async def annotation(self, name: str) -> Annotation | None:
        row = await self._one(_ANNOTATION, name=name)
        return rows.annotation_from_row(row) if row else None

    async def annotations_of_sample(self, sample_id: str) -> Sequence[Annotation]:
        found = await self._all(_OF_SAMPLE, sample_id=sample_id)
        return [rows.annotation_from_row(row) for row in found]

    async def put_annotation(self, annotation: Annotation) -> None:
        values = rows.annotation_values(self._project_id, annotation)
        await self._upsert(tables.annotation_table, [{**values, "change": await self.log.number()}])

    async def set_latest_model(self, names: Sequence[str]) -> None:
        await self.log.set_latest_model(names)

    async def new_annotations(self, after_sequence: int = 0) -> int:
        query = sa.select(sa.func.count()).where(
            tables.annotation_table.c.project_id == self._project_id,
            tables.annotation_table.c.state.in_(_HOLDING),
            tables.annotation_table.c.in_latest_model.is_(False),
            tables.annotation_table.c.sequence > after_sequence,
            sa.not_(corrected()),
        )
        return int(await self._connection.scalar(query) or 0)

    async def has_annotations(self) -> bool:
        query = self._select(tables.annotation_table).where(tables.annotation_table.c.state.in_(_HOLDING))
        return bool(
            await self._connection.scalar(sa.select(query.exists()), {"project_id": self._project_id})
        )

    async def tally(self) -> Tally:
        return await tally(self._connection, self._project_id)

    async def samples_by_state(self, now: float) -> Mapping[str, int]:
        counted = await self._connection.execute(
            sa.select(_state_at(now), sa.func.count())
            .where(tables.samples.c.project_id == self._project_id)
            .group_by("state_now")
        )
        return {name: count for name, count in counted}

    async def receipt(self, user: str, request_id: str) -> Receipt | None:
        row = await self._one(_RECEIPT, holder=user, request_id=request_id)
        return Receipt(tuple(row["results"]), row["notice"]) if row else None

    async def put_receipt(self, user: str, request_id: str, receipt: Receipt) -> None:
        values = {
            "project_id": self._project_id,
            "holder": user,
            "request_id": request_id,
            "results": list(receipt.results),
            "notice": receipt.notice,
            "created_at": time.time(),
        }
        await self._upsert(tables.receipts, [values])

    async def score_layers(self, model: str) -> Sequence[ScoreLayer]:
        query = self._select(tables.score_layers).where(tables.score_layers.c.model == model)
        return [
            rows.layer_from_row(row) for row in await self._all(query.order_by(tables.score_layers.c.name))
        ]

    async def put_score_layers(self, model: str, layers: Sequence[ScoreLayer]) -> None:
        await self.log.note_scores()
        await self._connection.execute(
            sa.delete(tables.score_layers).where(tables.score_layers.c.project_id == self._project_id)
        )
        await self._upsert(
            tables.score_layers, [rows.layer_values(self._project_id, model, item) for item in layers]
        )

    async def drop_score_layer(self, name: str) -> None:
        await self.log.note_scores()
        await self._connection.execute(
            sa.delete(tables.score_layers).where(
                tables.score_layers.c.project_id == self._project_id, tables.score_layers.c.name == name
            )
        )

    def _select(self, table: sa.Table) -> sa.Select[Any]:
        return sa.select(table).where(table.c.project_id == _MINE)

    async def _one(self, query: sa.Select[Any], **values: str) -> rows.Row | None:
        found = await self._connection.execute(query, {"project_id": self._project_id, **values})
        row: rows.Row | None = found.mappings().one_or_none()
        return row

    async def _all(self, query: sa.Select[Any], **values: str) -> Sequence[rows.Row]:
        found = await self._connection.execute(query, {"project_id": self._project_id, **values})
        all_rows: Sequence[rows.Row] = found.mappings().all()
        return all_rows

    async def _samples(self, query: sa.Select[Any]) -> list[Sample]:
        return [rows.sample_from_row(row) for row in await self._all(query)]

    async def _upsert(self, table: sa.Table, values: list[rows.Values], kept: str = "") -> None:
        if not values:
            return
        statement = _upsert(self._connection.dialect.name, table, tuple(values[0]), kept)
        await self._connection.execute(statement, values)


@functools.cache
def _upsert(dialect: str, table: sa.Table, names: tuple[str, ...], kept: str) -> Any:
    """Putting a statement together takes as long as carrying it out."""
    insert: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in names if name not in (*keys, kept)}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


class _Blocking:
    """What a transaction needs of an asynchronous connection, over a blocking one: nothing has to be waited for."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    async def execute(self, *arguments: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(*arguments)

    async def scalar(self, *arguments: Any) -> Any:
        return self._connection.scalar(*arguments)

    async def scalars(self, *arguments: Any) -> sa.ScalarResult[Any]:
        return self._connection.scalars(*arguments)


def _blocking(connection: sa.Connection) -> AsyncConnection:
    return cast(AsyncConnection, _Blocking(connection))


def _carried_out(work: Awaitable[_T]) -> _T:
    """The result of a coroutine that never has to wait."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: _T = end.value
        return result
    raise RuntimeError("a transaction that is carried out at once may await nothing but itself")


def _state_at(now: float) -> sa.ColumnElement[str]:
    """`Sample.state_at` in SQL."""
    over = sa.and_(
        tables.samples.c.state == SampleState.LEASED.value, tables.samples.c.lease_expires_at + GRACE_S <= now
    )
    # Literals, so that PostgreSQL sees the same expression in SELECT and GROUP BY.
    open_state, annotated = (
        sa.literal_column(f"'{state.value}'", sa.String)
        for state in (SampleState.OPEN, SampleState.ANNOTATED)
    )
    was_annotated = tables.samples.c.annotation != sa.literal_column("''", sa.String)
    return sa.case(
        (sa.and_(over, was_annotated), annotated), (over, open_state), else_=tables.samples.c.state
    ).label("state_now")
