"""Users, tokens and the audit log in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from biosegment.database import Database
from biosegment_gateway.domain import ApiToken, AuditEvent, Credential, User
from biosegment_gateway.tables import audit_events, tokens, users

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SqlAccounts:
    """`Accounts` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_user(self, user: User) -> bool:
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    sa.insert(users).values(
                        user_id=user.user_id,
                        display_name=user.display_name,
                        is_admin=user.is_admin,
                        disabled=user.disabled,
                        create_time_us=_to_us(user.create_time),
                    )
                )
        except IntegrityError:
            return False
        return True

    async def get_user(self, user_id: str) -> User | None:
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(users).where(users.c.user_id == user_id))).first()
        return _user(row) if row else None

    async def list_users(self, after: str, limit: int) -> list[User]:
        query = sa.select(users).where(users.c.user_id > after).order_by(users.c.user_id).limit(limit)
        async with self._database.read() as connection:
            return [_user(row) for row in await connection.execute(query)]

    async def add_token(self, token: ApiToken, secret_sha256: bytes) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.insert(tokens).values(
                    token_id=token.token_id,
                    user_id=token.user_id,
                    display_name=token.display_name,
                    secret_sha256=secret_sha256,
                    create_time_us=_to_us(token.create_time),
                    expire_time_us=_to_us(token.expire_time) if token.expire_time else None,
                )
            )

    async def find_credential(self, token_id: str) -> Credential | None:
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(tokens).where(tokens.c.token_id == token_id))).first()
            if row is None:
                return None
            owner = (await connection.execute(sa.select(users).where(users.c.user_id == row.user_id))).one()
        return Credential(_token(row), row.secret_sha256, row.revoke_time_us is not None, _user(owner))

    async def list_tokens(self, user_id: str) -> list[ApiToken]:
        query = (
            sa.select(tokens)
            .where(tokens.c.user_id == user_id, tokens.c.revoke_time_us.is_(None))
            .order_by(tokens.c.token_id)
        )
        async with self._database.read() as connection:
            return [_token(row) for row in await connection.execute(query)]

    async def revoke_token(self, user_id: str, token_id: str, time: datetime) -> bool:
        change = (
            sa.update(tokens)
            .where(
                tokens.c.user_id == user_id,
                tokens.c.token_id == token_id,
                tokens.c.revoke_time_us.is_(None),
            )
            .values(revoke_time_us=_to_us(time))
        )
        async with self._database.write() as connection:
            return (await connection.execute(change)).rowcount == 1

    async def mark_used(self, uses: Mapping[str, datetime]) -> None:
        change = (
            sa.update(tokens)
            .where(tokens.c.token_id == sa.bindparam("used_id"))
            .values(last_use_time_us=sa.bindparam("used_us"))
        )
        rows = [{"used_id": token_id, "used_us": _to_us(time)} for token_id, time in uses.items()]
        async with self._database.write() as connection:
            await connection.execute(change, rows)


class SqlEvents:
    """`Events` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_events(self, events: Sequence[AuditEvent]) -> None:
        rows = [
            {
                "time_us": _to_us(event.time),
                "user_id": event.user_id,
                "action": event.action[:200],
                "resource": event.resource[:400],
                "outcome": event.outcome,
                "peer": event.peer[:100],
            }
            for event in events
        ]
        async with self._database.write() as connection:
            await connection.execute(sa.insert(audit_events), rows)

    async def list_events(self, before_sequence: int, limit: int) -> list[AuditEvent]:
        query = sa.select(audit_events).order_by(audit_events.c.sequence.desc()).limit(limit)
        if before_sequence > 0:
            query = query.where(audit_events.c.sequence < before_sequence)
        async with self._database.read() as connection:
            return [
                AuditEvent(
                    time=_from_us(row.time_us),
                    user_id=row.user_id,
                    action=row.action,
                    resource=row.resource,
                    outcome=row.outcome,
                    peer=row.peer,
                    sequence=row.sequence,
                )
                for row in await connection.execute(query)
            ]


def _user(row: Any) -> User:
    return User(row.user_id, row.display_name, row.is_admin, row.disabled, _from_us(row.create_time_us))


def _token(row: Any) -> ApiToken:
    return ApiToken(
        token_id=row.token_id,
        user_id=row.user_id,
        display_name=row.display_name,
        create_time=_from_us(row.create_time_us),
        expire_time=None if row.expire_time_us is None else _from_us(row.expire_time_us),
        last_use_time=None if row.last_use_time_us is None else _from_us(row.last_use_time_us),
    )


def _to_us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _from_us(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)
