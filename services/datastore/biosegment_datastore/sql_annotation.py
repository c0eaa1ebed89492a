"""Annotations, their records and projections in SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import Conflict, NotFound
from biosegment.volume import Index, Region
from biosegment_datastore.annotation import (
    HOLDING,
    Action,
    Annotation,
    AnnotationKind,
    AnnotationState,
    Record,
)
from biosegment_datastore.clock import now_us
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.request import Request
from biosegment_datastore.sql_request import lock_project, remember, replayed, require_volume
from biosegment_datastore.tables import ANNOTATIONS, PROJECTIONS, PROJECTS, RECORDS

_AXES = "zyx"


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

    async def replayed(self, project_id: str, request: Request) -> Annotation | None:
        """The annotation of an earlier request with this id; AlreadyExists REQUEST_ID_REUSED."""
        async with self._database.read() as connection:
            earlier = await replayed(connection, request)
            return None if earlier is None else await _load(connection, project_id, earlier)

    async def commit(self, new: Annotation, base_sequence: int | None, request: Request) -> Annotation:
        """Store an annotation with the next number, or answer as the same request was answered before.

        Raises:
            Conflict: BASE_OUTDATED when a record after `base_sequence` overlaps it.
            AlreadyExists: REQUEST_ID_REUSED.
            NotFound: PROJECT_NOT_FOUND, VOLUME_NOT_FOUND.
        """
        async with self._database.write() as connection:
            await lock_project(connection, new.project_id)
            earlier = await replayed(connection, request)
            if earlier is not None:
                return await _load(connection, new.project_id, earlier)
            await require_volume(connection, new.project_id, new.volume_id)
            if base_sequence is not None:
                await _require_base(connection, new, base_sequence)
            sequence = await _next_sequence(connection, new.project_id)
            stored = replace(new, sequence=sequence)
            await connection.execute(sa.insert(ANNOTATIONS).values(**_row_of(stored)))
            await _record(
                connection, sequence, Change(stored, Action.COMMITTED), stored.author, stored.create_time_us
            )
            await remember(connection, request, stored.id)
        return stored

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
            sequence = await _next_sequence(connection, project_id)
            after = made.annotation
            await connection.execute(
                sa.update(ANNOTATIONS)
                .where(ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.id == annotation_id)
                .values(state=after.state.value, review_comment=after.review_comment)
            )
            await _record(connection, sequence, made, author, now_us())
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
        query = sa.select(ANNOTATIONS).where(ANNOTATIONS.c.project_id == project_id)
        if volume_id:
            query = query.where(ANNOTATIONS.c.volume_id == volume_id)
        if states:
            query = query.where(ANNOTATIONS.c.state.in_([state.value for state in states]))
        if region is not None:
            query = query.where(*_overlapping(region))
        if sample:
            query = query.where(ANNOTATIONS.c.sample == sample)
        if page.after is not None:
            query = query.where(ANNOTATIONS.c.sequence > int(page.after))
        query = query.order_by(ANNOTATIONS.c.sequence).limit(page.size + 1)
        async with self._database.read() as connection:
            if volume_id:
                await require_volume(connection, project_id, volume_id)
            found = [_annotation(row) for row in (await connection.execute(query)).all()]
        items = found[: page.size]
        return Page(items, page.next_token(items[-1].sequence) if len(found) > page.size else "")

    async def holding(
        self, project_id: str, volume_id: str, region: Region | None = None
    ) -> Sequence[Annotation]:
        """The annotations of a volume that hold, in order; only those that overlap `region` when given."""
        query = (
            sa.select(ANNOTATIONS)
            .where(ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.volume_id == volume_id)
            .where(ANNOTATIONS.c.state.in_(HOLDING))
            .order_by(ANNOTATIONS.c.sequence)
        )
        if region is not None:
            query = query.where(*_overlapping(region))
        async with self._database.read() as connection:
            return [_annotation(row) for row in (await connection.execute(query)).all()]

    async def records(self, project_id: str, after: int, limit: int, volume_id: str = "") -> Sequence[Record]:
        """At most `limit` records after number `after`, in order; each with its annotation as it is now."""
        query = (
            sa.select(RECORDS.c.sequence.label("record_sequence"), *_RECORD_COLUMNS, ANNOTATIONS)
            .join(
                ANNOTATIONS,
                sa.and_(
                    ANNOTATIONS.c.project_id == RECORDS.c.project_id,
                    ANNOTATIONS.c.id == RECORDS.c.annotation_id,
                ),
            )
            .where(RECORDS.c.project_id == project_id, RECORDS.c.sequence > after)
            .order_by(RECORDS.c.sequence)
            .limit(limit)
        )
        if volume_id:
            query = query.where(RECORDS.c.volume_id == volume_id)
        async with self._database.read() as connection:
            return [_record_of(row) for row in (await connection.execute(query)).all()]

    async def keys(self, project_id: str) -> frozenset[str]:
        """Keys of all label blocks that a record refers to."""
        query = sa.select(ANNOTATIONS.c.key).where(ANNOTATIONS.c.project_id == project_id)
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())


_RECORD_COLUMNS = [
    RECORDS.c[name].label(f"record_{name}")
    for name in ("action", "accepted", "comment", "author", "create_time_us")
]


async def _next_sequence(connection: AsyncConnection, project_id: str) -> int:
    statement = (
        sa.update(PROJECTS)
        .where(PROJECTS.c.id == project_id)
        .values(last_sequence=PROJECTS.c.last_sequence + 1)
        .returning(PROJECTS.c.last_sequence)
    )
    return int((await connection.execute(statement)).scalar_one())


async def _record(
    connection: AsyncConnection, sequence: int, change: Change, author: str, create_time_us: int
) -> None:
    annotation = change.annotation
    await connection.execute(
        sa.insert(RECORDS).values(
            project_id=annotation.project_id,
            sequence=sequence,
            volume_id=annotation.volume_id,
            annotation_id=annotation.id,
            action=change.action.value,
            accepted=change.accepted,
            comment=change.comment,
            author=author,
            create_time_us=create_time_us,
        )
    )
    key = (
        PROJECTIONS.c.project_id == annotation.project_id,
        PROJECTIONS.c.volume_id == annotation.volume_id,
    )
    wanted = await connection.execute(sa.update(PROJECTIONS).where(*key).values(wanted_sequence=sequence))
    if not wanted.rowcount:
        await connection.execute(
            sa.insert(PROJECTIONS).values(
                project_id=annotation.project_id,
                volume_id=annotation.volume_id,
                wanted_sequence=sequence,
                applied_sequence=0,
                owner="",
                lease_us=0,
            )
        )


async def _require_base(connection: AsyncConnection, new: Annotation, base: int) -> None:
    query = (
        sa.select(RECORDS.c.sequence, ANNOTATIONS.c.id)
        .join(
            ANNOTATIONS,
            sa.and_(
                ANNOTATIONS.c.project_id == RECORDS.c.project_id, ANNOTATIONS.c.id == RECORDS.c.annotation_id
            ),
        )
        .where(RECORDS.c.project_id == new.project_id, RECORDS.c.volume_id == new.volume_id)
        .where(RECORDS.c.sequence > base, *_overlapping(new.region))
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is not None:
        name = f"projects/{new.project_id}/volumes/{new.volume_id}/annotations/{row.id}"
        raise Conflict(
            "BASE_OUTDATED",
            f"{name} changed this region after record {base}, which you saw last; look at it and commit again",
            annotation=name,
            sequence=str(row.sequence),
        )


def _overlapping(region: Region) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    for axis, low, high in zip(_AXES, region.start, region.stop, strict=True):
        conditions += [ANNOTATIONS.c[f"start_{axis}"] < high, ANNOTATIONS.c[f"stop_{axis}"] > low]
    return conditions


async def _load(connection: AsyncConnection, project_id: str, annotation_id: str) -> Annotation:
    query = sa.select(ANNOTATIONS).where(
        ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.id == annotation_id
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _not_found(project_id, annotation_id)
    return _annotation(row)


def _not_found(project_id: str, annotation_id: str) -> NotFound:
    return NotFound(
        "ANNOTATION_NOT_FOUND", f"project {project_id!r} has no such annotation {annotation_id!r}"
    )


_PLAIN = (
    "project_id volume_id id sequence author create_time_us sample strategy model work_time_s labels_sha256 comment "
    "key review_comment"
).split()


def _row_of(annotation: Annotation) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(annotation, name) for name in _PLAIN}
    for edge in ("start", "stop"):
        for axis, value in zip(_AXES, getattr(annotation.region, edge), strict=True):
            row[f"{edge}_{axis}"] = value
    row["kind"], row["state"] = annotation.kind.value, annotation.state.value
    row["class_scope"] = list(annotation.class_scope)
    row["voxel_counts"] = {str(value): count for value, count in annotation.voxel_counts.items()}
    return row


def _annotation(row: Any) -> Annotation:
    return Annotation(
        **{name: getattr(row, name) for name in _PLAIN},
        region=Region(
            Index(row.start_z, row.start_y, row.start_x), Index(row.stop_z, row.stop_y, row.stop_x)
        ),
        kind=AnnotationKind(row.kind),
        state=AnnotationState(row.state),
        class_scope=tuple(row.class_scope),
        voxel_counts={int(value): count for value, count in row.voxel_counts.items()},
    )


def _record_of(row: Any) -> Record:
    return Record(
        sequence=row.record_sequence,
        action=Action(row.record_action),
        annotation=_annotation(row),
        accepted=row.record_accepted,
        comment=row.record_comment,
        author=row.record_author,
        create_time_us=row.record_create_time_us,
    )
