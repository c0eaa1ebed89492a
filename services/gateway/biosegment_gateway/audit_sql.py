"""The audit log in SQL. The database itself refuses to change its rows; see migration 0004."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from biosegment.database import Database
from biosegment_gateway.domain import AuditEvent, AuditQuery
from biosegment_gateway.tables import audit_events, audit_retention

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SqlEvents:
    """`Events` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_events(self, events: Sequence[AuditEvent]) -> None:
        rows = [
            {
                "time_us": _to_us(event.time),
                "user_id": _text(event.user_id, 63),
                "action": _text(event.action, 200),
                "resource": _text(event.resource, 400),
                "outcome": event.outcome,
                "peer": _text(event.peer, 100),
            }
            for event in events
        ]
        async with self._database.write() as connection:
            await connection.execute(sa.insert(audit_events), rows)

    async def list_events(self, query: AuditQuery) -> list[AuditEvent]:
        columns = audit_events.c
        order = columns.sequence.asc() if query.oldest_first else columns.sequence.desc()
        statement = sa.select(audit_events).where(*_conditions(query)).order_by(order).limit(query.limit)
        async with self._database.read() as connection:
            return [
                AuditEvent(
                    time=_EPOCH + timedelta(microseconds=row.time_us),
                    user_id=row.user_id,
                    action=row.action,
                    resource=row.resource,
                    outcome=row.outcome,
                    peer=row.peer,
                    sequence=row.sequence,
                )
                for row in await connection.execute(statement)
            ]

    async def forget_events(self, end: datetime, limit: int) -> int:
        columns, end_us = audit_events.c, _to_us(end)
        oldest = (
            sa.select(columns.sequence)
            .where(columns.time_us < end_us)
            .order_by(columns.sequence)
            .limit(limit)
        )
        async with self._database.write() as connection:
            if (await connection.execute(oldest.limit(1))).first() is None:
                return 0
            allowed = await connection.execute(sa.select(sa.func.max(audit_retention.c.end_us)))
            if (allowed.scalar_one() or 0) < end_us:
                # The triggers ask this table which events may go.
                await connection.execute(
                    sa.insert(audit_retention).values(end_us=end_us, time_us=_to_us(datetime.now(UTC)))
                )
            gone = await connection.execute(sa.delete(audit_events).where(columns.sequence.in_(oldest)))
            return gone.rowcount


def _conditions(query: AuditQuery) -> list[sa.ColumnElement[bool]]:
    columns = audit_events.c
    found: list[sa.ColumnElement[bool]] = []
    if query.user_id:
        found.append(columns.user_id == _text(query.user_id))
    if query.resource:
        resource = _text(query.resource)
        below = columns.resource.startswith(f"{resource}/", autoescape=True)
        found.append(sa.or_(columns.resource == resource, below))
    if query.action:
        found.append(columns.action.icontains(_text(query.action), autoescape=True))
    if query.start is not None:
        found.append(columns.time_us >= _to_us(query.start))
    if query.end is not None:
        found.append(columns.time_us < _to_us(query.end))
    if query.before_sequence > 0:
        found.append(columns.sequence < query.before_sequence)
    if query.after_sequence > 0:
        found.append(columns.sequence > query.after_sequence)
    return found


def _text(value: str, length: int = 400) -> str:
    """What both databases can store: PostgreSQL knows no NUL, and neither lone surrogates."""
    return value[:length].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _to_us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
