"""Annotations, their records and projections in SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import NotFound
from biosegment.volume import Region
from biosegment_datastore.annotations.annotation import (
    HOLDING,
    Action,
    Annotation,
    AnnotationKind,
    AnnotationState,
    Record,
)
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.request import Request
from biosegment_datastore.sql.annotation_row import (
    OF_RECORD,
    RECORD_COLUMNS,
    annotation_of,
    overlapping,
    record_of,
    record_row,
    region_of,
    unindexed,
)
from biosegment_datastore.sql.record import advance, record_time_us, want
from biosegment_datastore.sql.request import (
    lock_project,
    project_not_found,
    remember,
    replayed,
    volume_not_found,
)
from biosegment_datastore.sql.tables import ANNOTATIONS, DELETED_PROJECTS, PROJECTS, RECORDS, VOLUMES


@dataclass(frozen=True, slots=True)
class Change:
    """A record to be made about an annotation, and the annotation after it."""

    annotation: Annotation
    action: Action
    accepted: bool = False
    comment: str = ""


class SqlAnnotations:
    """The order of records of each project, and the present state that follows from it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(
        self,
        project_id: str,
        annotation_id: str,
        author: str,
        request: Request,
        change: Callable[[Annotation], Change],
    ) -> Annotation:
        """Record a revert or review; `change` gets the present annotation and says what follows, or raises."""
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            present = await _load(connection, project_id, annotation_id)
            if await replayed(connection, request) is not None:
                return present
            made = change(present)
            sequence = await connection.run_sync(advance, project_id)
            after = made.annotation
            await connection.execute(
                sa.update(ANNOTATIONS)
                .where(ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.id == annotation_id)
                .values(state=after.state.value, review_comment=after.review_comment)
            )
            now = await connection.run_sync(record_time_us, project_id)
            row = record_row(after, sequence, made.action, author, now)
            row |= {"accepted": made.accepted, "comment": made.comment}
            await connection.execute(sa.insert(RECORDS).values(**row))
            await connection.run_sync(want, project_id, after.volume_id, sequence)
            await remember(connection, request, annotation_id)
        return after

    async def get(self, project_id: str, volume_id: str, annotation_id: str) -> Annotation:
        """NotFound ANNOTATION_NOT_FOUND."""
        async with self._database.read() as connection:
            found = await _load(connection, project_id, annotation_id)
        if found.volume_id != volume_id:
            raise _not_found(project_id, annotation_id)
        return found

    async def list(
        self,
        project_id: str,
        page: PageRequest,
        volume_id: str = "",
        states: Collection[AnnotationState] = (),
        region: Region | None = None,
        sample: str = "",
    ) -> Page[Annotation]:
        """Annotations, oldest first."""
        sequence: sa.ColumnElement[int] = ANNOTATIONS.c.sequence
        query = sa.select(ANNOTATIONS)
        if region is not None:
            query = overlapping(query, project_id, volume_id, region, self._database.dialect)
            sequence = unindexed(sequence)
        else:
            query = _within(query, project_id, volume_id)
        if states:
            query = query.where(ANNOTATIONS.c.state.in_([state.value for state in states]))
        if sample:
            query = query.where(ANNOTATIONS.c.sample == sample)
        if page.after is not None:
            query = query.where(sequence > int(page.after))
        query = query.order_by(sequence).limit(page.size + 1)

        def fetch(connection: sa.Connection) -> Sequence[Annotation]:
            if volume_id:
                _require_volume(connection, project_id, volume_id)
            return [annotation_of(row) for row in connection.execute(query)]

        found = await self._database.read_at_once(fetch)
        items = found[: page.size]
        return Page(items, page.next_token(items[-1].sequence) if len(found) > page.size else "")

    async def holding(
        self, project_id: str, volume_id: str, region: Region | None = None, as_of_us: int | None = None
    ) -> Sequence[Annotation]:
        """The annotations of a volume that hold, or held, in the order in which they are laid upon each other.

        That is: those of class values in the order of their records, then those of instances. What each says is laid
        by `overlay`, which takes labels of either kind.

        Args:
            project_id: Of the project.
            volume_id: Of the volume.
            region: Only those that share a voxel with it.
            as_of_us: A moment, microseconds since 1970: what followed from the records made until then, included.
                None for now. Each annotation has the state and the review that it had at that moment.
        """
        async with self._database.read() as connection:
            if as_of_us is None:
                query = sa.select(ANNOTATIONS).where(ANNOTATIONS.c.state.in_(HOLDING))
            else:
                query = _held_after(await _last_until(connection, project_id, as_of_us))
            if region is None:
                query = _within(query, project_id, volume_id)
            else:
                query = overlapping(query, project_id, volume_id, region, self._database.dialect)
            rows = (await connection.execute(query)).all()
        found = map(annotation_of, rows) if as_of_us is None else map(_as_recorded, map(record_of, rows))
        return sorted(found, key=lambda each: (each.kind is AnnotationKind.INSTANCES, each.sequence))

    async def holding_instances(self, project_id: str, volume_id: str, region: Region) -> Sequence[Region]:
        """Where annotations of instances hold that share a voxel with a region."""
        query = sa.select(ANNOTATIONS).where(
            ANNOTATIONS.c.state.in_(HOLDING), ANNOTATIONS.c.kind == AnnotationKind.INSTANCES.value
        )
        query = overlapping(query, project_id, volume_id, region, self._database.dialect)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [region_of(row) for row in rows]

    async def records(
        self, project_id: str, after: int, limit: int, volume_id: str = "", region: Region | None = None
    ) -> Sequence[Record]:
        """At most `limit` records after number `after`, in order; each with its annotation as it is now.

        With a `region`, which needs `volume_id`, only those of annotations that share a voxel with it.

        Raises:
            NotFound: PROJECT_NOT_FOUND or VOLUME_NOT_FOUND, of what has no records.
        """
        if volume_id:
            query = _records_of_volume(project_id, volume_id, region, self._database.dialect)
        else:
            query = _FEED
        values = {"project_id": project_id, "after": after, "limit": limit}

        def fetch(connection: sa.Connection) -> Sequence[Record]:
            found = [record_of(row) for row in connection.execute(query, values)]
            if not found:
                _require_project(connection, project_id)
                if volume_id:
                    _require_volume(connection, project_id, volume_id)
            return found

        return await self._database.read_at_once(fetch)

    async def keys(self, project_id: str) -> frozenset[str]:
        """Keys of all label blocks that a record refers to."""
        query = sa.select(ANNOTATIONS.c.key).where(ANNOTATIONS.c.project_id == project_id)
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())


