"""Drafts in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import Conflict, NotFound, ResourceExhausted
from biosegment_datastore.annotations.annotation import AnnotationKind, NewAnnotation
from biosegment_datastore.annotations.draft import Draft
from biosegment_datastore.clock import now_us
from biosegment_datastore.sql.annotation_row import region_columns, region_of
from biosegment_datastore.sql.request import doom, lock_project, require_volume, take
from biosegment_datastore.sql.tables import DRAFTS

_UNFINISHED_GRACE_US = 3600 * 1_000_000
"""How long labels may take from the first byte to the row."""

_PLAIN = "project_id volume_id id author base_sequence update_time_us labels_sha256 digest key".split()


class SqlDrafts:
    """Drafts, found by their authors only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, key: str) -> None:
        """Enter a prefix as garbage of later before labels are written there."""
        async with self._database.write() as connection:
            await doom(connection, key, now_us() + _UNFINISHED_GRACE_US)

    async def save(self, draft: Draft, etag: str, limit: int) -> Draft:
        """Store a draft whose labels are durable, in place of an older one with its id.

        Args:
            draft: The new one.
            etag: Of the one that it replaces; '' replaces whatever is there.
            limit: Most drafts of one author in one project.

        Returns:
            The draft; when the same was saved before, that one.

        Raises:
            Conflict: ETAG_MISMATCH, or ATTEMPT_OUTDATED when the labels took so long that they may be gone.
            ResourceExhausted: TOO_MANY_DRAFTS.
            NotFound: PROJECT_NOT_FOUND, VOLUME_NOT_FOUND.
        """
        async with self._database.write() as connection:
            await lock_project(connection, draft.project_id)
            await require_volume(connection, draft.project_id, draft.volume_id)
            present = await _find(connection, draft.project_id, draft.volume_id, draft.author, draft.id)
            if present is not None and present.digest == draft.digest:
                return present
            _require_etag(draft.name, present, etag)
            if present is None:
                await _require_room(connection, draft, limit)
            else:
                await _remove(connection, present)
            await connection.execute(sa.insert(DRAFTS).values(**_row_of(draft)))
            await take(connection, draft.key)
        return draft

    async def get(self, project_id: str, volume_id: str, author: str, draft_id: str) -> Draft:
        """NotFound DRAFT_NOT_FOUND."""
        async with self._database.read() as connection:
            found = await _find(connection, project_id, volume_id, author, draft_id)
        if found is None:
            raise draft_not_found(draft_id)
        return found

    async def list(self, project_id: str, volume_id: str, author: str) -> Sequence[Draft]:
        """Drafts of an author, newest first; of one volume, or of the project with ''. There are not many."""
        query = (
            sa.select(DRAFTS)
            .where(DRAFTS.c.project_id == project_id, DRAFTS.c.author == author)
            .order_by(DRAFTS.c.update_time_us.desc(), DRAFTS.c.volume_id, DRAFTS.c.id)
        )
        if volume_id:
            query = query.where(DRAFTS.c.volume_id == volume_id)
        async with self._database.read() as connection:
            if volume_id:
                await require_volume(connection, project_id, volume_id)
            return [_draft(row) for row in (await connection.execute(query)).all()]

    async def delete(self, project_id: str, volume_id: str, author: str, draft_id: str) -> None:
        """NotFound DRAFT_NOT_FOUND."""
        async with self._database.write() as connection:
            found = await _find(connection, project_id, volume_id, author, draft_id)
            if found is None:
                raise draft_not_found(draft_id)
            await _remove(connection, found)


def draft_not_found(draft_id: str) -> NotFound:
    return NotFound("DRAFT_NOT_FOUND", f"you have no draft {draft_id!r} there; it may have been committed")


async def _find(
    connection: AsyncConnection, project_id: str, volume_id: str, author: str, draft_id: str
) -> Draft | None:
    query = sa.select(DRAFTS).where(
        DRAFTS.c.project_id == project_id,
        DRAFTS.c.volume_id == volume_id,
        DRAFTS.c.author == author,
        DRAFTS.c.id == draft_id,
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _draft(row)


async def _remove(connection: AsyncConnection, draft: Draft) -> None:
    # Its key belongs to this save alone: a newer one with the same id is another row.
    await connection.execute(sa.delete(DRAFTS).where(DRAFTS.c.key == draft.key, *_author(draft)))
    await doom(connection, draft.key, now_us())


def _require_etag(name: str, present: Draft | None, etag: str) -> None:
    if etag and (present is None or present.etag != etag):
        what = "is gone: it was committed or deleted" if present is None else "was saved since"
        raise Conflict(
            "ETAG_MISMATCH",
            f"{name} {what}, perhaps on another machine; get it again, or save without an etag to replace it",
            etag=present.etag if present else "",
        )


async def _require_room(connection: AsyncConnection, draft: Draft, limit: int) -> None:
    query = sa.select(sa.func.count()).select_from(DRAFTS).where(*_author(draft))
    if (await connection.execute(query)).scalar_one() >= limit:
        raise ResourceExhausted(
            "TOO_MANY_DRAFTS",
            f"you have {limit} drafts in project {draft.project_id!r}, the most; commit or delete some",
            limit=str(limit),
        )


def _author(draft: Draft) -> tuple[sa.ColumnElement[bool], ...]:
    return DRAFTS.c.project_id == draft.project_id, DRAFTS.c.author == draft.author


def _row_of(draft: Draft) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(draft, name) for name in _PLAIN}
    row.update(region_columns(draft.content.region))
    row["kind"], row["class_scope"] = draft.content.kind.value, list(draft.content.class_scope)
    for name in ("sample", "work_time_s", "comment"):
        row[name] = getattr(draft.content, name)
    return row


def _draft(row: Any) -> Draft:
    content = NewAnnotation(
        region=region_of(row),
        kind=AnnotationKind(row.kind),
        class_scope=tuple(row.class_scope),
        sample=row.sample,
        work_time_s=row.work_time_s,
        comment=row.comment,
    )
    return Draft(**{name: getattr(row, name) for name in _PLAIN}, content=content)
