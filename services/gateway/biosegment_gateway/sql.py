"""Users and tokens in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from biosegment.auth import Limit
from biosegment.database import Database
from biosegment.errors import FailedPrecondition
from biosegment_gateway.domain import ApiToken, Credential, User
from biosegment_gateway.tables import tokens, users

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
                        create_time_us=to_us(user.create_time),
                    )
                )
        except IntegrityError:
            return False
        return True

    async def get_user(self, user_id: str) -> User | None:
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(users).where(users.c.user_id == user_id))).first()
        return user_of(row) if row else None

    async def update_user(
        self,
        user_id: str,
        display_name: str | None = None,
        is_admin: bool | None = None,
        disabled: bool | None = None,
    ) -> User | None:
        given = {"display_name": display_name, "is_admin": is_admin, "disabled": disabled}
        values = {name: value for name, value in given.items() if value is not None}
        # All administrators are locked: two of them must not take the right from each other.
        admins = sa.select(users).where(users.c.is_admin, ~users.c.disabled).order_by(users.c.user_id)
        async with self._database.write() as connection:
            rows = (await connection.execute(admins.with_for_update())).all()
            if values:
                change = sa.update(users).where(users.c.user_id == user_id).values(**values)
                await connection.execute(change)
            row = (await connection.execute(sa.select(users).where(users.c.user_id == user_id))).first()
            if row is None:
                return None
            if {each.user_id for each in rows} == {user_id} and (row.disabled or not row.is_admin):
                # Raising takes the change back.
                raise FailedPrecondition(
                    "LAST_ADMIN",
                    f"{user_id!r} is the last administrator who may sign in; make somebody else one first",
                )
        return user_of(row)

    async def list_users(self, after: str, limit: int) -> list[User]:
        query = sa.select(users).where(users.c.user_id > after).order_by(users.c.user_id).limit(limit)
        async with self._database.read() as connection:
            return [user_of(row) for row in await connection.execute(query)]

    async def add_token(self, token: ApiToken, secret_sha256: bytes) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.insert(tokens).values(
                    token_id=token.token_id,
                    user_id=token.user_id,
                    display_name=token.display_name,
                    secret_sha256=secret_sha256,
                    create_time_us=to_us(token.create_time),
                    expire_time_us=to_us(token.expire_time) if token.expire_time else None,
                    scopes=" ".join(map(str, token.limits)),
                )
            )

    async def find_credential(self, token_id: str) -> Credential | None:
        def find(connection: sa.Connection) -> Credential | None:
            row = connection.execute(sa.select(tokens).where(tokens.c.token_id == token_id)).first()
            if row is None:
                return None
            owner = connection.execute(sa.select(users).where(users.c.user_id == row.user_id)).one()
            return Credential(
                token_of(row), row.secret_sha256, row.revoke_time_us is not None, user_of(owner)
            )

        # Every caller is looked up every few seconds: one change of threads instead of half a dozen.
        return await self._database.read_at_once(find)

    async def list_tokens(self, user_id: str) -> list[ApiToken]:
        query = (
            sa.select(tokens)
            .where(tokens.c.user_id == user_id, tokens.c.revoke_time_us.is_(None))
            .order_by(tokens.c.token_id)
        )
        async with self._database.read() as connection:
            return [token_of(row) for row in await connection.execute(query)]

    async def revoke_token(self, user_id: str, token_id: str, time: datetime) -> bool:
        change = (
            sa.update(tokens)
            .where(
                tokens.c.user_id == user_id,
                tokens.c.token_id == token_id,
                tokens.c.revoke_time_us.is_(None),
            )
            .values(revoke_time_us=to_us(time))
        )
        async with self._database.write() as connection:
            return (await connection.execute(change)).rowcount == 1

    async def mark_used(self, uses: Mapping[str, datetime]) -> None:
        change = (
            sa.update(tokens)
            .where(tokens.c.token_id == sa.bindparam("used_id"))
            .values(last_use_time_us=sa.bindparam("used_us"))
        )
        rows = [{"used_id": token_id, "used_us": to_us(time)} for token_id, time in uses.items()]
        async with self._database.write() as connection:
            await connection.execute(change, rows)


def user_of(row: Any) -> User:
    """The user in a row of `users`."""
    return User(row.user_id, row.display_name, row.is_admin, row.disabled, from_us(row.create_time_us))


def token_of(row: Any) -> ApiToken:
    """The token in a row of `tokens`."""
    return ApiToken(
        token_id=row.token_id,
        user_id=row.user_id,
        display_name=row.display_name,
        create_time=from_us(row.create_time_us),
        expire_time=None if row.expire_time_us is None else from_us(row.expire_time_us),
        last_use_time=None if row.last_use_time_us is None else from_us(row.last_use_time_us),
        limits=tuple(map(Limit.parse, row.scopes.split())),
    )


def to_us(time: datetime) -> int:
    """As the tables keep a time."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_us(value: int) -> datetime:
    """The time that a table keeps."""
    return _EPOCH + timedelta(microseconds=value)
