"""What annotators have to do with each other, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment_sampler import rows, tables
from biosegment_sampler.corrections import corrected
from biosegment_sampler.domain.agreement import Comparison, Overlap
from biosegment_sampler.domain.annotation import Annotation, AnnotationState
from biosegment_sampler.domain.event import Event
from biosegment_sampler.domain.exhaustion import Counts
from biosegment_sampler.domain.lease import GRACE_S
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.review import Review
from biosegment_sampler.domain.sample import Sample, SampleState

_HOLDING = tuple(state.value for state in AnnotationState if state.holds)
_SAMPLES, _ANNOTATIONS = tables.samples.c, tables.annotation_table.c
_REVIEWS, _AGREEMENTS = tables.reviews.c, tables.agreements.c


class SqlRoom:
    """`ports.Room`."""

    def __init__(self, connection: AsyncConnection, project_id: str) -> None:
        self._connection = connection
        self._project_id = project_id

    async def resumable(self, user: str, ended_after: float) -> Sequence[Sample]:
        states = [SampleState.LEASED.value, SampleState.OPEN.value, SampleState.ANNOTATED.value]
        query = self._select(tables.samples).where(
            _SAMPLES.holder == user, _SAMPLES.state.in_(states), _SAMPLES.lease_expires_at > ended_after
        )
        return await self._samples(query.order_by(_SAMPLES.created_at, _SAMPLES.rank, _SAMPLES.sample_id))

    async def wanting_second(self, user: str, volumes: Collection[str], limit: int) -> Sequence[Sample]:
        author = sa.and_(
            _ANNOTATIONS.project_id == _SAMPLES.project_id, _ANNOTATIONS.name == _SAMPLES.annotation
        )
        # Also those whose time is over: they were looked at.
        reviewing = sa.select(_REVIEWS.annotation).where(
            _REVIEWS.project_id == self._project_id, _REVIEWS.holder == user
        )
        query = (
            self._select(tables.samples)
            .join(tables.annotation_table, author)
            .where(
                _SAMPLES.state == SampleState.ANNOTATED.value,
                _SAMPLES.wants_second.is_(True),
                _SAMPLES.authors == 1,
                _SAMPLES.flag_text == "",
                _SAMPLES.volume_id.in_(volumes),
                _ANNOTATIONS.author != user,
                _ANNOTATIONS.name.not_in(reviewing),
            )
        )
        return await self._samples(query.order_by(_SAMPLES.created_at, _SAMPLES.sample_id).limit(limit))

    async def held_by_others(self, place: VolumeRegion, user: str, now: float) -> Sequence[Sample]:
        query = self._select(tables.samples).where(
            _SAMPLES.state == SampleState.LEASED.value,
            _SAMPLES.holder != user,
            _SAMPLES.lease_expires_at + GRACE_S > now,
            *_overlapping(tables.samples, place),
        )
        return await self._samples(query)

    async def annotated_since(self, place: VolumeRegion, since: float) -> Sequence[Annotation]:
        query = self._select(tables.annotation_table).where(
            _ANNOTATIONS.state.in_(_HOLDING),
            _ANNOTATIONS.created_at >= since,
            *_overlapping(tables.annotation_table, place),
        )
        found = await self._all(query.order_by(_ANNOTATIONS.sequence))
        return [rows.annotation_from_row(row) for row in found]

    async def reviews(self, now: float) -> Sequence[Review]:
        mine = sa.and_(
            _REVIEWS.project_id == _ANNOTATIONS.project_id, _REVIEWS.annotation == _ANNOTATIONS.name
        )
        query = (
            sa.select(tables.annotation_table, *(column for column in _REVIEWS if column.key not in _SHARED))
            .join(tables.reviews, mine)
            .where(_ANNOTATIONS.project_id == self._project_id, _live(now))
            .order_by(_ANNOTATIONS.sequence)
        )
        return [
            Review(rows.annotation_from_row(row), rows.lease_from_row(row)) for row in await self._all(query)
        ]

    async def put_reviews(self, reviews: Iterable[Review]) -> None:
        new = list(reviews)
        await self.drop_reviews(each.annotation.name for each in new)
        if new:
            values = [
                {
                    "project_id": self._project_id,
                    "annotation": each.annotation.name,
                    **rows.lease_values(each.lease),
                }
                for each in new
            ]
            await self._connection.execute(sa.insert(tables.reviews), values)

    async def drop_reviews(self, annotations: Iterable[str]) -> None:
        names = list(annotations)
        if names:
            await self._connection.execute(
                sa.delete(tables.reviews).where(
                    _REVIEWS.project_id == self._project_id, _REVIEWS.annotation.in_(names)
                )
            )

    async def unreviewed(
        self, user: str, volumes: Collection[str], limit: int, now: float
    ) -> Sequence[Annotation]:
        query = self._unreviewed(sa.select(tables.annotation_table), user, volumes, now)
        found = await self._all(query.order_by(_ANNOTATIONS.sequence).limit(limit))
        return [rows.annotation_from_row(row) for row in found]

    async def count_unreviewed(self, user: str, volumes: Collection[str], now: float) -> int:
        counted = sa.select(sa.func.count()).select_from(tables.annotation_table)
        return int(await self._connection.scalar(self._unreviewed(counted, user, volumes, now)) or 0)

    async def counts(self, user: str, volumes: Collection[str], now: float) -> Counts:
        there = _SAMPLES.volume_id.in_(volumes)
        held = sa.select(_SAMPLES.holder, sa.func.count()).where(
            _SAMPLES.project_id == self._project_id,
            _SAMPLES.state == SampleState.LEASED.value,
            _SAMPLES.lease_expires_at + GRACE_S > now,
            there,
        )
        holders = await self._connection.execute(held.group_by(_SAMPLES.holder))
        skipped = sa.and_(_SAMPLES.state == SampleState.SKIPPED.value, _SAMPLES.flag_text == "")
        holding = [_ANNOTATIONS.state.in_(_HOLDING), _ANNOTATIONS.volume_id.in_(volumes)]
        return Counts(
            held={holder: count for holder, count in holders},
            skipped=await self._count(tables.samples, skipped, there),
            flagged=await self._count(tables.samples, _SAMPLES.flag_text != "", there),
            awaiting_review=await self.count_unreviewed("", volumes, now),
            reviewable=await self.count_unreviewed(user, volumes, now),
            annotations=await self._count(tables.annotation_table, *holding),
        )

    async def doubly_annotated(self, sample_id: str) -> Sequence[Annotation]:
        query = self._select(tables.annotation_table).where(
            _ANNOTATIONS.state.in_(_HOLDING), _ANNOTATIONS.sample_id.in_(self._doubly(sample_id))
        )
        found = await self._all(query.order_by(_ANNOTATIONS.sequence))
        return [rows.annotation_from_row(row) for row in found]

    async def events_of_doubly_annotated(self, sample_id: str) -> Mapping[str, Sequence[Event]]:
        query = sa.select(_SAMPLES.sample_id, _SAMPLES.events).where(
            _SAMPLES.project_id == self._project_id, _SAMPLES.sample_id.in_(self._doubly(sample_id))
        )
        return {row["sample_id"]: rows.events_from_row(row) for row in await self._all(query)}

    async def comparisons(self) -> Mapping[tuple[str, str], Comparison]:
        found = await self._all(self._select(tables.agreements))
        return {(row["first"], row["second"]): _comparison(row) for row in found}

    async def put_comparisons(self, comparisons: Mapping[tuple[str, str], Comparison]) -> None:
        known = await self.comparisons()
        values = [
            {
                "project_id": self._project_id,
                "first": first,
                "second": second,
                "compared": each.compared,
                "agreed": each.agreed,
                "classes": {
                    str(value): [overlap.intersection, overlap.union]
                    for value, overlap in each.classes.items()
                },
            }
            for (first, second), each in comparisons.items()
            if (first, second) not in known
        ]
        if values:
            await self._connection.execute(sa.insert(tables.agreements), values)

    def _doubly(self, sample_id: str) -> sa.Select[Any]:
        """Ids of samples, or of this one, for which annotations of several annotators hold."""
        return (
            sa.select(_ANNOTATIONS.sample_id)
            .where(
                _ANNOTATIONS.project_id == self._project_id,
                _ANNOTATIONS.state.in_(_HOLDING),
                _ANNOTATIONS.sample_id == sample_id if sample_id else _ANNOTATIONS.sample_id != "",
            )
            .group_by(_ANNOTATIONS.sample_id)
            .having(sa.func.count(sa.distinct(_ANNOTATIONS.author)) > 1)
        )

    def concerns(self, user: str) -> sa.ColumnElement[bool]:
        """Condition: a sample that a user holds or last held, annotated, set aside or flagged."""
        answered = sa.select(_ANNOTATIONS.sample_id).where(
            _ANNOTATIONS.project_id == self._project_id,
            _ANNOTATIONS.author == user,
            _ANNOTATIONS.sample_id != "",
        )
        return sa.or_(
            _SAMPLES.holder == user,
            _SAMPLES.skipped_by == user,
            _SAMPLES.flag_user == user,
            _SAMPLES.sample_id.in_(answered),
        )

    def _unreviewed(
        self, query: sa.Select[Any], user: str, volumes: Collection[str], now: float
    ) -> sa.Select[Any]:
        taken = sa.select(_REVIEWS.annotation).where(_REVIEWS.project_id == self._project_id, _live(now))
        query = query.where(
            _ANNOTATIONS.project_id == self._project_id,
            _ANNOTATIONS.state == AnnotationState.PENDING.value,
            _ANNOTATIONS.sample_id != "",
            _ANNOTATIONS.volume_id.in_(volumes),
            _ANNOTATIONS.name.not_in(taken),
            sa.not_(corrected()),
        )
        if user:
            # Whoever is annotating a sample is not led by what somebody else made of it.
            holds = sa.select(_SAMPLES.sample_id).where(
                _SAMPLES.project_id == self._project_id,
                _SAMPLES.state == SampleState.LEASED.value,
                _SAMPLES.holder == user,
                _SAMPLES.lease_expires_at + GRACE_S > now,
            )
            query = query.where(_ANNOTATIONS.author != user, _ANNOTATIONS.sample_id.not_in(holds))
        return query

    async def _count(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).where(table.c.project_id == self._project_id, *conditions)
        return int(await self._connection.scalar(query) or 0)

    def _select(self, table: sa.Table) -> sa.Select[Any]:
        return sa.select(table).where(table.c.project_id == self._project_id)

    async def _all(self, query: sa.Select[Any]) -> Sequence[rows.Row]:
        found: Sequence[rows.Row] = (await self._connection.execute(query)).mappings().all()
        return found

    async def _samples(self, query: sa.Select[Any]) -> list[Sample]:
        return [rows.sample_from_row(row) for row in await self._all(query)]


_SHARED = ("project_id", "annotation")


def _overlapping(table: sa.Table, place: VolumeRegion) -> list[sa.ColumnElement[bool]]:
    """Conditions: a region of the table shares a voxel with a place."""
    start, stop = place.region.start, place.region.stop
    return [
        table.c.volume_id == place.volume_id,
        *(
            condition
            for axis in "zyx"
            for condition in (
                table.c[f"{axis}_start"] < getattr(stop, axis),
                table.c[f"{axis}_stop"] > getattr(start, axis),
            )
        ),
    ]


def _live(now: float) -> sa.ColumnElement[bool]:
    return _REVIEWS.lease_expires_at + GRACE_S > now


def _comparison(row: rows.Row) -> Comparison:
    classes = {int(value): Overlap(*counts) for value, counts in row["classes"].items()}
    return Comparison(row["compared"], row["agreed"], classes)
