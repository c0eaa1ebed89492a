"""Leases that somebody took over, or that their holders gave back, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from biosegment.database import Database
from biosegment.errors import FailedPrecondition
from biosegment_datastore.sql.request import project_not_found
from biosegment_datastore.sql.tables import ENDED_LEASES, PROJECTS


@dataclass(frozen=True, slots=True)
class EndedLease:
    """Leases of a sample below a number are over: `successor` took it over, or with '' its holder gave it back."""

    project_id: str
    sample: str
    term: int
    successor: str
    successor_name: str

    def require(self, term: int) -> None:
        """FailedPrecondition LEASE_TAKEN_OVER or LEASE_GIVEN_BACK when a lease with this number is over."""
        if term < self.term and not self.successor:
            raise FailedPrecondition(
                "LEASE_GIVEN_BACK",
                f"{self.sample} was given back or set aside since; resume it, or commit your labels as a region of "
                "your own choice, without the sample",
            )
        if term < self.term:
            raise FailedPrecondition(
                "LEASE_TAKEN_OVER",
                f"{self.successor_name or self.successor} took {self.sample} over; keep your labels as a draft, or "
                "commit them as a region of your own choice, without the sample",
                holder=self.successor,
            )


class SqlEndedLeases:
    """What the sampler said of leases; it stands in the way of commits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, lease: EndedLease) -> None:
        """Refuse older leases from now on; NotFound PROJECT_NOT_FOUND. The largest number ever put counts."""
        await self._database.write_at_once(lambda connection: _put(connection, lease))


def _put(connection: sa.Connection, lease: EndedLease) -> None:
    # Commits lock the project, too: each comes before this, or is refused.
    project = sa.select(PROJECTS.c.id).where(PROJECTS.c.id == lease.project_id).with_for_update()
    if connection.execute(project).one_or_none() is None:
        raise project_not_found(lease.project_id)
    table = ENDED_LEASES.c
    mine = sa.and_(table.project_id == lease.project_id, table.sample == lease.sample)
    known = connection.execute(sa.select(table.term).where(mine)).scalar_one_or_none()
    if known is not None and known >= lease.term:
        return
    connection.execute(sa.delete(ENDED_LEASES).where(mine))
    connection.execute(
        sa.insert(ENDED_LEASES).values(
            project_id=lease.project_id,
            sample=lease.sample,
            term=lease.term,
            successor=lease.successor,
            successor_name=lease.successor_name,
        )
    )


def ended_leases(
    connection: sa.Connection, project_id: str, samples: Collection[str]
) -> Mapping[str, EndedLease]:
    """Those of some samples, by the sample's name."""
    if not samples:
        return {}
    query = sa.select(ENDED_LEASES).where(
        ENDED_LEASES.c.project_id == project_id, ENDED_LEASES.c.sample.in_(samples)
    )
    return {
        row.sample: EndedLease(row.project_id, row.sample, row.term, row.successor, row.successor_name)
        for row in connection.execute(query)
    }
