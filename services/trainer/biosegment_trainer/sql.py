"""Models as rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from biosegment.database import Database
from biosegment.errors import NotFound
from biosegment.jobs.row import load
from biosegment_trainer.registry.model import Model, ModelClass, NewModel
from biosegment_trainer.tables import MODELS

_MAX_TERMS: Final = 1000
"""Characters of a row; the bundle holds the whole text."""


class SqlModels:
    """The registry. Rows are never deleted, so that lineages stay whole."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, new: NewModel, attempt: int = 0) -> Model:
        """Add a model as the project's next version; the second of a job answers with the first.

        Args:
            new: What to register.
            attempt: Of the job that made it, 0 for none.

        Raises:
            Conflict: ATTEMPT_OUTDATED: another attempt has taken over, and this one's bundle may be gone.
        """
        async with self._database.write() as connection:
            if self._database.dialect == "postgresql":
                # Two that are registered at once must not get one number.
                await connection.execute(sa.text("SELECT pg_advisory_xact_lock(7001, 2)"))
            if attempt:
                (await load(connection, new.job.removeprefix("jobs/"))).require_attempt(attempt)
            if new.job:
                known = sa.select(MODELS).where(MODELS.c.job == new.job)
                row = (await connection.execute(known)).one_or_none()
                if row is not None:
                    return _model(row)
            newest = sa.select(sa.func.max(MODELS.c.version)).where(MODELS.c.project_id == new.project_id)
            version = ((await connection.execute(newest)).scalar_one() or 0) + 1
            await connection.execute(
                sa.insert(MODELS).values(
                    model_id=new.model_id,
                    project_id=new.project_id,
                    version=version,
                    display_name=new.display_name or f"Version {version}",
                    parent=new.parent,
                    network=new.network,
                    classes=[[item.value, item.name] for item in new.classes],
                    working_resolution_nm=new.working_resolution_nm,
                    annotations=list(new.annotations),
                    annotation_count=len(new.annotations),
                    config=dict(new.config),
                    metrics=dict(new.metrics),
                    job=new.job,
                    author=new.author,
                    create_us=time.time_ns() // 1000,
                    weights_sha256=new.weights_sha256,
                    data_license=new.data_license[:_MAX_TERMS],
                    deleted=False,
                    remarks=list(new.remarks),
                )
            )
        return await self.get(new.model_id)

    async def register_shared(self, new: NewModel) -> Model:
        """Add a model that is shipped with the platform; of several trainers that do it at once, one does."""
        try:
            return await self.register(new)
        except IntegrityError:
            return await self.get(new.model_id)

    async def get(self, model_id: str) -> Model:
        """One model; NotFound MODEL_NOT_FOUND."""
        row = await self._one(sa.select(MODELS).where(MODELS.c.model_id == model_id))
        if row is None:
            raise NotFound("MODEL_NOT_FOUND", f"there is no model models/{model_id}, or you may not see it")
        return _model(row)

    async def of_job(self, job: str) -> Model | None:
        """The model that a job registered."""
        row = await self._one(sa.select(MODELS).where(MODELS.c.job == job))
        return None if row is None else _model(row)

    async def newest(self, project_id: str) -> Model | None:
        """The project's newest model that still has weights: the newest that segments, else one that was only
        pretrained, or knows other classes.
        """
        query = sa.select(MODELS.c.model_id, MODELS.c.classes).where(
            MODELS.c.project_id == project_id, sa.not_(MODELS.c.deleted)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(MODELS.c.version.desc()))).all()
        if not rows:
            return None
        segmenting = (row for row in rows if any(value for value, _ in row.classes))
        return await self.get(next(segmenting, rows[0]).model_id)

    async def list(self, project_id: str, before_version: int | None, limit: int) -> Sequence[Model]:
        """At most `limit` models below a version, newest first, without their many annotations' names."""
        columns = [column for column in MODELS.c if column.name != "annotations"]
        query = sa.select(*columns).where(MODELS.c.project_id == project_id)
        if before_version is not None:
            query = query.where(MODELS.c.version < before_version)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(MODELS.c.version.desc()).limit(limit))).all()
        return [_model(row) for row in rows]

    async def rename(self, model_id: str, display_name: str) -> None:
        await self._change(model_id, display_name=display_name)

    async def mark_deleted(self, model_id: str) -> None:
        await self._change(model_id, deleted=True)

    async def _change(self, model_id: str, **values: Any) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.update(MODELS).where(MODELS.c.model_id == model_id).values(**values))

    async def _one(self, query: sa.Select[Any]) -> Any:
        async with self._database.read() as connection:
            return (await connection.execute(query)).one_or_none()


def _model(row: Any) -> Model:
    new = NewModel(
        model_id=row.model_id,
        project_id=row.project_id,
        display_name=row.display_name,
        parent=row.parent,
        network=row.network,
        classes=tuple(ModelClass(int(value), str(name)) for value, name in row.classes),
        working_resolution_nm=row.working_resolution_nm,
        weights_sha256=row.weights_sha256,
        annotations=tuple(getattr(row, "annotations", ())),
        config=row.config,
        metrics=row.metrics,
        job=row.job,
        author=row.author,
        data_license=row.data_license,
        remarks=tuple(row.remarks),
    )
    created = datetime.fromtimestamp(row.create_us / 1e6, UTC)
    return Model(new, row.version, created, row.deleted, row.display_name, row.annotation_count)
