"""Projections in SQL: which records are in the annotations layers, and who may write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from biosegment.database import Database
from biosegment_datastore.clock import now_us
from biosegment_datastore.layer import ANNOTATIONS_LAYER
from biosegment_datastore.sql.layer import OLD_ATTEMPT_GRACE_US
from biosegment_datastore.sql.request import doom, lock_project, take
from biosegment_datastore.sql.tables import LAYERS, PROJECTIONS


@dataclass(frozen=True, slots=True)
class Projection:
    """How far the annotations layer of a volume is."""

    project_id: str
    volume_id: str
    wanted_sequence: int
    applied_sequence: int

    @property
    def is_current(self) -> bool:
        return self.applied_sequence >= self.wanted_sequence


class SqlProjections:
    """Claims and positions of projections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, project_id: str, volume_id: str) -> Projection | None:
        """None when nothing was ever annotated."""
        async with self._database.read() as connection:
            row = (
                await connection.execute(sa.select(PROJECTIONS).where(*_key(project_id, volume_id)))
            ).one_or_none()
        return None if row is None else _projection(row)

    async def behind(self) -> Sequence[Projection]:
        """Projections with records that are not applied."""
        query = sa.select(PROJECTIONS).where(PROJECTIONS.c.applied_sequence < PROJECTIONS.c.wanted_sequence)
        async with self._database.read() as connection:
            return [_projection(row) for row in (await connection.execute(query)).all()]

    async def claim(self, project_id: str, volume_id: str, owner: str, lease_s: float) -> Projection | None:
        """Become the only writer for `lease_s` seconds, or prolong that; None when another instance is."""
        free = sa.or_(
            PROJECTIONS.c.owner.in_(["", owner]),
            PROJECTIONS.c.lease_us < now_us(),
        )
        statement = (
            sa.update(PROJECTIONS)
            .where(*_key(project_id, volume_id), free)
            .values(owner=owner, lease_us=now_us() + int(lease_s * 1e6))
            .returning(PROJECTIONS)
        )
        async with self._database.write() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _projection(row)

    async def applied(
        self, project_id: str, volume_id: str, owner: str, before: int, sequence: int
    ) -> Projection | None:
        """Store the number of the last record that is in the layer, where it was `before`.

        None when the claim was lost, or somebody rewound the projection meanwhile. The claim is given back when
        nothing is left to do.
        """
        is_done = PROJECTIONS.c.wanted_sequence <= sequence
        statement = (
            sa.update(PROJECTIONS)
            .where(
                *_key(project_id, volume_id),
                PROJECTIONS.c.owner == owner,
                PROJECTIONS.c.applied_sequence == before,
            )
            .values(
                applied_sequence=sequence,
                owner=sa.case((is_done, ""), else_=PROJECTIONS.c.owner),
            )
            .returning(PROJECTIONS)
        )
        async with self._database.write() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _projection(row)

    async def rewind(self, project_id: str, volume_id: str, sequence: int) -> None:
        """Have all records after `sequence` applied again.

        A writer that lost its claim in mid-write may have laid older labels over those of the one who took over.
        """
        statement = (
            sa.update(PROJECTIONS)
            .where(*_key(project_id, volume_id), PROJECTIONS.c.applied_sequence > sequence)
            .values(applied_sequence=sequence)
        )
        async with self._database.write() as connection:
            await connection.execute(statement)

    async def release(self, project_id: str, volume_id: str, owner: str) -> None:
        """Let the next instance write."""
        statement = (
            sa.update(PROJECTIONS)
            .where(*_key(project_id, volume_id), PROJECTIONS.c.owner == owner)
            .values(owner="", lease_us=0)
        )
        async with self._database.write() as connection:
            await connection.execute(statement)

    async def release_all(self, owner: str) -> None:
        """Give back everything that an instance holds, at its end."""
        statement = sa.update(PROJECTIONS).where(PROJECTIONS.c.owner == owner).values(owner="", lease_us=0)
        async with self._database.write() as connection:
            await connection.execute(statement)

    async def replace(
        self, project_id: str, volume_id: str, owner: str, storage_key: str, attempt: int, sequence: int
    ) -> bool:
        """Switch the layer to a new attempt with the records up to `sequence`; False when outclaimed.

        Raises:
            Conflict: ATTEMPT_OUTDATED when the new attempt's prefix is reserved no longer.
        """
        key = (
            LAYERS.c.project_id == project_id,
            LAYERS.c.volume_id == volume_id,
            LAYERS.c.id == ANNOTATIONS_LAYER,
        )
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            mine = (
                sa.update(PROJECTIONS)
                .where(*_key(project_id, volume_id), PROJECTIONS.c.owner == owner)
                .values(applied_sequence=sequence)
            )
            if not (await connection.execute(mine)).rowcount:
                return False
            await connection.execute(sa.update(LAYERS).where(*key).values(attempt=attempt))
            await take(connection, f"{storage_key}/{attempt}")
            await doom(connection, f"{storage_key}/{attempt - 1}", now_us() + OLD_ATTEMPT_GRACE_US)
        return True


def _key(project_id: str, volume_id: str) -> tuple[Any, ...]:
    return (PROJECTIONS.c.project_id == project_id, PROJECTIONS.c.volume_id == volume_id)


def _projection(row: Any) -> Projection:
    return Projection(row.project_id, row.volume_id, row.wanted_sequence, row.applied_sequence)
