"""What was annotated, added up by the database: rows stay there, however many there are.

What its author has corrected since is not labelled, nor new, a second time. As a record, and as work, it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment_sampler.corrections import corrected
from biosegment_sampler.domain.annotation import AnnotationState
from biosegment_sampler.domain.progress import AuthorTally, Day, Labelled, Reviews, Tally, WorkTime
from biosegment_sampler.tables import annotation_table

_A = annotation_table.c
_HOLDING = _A.state.in_([state.value for state in AnnotationState if state.holds])
_DAY_S = 86_400
_MAX_DAYS = 366


async def tally(connection: AsyncConnection, project_id: str) -> Tally:
    """Of one project, but for its samples; `connection` is in a transaction that reads."""
    work = await _work(connection, project_id)
    new = sa.select(sa.func.count()).where(
        _A.project_id == project_id, _HOLDING, _A.in_latest_model.is_(False), sa.not_(corrected())
    )
    return Tally(
        labelled=await _labelled(connection, project_id),
        authors=await _authors(connection, project_id, work),
        days=await _days(connection, project_id),
        work=work.get("", WorkTime()),
        new_annotations=int(await connection.scalar(new) or 0),
    )


async def _labelled(connection: AsyncConnection, project_id: str) -> list[Labelled]:
    each = _voxels(connection)
    flat = sa.case((_A.z_stop - _A.z_start == 1, 1), else_=0).label("flat")
    value = sa.cast(each.c.key, sa.Integer).label("class_value")
    query = (
        sa.select(_A.author, _A.volume_id, flat, value, sa.func.count(), _sum(each.c.value))
        .select_from(annotation_table, each)
        .where(_A.project_id == project_id, _HOLDING, sa.not_(corrected()))
        .group_by(_A.author, _A.volume_id, "flat", "class_value")
    )
    return [
        Labelled(author, volume_id, bool(flat_), int(class_value), int(count), int(voxels))
        for author, volume_id, flat_, class_value, count, voxels in await connection.execute(query)
    ]


async def _authors(
    connection: AsyncConnection, project_id: str, work: Mapping[str, WorkTime]
) -> dict[str, AuthorTally]:
    states: dict[str, Counter[str]] = {}
    newest: dict[str, float] = {}
    query = (
        sa.select(_A.author, _A.state, sa.func.count(), sa.func.max(_A.created_at))
        .where(_A.project_id == project_id)
        .group_by(_A.author, _A.state)
    )
    for author, state, count, last in await connection.execute(query):
        states.setdefault(author, Counter())[state] = count
        newest[author] = max(newest.get(author, 0.0), last)
    answered = (
        sa.select(_A.author, sa.func.count(_A.sample_id.distinct()))
        .where(_A.project_id == project_id, _HOLDING, _A.sample_id != "")
        .group_by(_A.author)
    )
    samples = {author: count for author, count in await connection.execute(answered)}
    return {
        author: AuthorTally(
            Reviews(**{state.value: counts[state.value] for state in AnnotationState}),
            samples.get(author, 0),
            work.get(author, WorkTime()),
            newest[author],
        )
        for author, counts in states.items()
    }


async def _days(connection: AsyncConnection, project_id: str) -> list[Day]:
    # PostgreSQL rounds where SQLite cuts off: half a second at midnight.
    day = (sa.cast(_A.created_at, sa.BigInteger) // _DAY_S).label("day")
    own = (_A.project_id == project_id, _HOLDING)
    measured = sa.case((_A.work_time_s > 0, 1), else_=0)
    days = (
        sa.select(
            day,
            sa.func.count(),
            sa.func.count(_A.author.distinct()),
            _sum(measured),
            sa.func.sum(_A.work_time_s),
        )
        .where(*own)
        .group_by("day")
        .order_by(sa.desc("day"))
        .limit(_MAX_DAYS)
    )
    found = (await connection.execute(days)).all()
    if not found:
        return []
    each = _voxels(connection)
    labelled = (
        sa.select(day, _sum(each.c.value))
        .select_from(annotation_table, each)
        .where(*own, sa.not_(corrected()), _A.created_at >= (found[-1][0] * _DAY_S - 1))
        .group_by("day")
    )
    voxels = {number: int(count) for number, count in await connection.execute(labelled)}
    return [
        Day(number, count, voxels.get(number, 0), authors, WorkTime(int(timed), float(total_s)))
        for number, count, authors, timed, total_s in reversed(found)
    ]


async def _work(connection: AsyncConnection, project_id: str) -> dict[str, WorkTime]:
    """By author, and of all of them under ''."""
    found: dict[str, WorkTime] = {}
    for group in (_A.author, sa.literal_column("''", sa.String)):
        place = sa.func.row_number().over(partition_by=group, order_by=_A.work_time_s)
        many = sa.func.count().over(partition_by=group)
        ranked = (
            sa.select(group.label("author"), _A.work_time_s, place.label("place"), many.label("many")).where(
                _A.project_id == project_id, _HOLDING, _A.work_time_s > 0
            )
        ).subquery()
        is_middle = ranked.c.place.in_([(ranked.c.many + 1) // 2, (ranked.c.many + 2) // 2])
        query = sa.select(
            ranked.c.author,
            sa.func.count(),
            sa.func.sum(ranked.c.work_time_s),
            sa.func.avg(sa.case((is_middle, ranked.c.work_time_s))),
        ).group_by(ranked.c.author)
        for author, count, total_s, median_s in await connection.execute(query):
            found[author] = WorkTime(count, float(total_s), float(median_s))
    return found


def _voxels(connection: AsyncConnection) -> Any:
    """Rows of key and value of `voxel_counts`, joined with their annotation."""
    is_sqlite = connection.dialect.name == "sqlite"
    expand = sa.func.json_each if is_sqlite else sa.func.json_each_text
    return expand(_A.voxel_counts).table_valued("key", "value", name="each", joins_implicitly=True)


def _sum(value: Any) -> sa.Cast[Any]:
    """Of whole numbers; PostgreSQL's sums of them are decimals."""
    return sa.cast(sa.func.sum(sa.cast(value, sa.BigInteger)), sa.BigInteger)
