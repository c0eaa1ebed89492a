"""What signing in asks of PostgreSQL, where many gateways write at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from argon2 import PasswordHasher
from biosegment_gateway.accounts.password import Passwords
from biosegment_gateway.accounts.session import Sessions
from biosegment_gateway.accounts.sql_sign_in import SqlPasswords, SqlProviderUsers, SqlSessions, SqlTries
from biosegment_gateway.accounts.tries import Tries
from biosegment_gateway.clock import now
from biosegment_gateway.domain import User
from biosegment_gateway.sql import SqlAccounts

from biosegment.database import Database, migrate
from biosegment.errors import BiosegmentError, FailedPrecondition, Unauthenticated
from tests.servers import PostgresServer, postgres_server

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

GOOD = "correct horse battery"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as found:
        yield found


@pytest.fixture
async def replicas(server: PostgresServer, request: pytest.FixtureRequest) -> AsyncIterator[list[Database]]:
    """Four gateways' databases, which are one, with two administrators and a user in it."""
    name = request.node.name[:60]
    server.create_database(name)
    url = server.url(name).replace("postgresql://", "postgresql+psycopg://")
    await asyncio.to_thread(migrate, url, "biosegment_gateway")
    found = [Database.open(url) for _ in range(4)]
    for user, is_admin in (("ann", False), ("root", True), ("toor", True)):
        await SqlAccounts(found[0]).add_user(User(user, "", is_admin, False, now()))
    yield found
    for database in found:
        await database.close()


async def test_guessing_at_many_gateways_at_once_is_no_way_around_the_wait(replicas: list[Database]) -> None:
    # As weak as it can be: strength costs a tenth of a second each time.
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    doors = [Passwords(SqlPasswords(each), Tries(SqlTries(each), now), now, hasher) for each in replicas]
    await doors[0].set("ann", GOOD)

    async def guess(number: int) -> str:
        try:
            await doors[number % len(doors)].check("ann", f"guess {number}", "192.0.2.1")
        except BiosegmentError as error:
            return error.reason
        return "OK"

    reasons = await asyncio.gather(*(guess(number) for number in range(20)))
    # Of 20 some may come after the first waits of seconds; all waits together take days.
    assert set(reasons) == {"BAD_LOGIN", "TOO_MANY_TRIES"}
    assert 5 <= reasons.count("BAD_LOGIN") <= 12
    await doors[1].check("ann", GOOD, "198.51.100.7")
    for door in doors:
        door.close()


async def test_of_two_administrators_who_remove_each_other_one_stays(replicas: list[Database]) -> None:
    for _ in range(5):
        answers = await asyncio.gather(
            SqlAccounts(replicas[0]).update_user("root", is_admin=False),
            SqlAccounts(replicas[1]).update_user("toor", disabled=True),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, FailedPrecondition)]
        assert [error.reason for error in refused] == ["LAST_ADMIN"]
        left = [user for user in await SqlAccounts(replicas[2]).list_users("", 10) if user.is_admin]
        assert sum(not user.disabled for user in left) == 1
        for name in ("root", "toor"):
            await SqlAccounts(replicas[3]).update_user(name, is_admin=True, disabled=False)


async def test_a_session_of_one_gateway_is_one_of_all(replicas: list[Database]) -> None:
    first, second = (Sessions(SqlSessions(each), remember_s=0.0) for each in replicas[:2])
    secret = await first.begin("ann")
    assert (await second.principal(secret)).user == "ann"
    await second.end_all("ann")
    with pytest.raises(Unauthenticated):
        await first.principal(secret)


async def test_of_two_first_sign_ins_in_the_same_moment_both_find_the_same_user(
    replicas: list[Database],
) -> None:
    links = [SqlProviderUsers(each) for each in replicas]
    answers = await asyncio.gather(*(each.link("https://lab", "u-1", "ann", now()) for each in links))
    assert answers == [True] * 4
    assert not await links[0].link("https://lab", "u-2", "ann", now())
    found = await links[1].find("https://lab", "u-1")
    assert found is not None
    assert found.user_id == "ann"
