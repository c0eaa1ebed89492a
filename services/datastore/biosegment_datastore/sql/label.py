"""Label imports in SQL: all annotations of an import in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from biosegment.database import Database
from biosegment_datastore.annotations.annotation import Action, Annotation
from biosegment_datastore.request import Request
from biosegment_datastore.sql.annotation_row import record_row, row_of
from biosegment_datastore.sql.record import advance, record_time_us, want
from biosegment_datastore.sql.request import lock_project, remember, replayed, require_volume, take
from biosegment_datastore.sql.tables import ANNOTATIONS, RECORDS

_ROWS = 500


class SqlLabelImports:
    """What label imports made; an import is known by its request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def made(self, request: Request) -> str | None:
        """What `commit` or the layers remembered of this import; None when it has made nothing yet."""
        async with self._database.read() as connection:
            return await replayed(connection, request)

    async def first(self, project_id: str, prefix: str, limit: int) -> Sequence[str]:
        """Ids of the first annotations whose label blocks are below a prefix, in the order of their records."""
        query = (
            sa.select(ANNOTATIONS.c.id)
            .where(ANNOTATIONS.c.project_id == project_id)
            .where(ANNOTATIONS.c.key.startswith(f"{prefix}/", autoescape=True))
            .order_by(ANNOTATIONS.c.sequence)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalars().all()

    async def commit(
        self,
        project_id: str,
        volume_id: str,
        annotations: Sequence[Annotation],
        prefix: str,
        request: Request,
    ) -> None:
        """Store all annotations of an import, or none; their prefix is garbage no longer. Twice is once.

        Args:
            project_id: Of the annotations.
            volume_id: Of the annotations.
            annotations: In the order in which they are to be applied; without numbers and times.
            prefix: Where their label blocks are, reserved by this attempt.
            request: Names the import.

        Raises:
            Conflict: ATTEMPT_OUTDATED when the prefix is reserved no longer: its blocks may be gone.
            NotFound: PROJECT_NOT_FOUND, VOLUME_NOT_FOUND.
        """
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            if await replayed(connection, request) is not None:
                return
            await require_volume(connection, project_id, volume_id)
            await take(connection, prefix)
            last = await connection.run_sync(advance, project_id, len(annotations))
            now = await connection.run_sync(record_time_us, project_id)
            stored = [
                replace(each, sequence=sequence, create_time_us=now)
                for sequence, each in enumerate(annotations, last - len(annotations) + 1)
            ]
            for start in range(0, len(stored), _ROWS):
                part = stored[start : start + _ROWS]
                await connection.execute(sa.insert(ANNOTATIONS), [row_of(each) for each in part])
                records = [
                    record_row(each, each.sequence, Action.COMMITTED, each.author, now) for each in part
                ]
                await connection.execute(sa.insert(RECORDS), records)
            await connection.run_sync(want, project_id, volume_id, last)
            await remember(connection, request, prefix)
