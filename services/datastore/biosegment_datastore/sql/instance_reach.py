"""Which edits of objects have to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.errors import Conflict
from biosegment_datastore.instances.edit import Edit, EditKind, Step
from biosegment_datastore.layer import Layer
from biosegment_datastore.sql.instance_row import AT_ONCE, edit_of, region_of, rows_of
from biosegment_datastore.sql.tables import INSTANCE_EDIT_IDS, INSTANCE_EDITS


async def reached(connection: AsyncConnection, owner: Layer | Edit, step: Step) -> set[int]:
    """The objects that may have other voxels when a step is taken back, apart from those that it speaks of.

    What it speaks of may have been merged or split since: then the objects of today change. A split counts wherever it
    was, as nobody looks at voxels here.
    """
    reached = set(step.touched)
    if step.kind is EditKind.REASSIGN:
        # Below its voxels are parts of the objects that lost them, which may have been taken apart again.
        await _follow(connection, owner, reached, INSTANCE_EDITS.c.sequence < step.sequence, _merged)
    still_holds = sa.and_(INSTANCE_EDITS.c.sequence > step.sequence, INSTANCE_EDITS.c.revert_time_us == 0)
    await _follow(connection, owner, reached, still_holds, _became)
    return reached - step.touched


def _merged(ids: Collection[int], step: Step) -> Collection[int]:
    return step.ids if step.kind is EditKind.MERGE and step.target in ids else ()


def _became(ids: Collection[int], step: Step) -> Collection[int]:
    if step.kind is EditKind.SPLIT:
        return step.new_ids if step.ids[0] in ids else ()
    return (step.target,)


async def _follow(
    connection: AsyncConnection,
    owner: Layer | Edit,
    ids: set[int],
    where: sa.ColumnElement[bool],
    leads_to: Callable[[Collection[int], Step], Collection[int]],
) -> None:
    """Add to `ids` where the merges and splits that name them lead, and so on."""
    fresh = sorted(ids)
    while fresh:
        found: set[int] = set()
        for start in range(0, len(fresh), AT_ONCE):
            sequences = sa.select(INSTANCE_EDIT_IDS.c.sequence).where(
                *rows_of(INSTANCE_EDIT_IDS, owner),
                INSTANCE_EDIT_IDS.c.instance.in_(fresh[start : start + AT_ONCE]),
            )
            query = sa.select(INSTANCE_EDITS).where(
                *rows_of(INSTANCE_EDITS, owner),
                INSTANCE_EDITS.c.kind.in_((EditKind.MERGE.value, EditKind.SPLIT.value)),
                INSTANCE_EDITS.c.sequence.in_(sequences),
                where,
            )
            for row in (await connection.execute(query)).all():
                found.update(leads_to(ids, edit_of(row).step))
        fresh = sorted(found - ids)
        ids |= found


async def newest_touching(
    connection: AsyncConnection, owner: Layer | Edit, step: Step, base_sequence: int
) -> int:
    """Number of the last edit after `base_sequence` that has to do with a step; 0 when there is none."""
    newer: list[int] = []
    touched = sorted(step.touched)
    for start in range(0, len(touched), AT_ONCE):
        query = sa.select(sa.func.max(INSTANCE_EDIT_IDS.c.sequence)).where(
            *rows_of(INSTANCE_EDIT_IDS, owner),
            INSTANCE_EDIT_IDS.c.sequence > base_sequence,
            INSTANCE_EDIT_IDS.c.instance.in_(touched[start : start + AT_ONCE]),
        )
        newer.append((await connection.execute(query)).scalar_one_or_none() or 0)
    if step.kind is EditKind.REASSIGN and step.region is not None:
        # Background has no id, so that two who give the same voxels of it away are known by the place.
        kinds = EditKind.REASSIGN.value, EditKind.REVERT.value
        regions = sa.select(INSTANCE_EDITS.c.sequence, INSTANCE_EDITS.c.region).where(
            *rows_of(INSTANCE_EDITS, owner),
            INSTANCE_EDITS.c.sequence > base_sequence,
            INSTANCE_EDITS.c.kind.in_(kinds),
        )
        for sequence, box in (await connection.execute(regions)).all():
            if box is not None and region_of(box).overlaps(step.region):
                newer.append(sequence)
    return max(newer, default=0)


async def require_base(
    connection: AsyncConnection, owner: Layer | Edit, step: Step, base_sequence: int
) -> None:
    """Raise Conflict BASE_OUTDATED when an edit after `base_sequence` has to do with a step."""
    if last := await newest_touching(connection, owner, step, base_sequence):
        query = sa.select(INSTANCE_EDITS).where(
            *rows_of(INSTANCE_EDITS, owner), INSTANCE_EDITS.c.sequence == last
        )
        other = edit_of((await connection.execute(query)).one())
        raise Conflict(
            "BASE_OUTDATED",
            f"{other.name} of {other.author} changed these objects after edit {base_sequence}, which you saw last; "
            "look at them and edit again",
            edit=other.name,
            sequence=str(last),
        )
