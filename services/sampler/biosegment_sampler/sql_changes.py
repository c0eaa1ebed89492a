"""Which samples and annotations have changed since, in SQL.

Every transaction that changes some gets the next number of its project, which the rows keep. Transactions of a project
come one after the other, so that what is committed with a number is all there when a higher one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment_sampler import rows, tables
from biosegment_sampler.domain.annotation import AnnotationState
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.sample import SampleState
from biosegment_sampler.ports import Changes, LabelledRegion

_HOLDING = tuple(state.value for state in AnnotationState if state.holds)
_MARK_BATCH = 500
_SAMPLES, _ANNOTATIONS, _CHANGES = tables.samples.c, tables.annotation_table.c, tables.changes.c

# Every claim looks for changes. Putting a statement together takes as long as carrying it out, so that is done once.
_MINE: Final[sa.BindParameter[str]] = sa.bindparam("project_id")
_LAST: Final = sa.select(_CHANGES.number, _CHANGES.scores).where(_CHANGES.project_id == _MINE)
_LABELLED: Final = sa.select(
    _ANNOTATIONS.name,
    _ANNOTATIONS.volume_id,
    _ANNOTATIONS.state,
    _ANNOTATIONS.in_latest_model,
    *(_ANNOTATIONS[name] for name in tables.REGION_COLUMNS),
).where(_ANNOTATIONS.project_id == _MINE)
"""Only what is needed: there may be a hundred thousand."""
_CHANGED_SAMPLES: Final = sa.select(tables.samples).where(
    _SAMPLES.project_id == _MINE, _SAMPLES.change > sa.bindparam("after")
)
_CHANGED_LABELS: Final = _LABELLED.where(
    _ANNOTATIONS.change > sa.bindparam("after"), _ANNOTATIONS.change <= sa.bindparam("last")
)
_HELD_SAMPLES: Final = sa.select(tables.samples).where(
    _SAMPLES.project_id == _MINE, _SAMPLES.state.in_([SampleState.LEASED.value, SampleState.SKIPPED.value])
)
_HELD_LABELS: Final = _LABELLED.where(_ANNOTATIONS.state.in_(_HOLDING))
_DEALT: Final = sa.select(sa.func.count()).where(
    _SAMPLES.project_id == _MINE, _SAMPLES.first_change <= sa.bindparam("last"), _SAMPLES.dealt
)


class SqlChanges:
    """`ports.ChangeLog`."""

    def __init__(self, connection: AsyncConnection, project_id: str) -> None:
        self._connection = connection
        self._project_id = project_id
        self._number: int | None = None

    async def number(self) -> int:
        """The number of this transaction's changes."""
        if self._number is None:
            counting = _counting(self._connection.dialect.name)
            counted = await self._connection.execute(counting, {"project_id": self._project_id})
            self._number = int(counted.scalar_one())
        return self._number

    async def since(self, number: int | None) -> Changes:
        """What came after a change; with None what is held and labelled now, and the samples so far."""
        mine: dict[str, Any] = {"project_id": self._project_id}
        row = (await self._connection.execute(_LAST, mine)).one_or_none()
        last, scores = (int(row.number), int(row.scores)) if row is not None else (0, 0)
        if number is None:
            samples = await self._connection.execute(_HELD_SAMPLES, mine)
            labels = await self._connection.execute(_HELD_LABELS, mine)
            dealt = int(await self._connection.scalar(_DEALT, {**mine, "last": last}) or 0)
            found: Sequence[Any] = samples.mappings().all()
        elif last <= number:
            return Changes(last, scores)
        else:
            # PostgreSQL shows a reader later statements' commits too; those are left for the next time.
            between = {**mine, "after": number, "last": last}
            changed = (await self._connection.execute(_CHANGED_SAMPLES, between)).mappings().all()
            labels = await self._connection.execute(_CHANGED_LABELS, between)
            # What was made since has changed since, once or more.
            dealt = sum(row["dealt"] and number < row["first_change"] <= last for row in changed)
            found = [row for row in changed if row["change"] <= last]
        return Changes(last, scores, [rows.sample_from_row(row) for row in found], _labelled(labels), dealt)

    async def scores(self) -> int:
        """The number of the change that last touched score layers, 0 before the first."""
        row = (await self._connection.execute(_LAST, {"project_id": self._project_id})).one_or_none()
        return int(row.scores) if row is not None else 0

    async def note_scores(self) -> None:
        """Say that score layers change in this transaction."""
        number = await self.number()
        await self._connection.execute(
            sa.update(tables.changes).where(_CHANGES.project_id == self._project_id).values(scores=number)
        )

    async def set_latest_model(self, names: Sequence[str]) -> None:
        """Mark exactly these annotations as seen by the newest model; only those that differ are changed."""
        mine = _ANNOTATIONS.project_id == self._project_id
        marked = set(
            await self._connection.scalars(
                sa.select(_ANNOTATIONS.name).where(mine, _ANNOTATIONS.in_latest_model.is_(True))
            )
        )
        wanted = set(names)
        for differing, value in ((sorted(marked - wanted), False), (sorted(wanted - marked), True)):
            for first in range(0, len(differing), _MARK_BATCH):
                some = _ANNOTATIONS.name.in_(differing[first : first + _MARK_BATCH])
                await self._connection.execute(
                    sa.update(tables.annotation_table)
                    .where(mine, some)
                    .values(in_latest_model=value, change=await self.number())
                )


def _labelled(found: Iterable[Any]) -> list[LabelledRegion]:
    return [
        LabelledRegion(
            name,
            VolumeRegion(volume_id, rows.region_of(corners)),
            state in _HOLDING,
            in_latest_model,
        )
        for name, volume_id, state, in_latest_model, *corners in found
    ]


@cache
def _counting(dialect: str) -> Any:
    """Takes the next number of a project, and returns it."""
    insert: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(tables.changes).values(project_id=_MINE, number=1, scores=0)
    counted = statement.on_conflict_do_update(
        index_elements=["project_id"], set_={"number": _CHANGES.number + 1}
    )
    return counted.returning(_CHANGES.number)
