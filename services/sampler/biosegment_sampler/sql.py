"""The sampler's rows in SQL."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment_sampler import rows, tables
from biosegment_sampler.domain.annotation import Annotation, AnnotationState, Progress
from biosegment_sampler.domain.lease import GRACE_S
from biosegment_sampler.domain.pool import Pool, VolumeRegion
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import Occupied, Receipt, ScoreLayer

_HOLDING = tuple(state.value for state in AnnotationState if state.holds)
_MARK_BATCH = 500


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
                await connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
                    {"key": f"biosegment.pool:{project_id}"},
                )
            yield SqlTransaction(connection, project_id)

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

    async def pool(self) -> Pool | None:
        row = await self._one(self._select(tables.pools))
        return rows.pool_from_row(row) if row else None

    async def put_pool(self, pool: Pool) -> None:
        await self._upsert(tables.pools, [rows.pool_values(pool)])

    async def sample(self, sample_id: str) -> Sample | None:
        row = await self._one(self._select(tables.samples).where(tables.samples.c.sample_id == sample_id))
        return rows.sample_from_row(row) if row else None

    async def put_samples(self, items: Iterable[Sample]) -> None:
        await self._upsert(tables.samples, [rows.sample_values(item) for item in items])

    async def samples_leased(self) -> Sequence[Sample]:
        query = self._select(tables.samples).where(tables.samples.c.state == SampleState.LEASED.value)
        return await self._samples(
            query.order_by(tables.samples.c.created_at, tables.samples.c.rank, tables.samples.c.sample_id)
        )

    async def list_samples(
        self, states: frozenset[SampleState], holder: str, before: str, limit: int, now: float
    ) -> Sequence[Sample]:
        query = self._select(tables.samples)
        if states:
            state = _state_at(now)
            query = query.where(state.in_([item.value for item in states]))
        if holder:
            leased = _state_at(now) == SampleState.LEASED.value
            query = query.where(tables.samples.c.holder == holder, leased)
        if before:
            query = query.where(tables.samples.c.sample_id < before)
        return await self._samples(query.order_by(tables.samples.c.sample_id.desc()).limit(limit))

    async def chosen_counts(self) -> Mapping[str, int]:
        query = (
            sa.select(tables.samples.c.strategy, sa.func.count())
            .where(tables.samples.c.project_id == self._project_id)
            .group_by(tables.samples.c.strategy)
        )
        return {strategy: count for strategy, count in await self._connection.execute(query)}

    async def occupied(self, now: float) -> Occupied:
        leased = [item for item in await self.samples_leased() if item.lease and item.lease.blocks(now)]
        skipped = await self._samples(
            self._select(tables.samples).where(tables.samples.c.state == SampleState.SKIPPED.value)
        )
        found = await self._all(
            self._select(tables.annotation_table).where(tables.annotation_table.c.state.in_(_HOLDING))
        )
        return Occupied(
            leased=leased,
            skipped=[VolumeRegion(item.volume_id, item.region) for item in skipped],
            labelled=[rows.annotation_from_row(row) for row in found],
        )

    async def annotation(self, name: str) -> Annotation | None:
        row = await self._one(
            self._select(tables.annotation_table).where(tables.annotation_table.c.name == name)
        )
        return rows.annotation_from_row(row) if row else None

    async def annotations_of_sample(self, sample_id: str) -> Sequence[Annotation]:
        query = self._select(tables.annotation_table).where(tables.annotation_table.c.sample_id == sample_id)
        found = await self._all(query.order_by(tables.annotation_table.c.sequence))
        return [rows.annotation_from_row(row) for row in found]

    async def put_annotation(self, annotation: Annotation) -> None:
        await self._upsert(tables.annotation_table, [rows.annotation_values(self._project_id, annotation)])

    async def set_latest_model(self, names: Sequence[str]) -> None:
        own = tables.annotation_table.c.project_id == self._project_id
        await self._connection.execute(
            sa.update(tables.annotation_table).where(own).values(in_latest_model=False)
        )
        for first in range(0, len(names), _MARK_BATCH):
            some = tables.annotation_table.c.name.in_(names[first : first + _MARK_BATCH])
            await self._connection.execute(
                sa.update(tables.annotation_table).where(own, some).values(in_latest_model=True)
            )

    async def new_annotations(self, after_sequence: int = 0) -> int:
        query = sa.select(sa.func.count()).where(
            tables.annotation_table.c.project_id == self._project_id,
            tables.annotation_table.c.state.in_(_HOLDING),
            tables.annotation_table.c.in_latest_model.is_(False),
            tables.annotation_table.c.sequence > after_sequence,
        )
        return int(await self._connection.scalar(query) or 0)

    async def progress(self, now: float) -> Progress:
        found = await self._all(
            self._select(tables.annotation_table).where(tables.annotation_table.c.state.in_(_HOLDING))
        )
        holding = [rows.annotation_from_row(row) for row in found]
        by_author: Counter[str] = Counter(item.author for item in holding)
        by_class: Counter[int] = Counter()
        for item in holding:
            by_class.update(item.voxel_counts)
        state = _state_at(now)
        counted = await self._connection.execute(
            sa.select(state, sa.func.count())
            .where(tables.samples.c.project_id == self._project_id)
            .group_by("state_now")
        )
        return Progress(
            annotations=len(holding),
            new_annotations=sum(not item.in_latest_model for item in holding),
            annotated_voxels=sum(by_class.values()),
            annotations_by_author=by_author,
            voxels_by_class=by_class,
            samples_by_state={name: count for name, count in counted},
            work_time_s=sum(item.work_time_s for item in holding),
        )

    async def receipt(self, user: str, request_id: str) -> Receipt | None:
        query = self._select(tables.receipts).where(
            tables.receipts.c.holder == user, tables.receipts.c.request_id == request_id
        )
        row = await self._one(query)
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
        await self._connection.execute(
            sa.delete(tables.score_layers).where(tables.score_layers.c.project_id == self._project_id)
        )
        await self._upsert(
            tables.score_layers, [rows.layer_values(self._project_id, model, item) for item in layers]
        )

    async def drop_score_layer(self, name: str) -> None:
        await self._connection.execute(
            sa.delete(tables.score_layers).where(
                tables.score_layers.c.project_id == self._project_id, tables.score_layers.c.name == name
            )
        )

    def _select(self, table: sa.Table) -> sa.Select[Any]:
        return sa.select(table).where(table.c.project_id == self._project_id)

    async def _one(self, query: sa.Select[Any]) -> rows.Row | None:
        found: rows.Row | None = (await self._connection.execute(query)).mappings().one_or_none()
        return found

    async def _all(self, query: sa.Select[Any]) -> Sequence[rows.Row]:
        found: Sequence[rows.Row] = (await self._connection.execute(query)).mappings().all()
        return found

    async def _samples(self, query: sa.Select[Any]) -> list[Sample]:
        return [rows.sample_from_row(row) for row in await self._all(query)]

    async def _upsert(self, table: sa.Table, values: list[rows.Values]) -> None:
        if not values:
            return
        insert: Any = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
        statement = insert(table)
        keys = [column.name for column in table.primary_key]
        changed = {name: statement.excluded[name] for name in values[0] if name not in keys}
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=changed), values
        )


def _state_at(now: float) -> sa.ColumnElement[str]:
    """`Sample.state_at` in SQL."""
    over = sa.and_(
        tables.samples.c.state == SampleState.LEASED.value, tables.samples.c.lease_expires_at + GRACE_S <= now
    )
    # Literals, so that PostgreSQL sees the same expression in SELECT and GROUP BY.
    open_state = sa.literal_column(f"'{SampleState.OPEN.value}'", sa.String)
    return sa.case((over, open_state), else_=tables.samples.c.state).label("state_now")
