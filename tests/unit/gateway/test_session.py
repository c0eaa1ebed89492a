from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.accounts.session import Sessions
from biosegment_gateway.accounts.sql_sign_in import SqlSessions
from biosegment_gateway.domain import ApiToken, User, digest, new_secret
from biosegment_gateway.tables import sessions as table

from biosegment.auth import Limit
from biosegment.errors import Unauthenticated

DAY_S = 86_400.0


@pytest.fixture
async def rows(accounts, database, clock):
    await accounts.add_user(User("ann", "Ann", False, False, clock()))
    return SqlSessions(database)


@pytest.fixture
def sessions(rows, clock):
    return make(rows, clock)


def make(rows, clock):
    return Sessions(rows, clock, idle_s=DAY_S, lifetime_s=7 * DAY_S)


async def refusal(sessions, secret):
    with pytest.raises(Unauthenticated) as caught:
        await sessions.principal(secret)
    return caught.value.reason


async def count(database):
    async with database.read() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()


async def test_a_session_says_who_it_is_after_a_restart_too(rows, sessions, clock):
    secret = await sessions.begin("ann")
    for each in (sessions, make(rows, clock)):
        principal = await each.principal(secret)
        assert (principal.user, principal.display_name, principal.is_whole) == ("ann", "Ann", True)


async def test_no_secret_is_at_rest(sessions, tmp_path):
    secret = await sessions.begin("ann")
    for file in tmp_path.iterdir():
        assert secret[-64:].encode() not in file.read_bytes()


@pytest.mark.parametrize("secret", ["", "bss_", "bss_" + "0" * 64, "x" * 5000, "bss_\x00"])
async def test_what_is_no_session_is_refused(sessions, secret):
    assert await refusal(sessions, secret) == "SESSION_OVER"


async def test_an_unused_session_ends_and_a_used_one_goes_on_until_its_latest_end(rows, sessions, clock):
    used, unused = await sessions.begin("ann"), await sessions.begin("ann")
    for _ in range(8):
        clock.forward(hours=20)
        await sessions.principal(used)
        await sessions.flush()
    assert await refusal(sessions, unused) == "SESSION_OVER"
    assert await refusal(make(rows, clock), unused) == "SESSION_OVER"
    clock.forward(hours=8)
    assert await refusal(sessions, used) == "SESSION_OVER"


async def test_sessions_that_are_over_are_removed(sessions, database, clock):
    await sessions.begin("ann")
    clock.forward(days=2)
    await sessions.begin("ann")
    assert await count(database) == 1


async def test_a_session_ends_at_once_and_the_others_go_on(sessions):
    first, second = await sessions.begin("ann"), await sessions.begin("ann")
    await sessions.principal(first)
    await sessions.end(first)
    await sessions.end(first)
    assert await refusal(sessions, first) == "SESSION_OVER"
    await sessions.principal(second)


async def test_all_sessions_of_a_user_end(sessions, accounts, clock):
    await accounts.add_user(User("bob", "", False, False, clock()))
    hers = [await sessions.begin("ann") for _ in range(2)]
    his = await sessions.begin("bob")
    for secret in hers:
        await sessions.principal(secret)
    await sessions.end_all("ann")
    assert {await refusal(sessions, secret) for secret in hers} == {"SESSION_OVER"}
    await sessions.principal(his)


async def test_disabled_users_lose_their_sessions(sessions, accounts):
    secret = await sessions.begin("ann")
    await sessions.principal(secret)
    await accounts.update_user("ann", disabled=True)
    sessions.forget()
    assert await refusal(sessions, secret) == "USER_DISABLED"


async def test_a_session_begun_with_a_token_may_do_no_more_and_lasts_no_longer(
    rows, accounts, clock, database
):
    sessions = make(rows, clock)
    authentication = Authentication(accounts, clock, sessions=sessions)
    limits = (Limit.parse("read:projects/p"),)
    made = {}
    for name, end in (("revoked", None), ("short", clock() + timedelta(hours=1))):
        token_id, secret = new_secret()
        await accounts.add_token(ApiToken(token_id, "ann", "", clock(), end, None, limits), digest(secret))
        made[name] = token_id, await sessions.begin("ann", token_id)
    for _, secret in made.values():
        assert (await authentication.of_token(secret)).limits == limits
    await accounts.revoke_token("ann", made["revoked"][0], clock())
    authentication.forget(made["revoked"][0])
    assert await refusal(sessions, made["revoked"][1]) == "SESSION_OVER"
    clock.forward(hours=1)
    assert await refusal(sessions, made["short"][1]) == "SESSION_OVER"


async def test_a_session_that_ends_while_it_is_looked_up_is_not_remembered(rows, clock):
    class Slow(SqlSessions):
        def __init__(self, database):
            super().__init__(database)
            self.found, self.go_on = asyncio.Event(), asyncio.Event()

        async def find(self, key):
            session = await super().find(key)
            self.found.set()
            await self.go_on.wait()
            return session

    slow = Slow(rows._database)
    sessions = make(slow, clock)
    secret = await sessions.begin("ann")
    looking = asyncio.create_task(sessions.principal(secret))
    await slow.found.wait()
    await sessions.end(secret)
    slow.go_on.set()
    await looking
    assert await refusal(sessions, secret) == "SESSION_OVER"
