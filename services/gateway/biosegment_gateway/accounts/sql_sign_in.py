"""Sessions, passwords, tries to sign in and users of an identity provider in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from biosegment.database import Database
from biosegment_gateway.domain import Rule, Session, User
from biosegment_gateway.sql import from_us, to_us, token_of, user_of
from biosegment_gateway.tables import passwords, provider_users, sessions, sign_in_tries, tokens, users

_ATTEMPTS: Final = 5


class SqlSessions:
    """`SessionRows` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, key: str, user_id: str, token_id: str, create_time: datetime, expire_time: datetime
    ) -> None:
        row = sa.insert(sessions).values(
            secret_sha256=key,
            user_id=user_id,
            token_id=token_id or None,
            create_time_us=to_us(create_time),
            last_use_time_us=to_us(create_time),
            expire_time_us=to_us(expire_time),
        )
        async with self._database.write() as connection:
            await connection.execute(row)

    async def find(self, key: str) -> Session | None:
        async with self._database.read() as connection:
            query = sa.select(sessions).where(sessions.c.secret_sha256 == key)
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            owner = (await connection.execute(sa.select(users).where(users.c.user_id == row.user_id))).one()
            token = None
            if row.token_id is not None:
                begun_with = sa.select(tokens).where(tokens.c.token_id == row.token_id)
                token = (await connection.execute(begun_with)).one()
        if token is not None and token.revoke_time_us is not None:
            return None
        return Session(
            user_of(owner),
            token_of(token) if token is not None else None,
            from_us(row.create_time_us),
            from_us(row.last_use_time_us),
            from_us(row.expire_time_us),
        )

    async def remove(self, key: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(sessions).where(sessions.c.secret_sha256 == key))

    async def remove_of(self, user_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(sessions).where(sessions.c.user_id == user_id))

    async def remove_over(self, expired_at: datetime, unused_since: datetime) -> None:
        over = sa.or_(
            sessions.c.expire_time_us <= to_us(expired_at),
            sessions.c.last_use_time_us <= to_us(unused_since),
        )
        async with self._database.write() as connection:
            await connection.execute(sa.delete(sessions).where(over))

    async def mark_used(self, uses: Mapping[str, datetime]) -> None:
        change = (
            sa.update(sessions)
            .where(sessions.c.secret_sha256 == sa.bindparam("used_key"))
            .values(last_use_time_us=sa.bindparam("used_us"))
        )
        rows = [{"used_key": key, "used_us": to_us(time)} for key, time in uses.items()]
        async with self._database.write() as connection:
            await connection.execute(change, rows)


class SqlPasswords:
    """`PasswordRows` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, user_id: str) -> str | None:
        query = sa.select(passwords.c.hash).where(passwords.c.user_id == user_id)
        async with self._database.read() as connection:
            found: str | None = (await connection.execute(query)).scalar_one_or_none()
        return found

    async def put(self, user_id: str, password_hash: str, time: datetime) -> None:
        values = {"hash": password_hash, "change_time_us": to_us(time)}
        change = sa.update(passwords).where(passwords.c.user_id == user_id).values(**values)
        for attempt in range(_ATTEMPTS):
            try:
                async with self._database.write() as connection:
                    if (await connection.execute(change)).rowcount == 0:
                        await connection.execute(sa.insert(passwords).values(user_id=user_id, **values))
                return
            except IntegrityError:
                # Somebody else gave the first one in the same moment.
                if attempt == _ATTEMPTS - 1:
                    raise


class SqlTries:
    """`TryRows` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, subjects: Mapping[str, Rule], present: datetime, memory: timedelta) -> datetime:
        for attempt in range(_ATTEMPTS):
            try:
                async with self._database.write() as connection:
                    return await _begin_try(connection, subjects, present, memory)
            except IntegrityError:
                # The first try of a subject, twice in the same moment.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def forget(self, whole: Sequence[str], one: Sequence[str]) -> None:
        key = sign_in_tries.c.subject_sha256
        fewer = {"tries": sign_in_tries.c.tries - 1}
        async with self._database.write() as connection:
            await connection.execute(sa.delete(sign_in_tries).where(key.in_(list(whole))))
            await connection.execute(
                sa.update(sign_in_tries).where(key.in_(list(one)), sign_in_tries.c.tries > 0).values(**fewer)
            )


async def _begin_try(
    connection: Any, subjects: Mapping[str, Rule], present: datetime, memory: timedelta
) -> datetime:
    table = sign_in_tries
    await connection.execute(sa.delete(table).where(table.c.last_time_us <= to_us(present - memory)))
    # Locked in one order, so that two of them never wait for each other.
    query = (
        sa.select(table)
        .where(table.c.subject_sha256.in_(list(subjects)))
        .order_by(table.c.subject_sha256)
        .with_for_update()
    )
    known = {row.subject_sha256: row for row in (await connection.execute(query)).all()}
    open_us = max((row.open_time_us for row in known.values()), default=0)
    if open_us > to_us(present):
        return from_us(open_us)
    for key, rule in sorted(subjects.items()):
        tries = known[key].tries + 1 if key in known else 1
        values = {
            "tries": tries,
            "last_time_us": to_us(present),
            # None without a wait: the next one may have read an earlier clock.
            "open_time_us": to_us(present + rule.wait(tries)) if rule.wait(tries) else 0,
        }
        if key in known:
            change = sa.update(table).where(table.c.subject_sha256 == key).values(**values)
            await connection.execute(change)
        else:
            await connection.execute(sa.insert(table).values(subject_sha256=key, **values))
    return present


class SqlProviderUsers:
    """`ProviderUsers` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, issuer: str, subject: str) -> User | None:
        query = (
            sa.select(users)
            .join(provider_users, provider_users.c.user_id == users.c.user_id)
            .where(provider_users.c.issuer == issuer, provider_users.c.subject == subject)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return user_of(row) if row is not None else None

    async def has(self, user_id: str) -> bool:
        query = sa.select(sa.literal(1)).where(provider_users.c.user_id == user_id).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def link(self, issuer: str, subject: str, user_id: str, time: datetime) -> bool:
        row = sa.insert(provider_users).values(
            issuer=issuer, subject=subject, user_id=user_id, link_time_us=to_us(time)
        )
        try:
            async with self._database.write() as connection:
                await connection.execute(row)
        except IntegrityError:
            found = await self.find(issuer, subject)
            return found is not None and found.user_id == user_id
        return True