_FEED: Final = (
    sa.select(*RECORD_COLUMNS, ANNOTATIONS)
    .join(ANNOTATIONS, OF_RECORD)
    .where(RECORDS.c.project_id == sa.bindparam("project_id"), RECORDS.c.sequence > sa.bindparam("after"))
    .order_by(RECORDS.c.sequence)
    .limit(sa.bindparam("limit"))
)
"""Asked for with every claim of a sample. Putting it together takes as long as carrying it out."""


def _records_of_volume(
    project_id: str, volume_id: str, region: Region | None, dialect: str
) -> sa.Select[Any]:
    """As `_FEED`, of a volume or a region of it."""
    sequence: sa.ColumnElement[int] = RECORDS.c.sequence
    query: sa.Select[Any] = sa.select(*RECORD_COLUMNS, ANNOTATIONS).join(ANNOTATIONS, OF_RECORD)
    if region is not None:
        query = overlapping(query, project_id, volume_id, region, dialect)
        sequence = unindexed(sequence)
    else:
        query = query.where(RECORDS.c.project_id == project_id, RECORDS.c.volume_id == volume_id)
    query = query.where(sequence > sa.bindparam("after"))
    return query.order_by(sequence).limit(sa.bindparam("limit"))


def _require_project(connection: sa.Connection, project_id: str) -> None:
    query = sa.select(PROJECTS.c.id).where(PROJECTS.c.id == project_id)
    if connection.execute(query).one_or_none() is not None:
        return
    gone = sa.select(DELETED_PROJECTS.c.id).where(DELETED_PROJECTS.c.id == project_id)
    if connection.execute(gone).one_or_none() is not None:
        # Who followed its records may forget it: it does not come back.
        raise NotFound("PROJECT_NOT_FOUND", f"project {project_id!r} was deleted", deleted="true")
    raise project_not_found(project_id)


def _require_volume(connection: sa.Connection, project_id: str, volume_id: str) -> None:
    query = sa.select(VOLUMES.c.id).where(VOLUMES.c.project_id == project_id, VOLUMES.c.id == volume_id)
    if connection.execute(query).one_or_none() is None:
        raise volume_not_found(project_id, volume_id)


def _within(query: sa.Select[Any], project_id: str, volume_id: str) -> sa.Select[Any]:
    query = query.where(ANNOTATIONS.c.project_id == project_id)
    return query.where(ANNOTATIONS.c.volume_id == volume_id) if volume_id else query


async def _last_until(connection: AsyncConnection, project_id: str, as_of_us: int) -> int:
    """Number of the last record that was made until a moment; 0 when there is none."""
    query = (
        sa.select(RECORDS.c.sequence)
        .where(RECORDS.c.project_id == project_id, RECORDS.c.create_time_us <= as_of_us)
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    )
    return int((await connection.execute(query)).scalar() or 0)


def _held_after(sequence: int) -> sa.Select[Any]:
    """Annotations that held after record `sequence`, each with the last record about it until then."""
    other = RECORDS.alias("other")
    last = (
        sa.select(sa.func.max(other.c.sequence))
        .where(
            other.c.project_id == ANNOTATIONS.c.project_id,
            other.c.annotation_id == ANNOTATIONS.c.id,
            other.c.sequence <= sequence,
        )
        .scalar_subquery()
    )
    holds = sa.or_(
        RECORDS.c.action == Action.COMMITTED.value,
        sa.and_(RECORDS.c.action == Action.REVIEWED.value, RECORDS.c.accepted),
    )
    return (
        sa.select(*RECORD_COLUMNS, ANNOTATIONS)
        .join(ANNOTATIONS, OF_RECORD)
        .where(RECORDS.c.sequence == last, holds)
    )


def _as_recorded(record: Record) -> Annotation:
    state = AnnotationState.PENDING if record.action is Action.COMMITTED else AnnotationState.ACCEPTED
    return replace(record.annotation, state=state, review_comment=record.comment)


async def _load(connection: AsyncConnection, project_id: str, annotation_id: str) -> Annotation:
    query = sa.select(ANNOTATIONS).where(
        ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.id == annotation_id
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _not_found(project_id, annotation_id)
    return annotation_of(row)


def _not_found(project_id: str, annotation_id: str) -> NotFound:
    return NotFound(
        "ANNOTATION_NOT_FOUND", f"project {project_id!r} has no such annotation {annotation_id!r}"
    )
