"""Numbers and times of annotation records. All run inside of a transaction that holds the project's lock."""

from __future__ import annotations

import sqlalchemy as sa

from biosegment_datastore.clock import now_us
from biosegment_datastore.sql.tables import PROJECTIONS, PROJECTS, RECORDS


def advance(connection: sa.Connection, project_id: str, count: int = 1) -> int:
    """Take the next `count` numbers of a project; returns the last of them."""
    statement = (
        sa.update(PROJECTS)
        .where(PROJECTS.c.id == project_id)
        .values(last_sequence=PROJECTS.c.last_sequence + count)
        .returning(PROJECTS.c.last_sequence)
    )
    return int((connection.execute(statement)).scalar_one())


def record_time_us(connection: sa.Connection, project_id: str) -> int:
    """The time of the next record: now, but after that of the last record, whatever the clocks of instances say.

    So what held at a moment is what follows from the records up to one number.
    """
    query = (
        sa.select(RECORDS.c.create_time_us)
        .where(RECORDS.c.project_id == project_id)
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    )
    last = (connection.execute(query)).scalar_one_or_none()
    return now_us() if last is None else max(now_us(), last + 1)


def want(connection: sa.Connection, project_id: str, volume_id: str, sequence: int) -> None:
    """Have the records of a volume up to a number applied to its annotations layer."""
    key = (PROJECTIONS.c.project_id == project_id, PROJECTIONS.c.volume_id == volume_id)
    wanted = connection.execute(sa.update(PROJECTIONS).where(*key).values(wanted_sequence=sequence))
    if not wanted.rowcount:
        connection.execute(
            sa.insert(PROJECTIONS).values(
                project_id=project_id,
                volume_id=volume_id,
                wanted_sequence=sequence,
                applied_sequence=0,
                owner="",
                lease_us=0,
            )
        )
