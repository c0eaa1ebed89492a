from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher
from biosegment_gateway.accounts.password import MAX_BYTES, Passwords
from biosegment_gateway.accounts.sql_sign_in import SqlPasswords, SqlTries
from biosegment_gateway.accounts.tries import Tries
from biosegment_gateway.domain import User

from biosegment.errors import InvalidArgument, ResourceExhausted, Unauthenticated

GOOD = "correct horse battery"
HERE = "192.0.2.1"


@pytest.fixture
async def rows(accounts, database, clock):
    for name in ("ann", "bob", "eve"):
        await accounts.add_user(User(name, "", False, False, clock()))
    return SqlPasswords(database)


@pytest.fixture
async def passwords(rows, database, clock):
    # As weak as it can be: strength costs a tenth of a second each time.
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    found = Passwords(rows, Tries(SqlTries(database), clock), clock, hasher)
    await found.set("ann", GOOD)
    yield found
    found.close()


async def refusal(passwords, user, password, address=HERE):
    with pytest.raises((Unauthenticated, ResourceExhausted)) as caught:
        await passwords.check(user, password, address)
    return caught.value


async def test_the_right_password_and_no_other_is_taken(passwords):
    await passwords.check("ann", GOOD, HERE)
    for wrong in ("", GOOD + " ", GOOD.upper(), GOOD[:-1], "x" * 100_000, "\ud800", GOOD + "\x00"):
        assert (
            await refusal(passwords, "ann", wrong, address=f"192.0.2.{len(wrong) % 250}")
        ).reason == "BAD_LOGIN"


async def test_the_answer_does_not_tell_whether_there_is_a_user(passwords):
    errors = [
        await refusal(passwords, user, "wrong password", f"198.51.100.{i}")
        for i, user in enumerate(("ann", "bob", "nobody", "", "No Id", "a\x00b", "\ud800", "x" * 10_000))
    ]
    assert len({(error.reason, error.message) for error in errors}) == 1


async def test_who_does_not_exist_has_to_wait_as_well(passwords):
    waits = {}
    for user in ("ann", "nobody"):
        reasons = [(await refusal(passwords, user, "wrong password", "203.0.113.9")).reason for _ in range(7)]
        waits[user] = reasons
    assert waits["ann"] == ["BAD_LOGIN"] * 5 + ["TOO_MANY_TRIES"] * 2
    assert waits["nobody"] == waits["ann"]


async def test_the_wait_grows_and_ends(passwords, clock):
    for _ in range(5):
        await refusal(passwords, "ann", "wrong password")
    waits = []
    for _ in range(6):
        error = await refusal(passwords, "ann", GOOD)
        assert error.reason == "TOO_MANY_TRIES"
        waits.append(int(error.metadata["retry_after_s"]))
        clock.forward(seconds=waits[-1])
        await refusal(passwords, "ann", "wrong password")
    assert waits == sorted(waits)
    assert waits[-1] > 16 * waits[0] / 2
    clock.forward(seconds=int((await refusal(passwords, "ann", GOOD)).metadata["retry_after_s"]))
    await passwords.check("ann", GOOD, HERE)
    await passwords.check("ann", GOOD, HERE)


async def test_who_knows_the_password_elsewhere_is_not_locked_out(passwords):
    for _ in range(6):
        await refusal(passwords, "ann", "wrong password")
    await passwords.check("ann", GOOD, "198.51.100.7")


async def test_guessing_from_many_addresses_is_slow_too(passwords):
    errors = [await refusal(passwords, "ann", "wrong password", f"192.0.2.{i}") for i in range(31)]
    assert errors[29].reason == "BAD_LOGIN"
    assert errors[30].reason == "TOO_MANY_TRIES"
    assert int(errors[30].metadata["retry_after_s"]) <= 60


async def test_guessing_for_many_users_from_one_address_is_slow_too(passwords):
    reasons = [(await refusal(passwords, f"user-{i}", "wrong password")).reason for i in range(31)]
    assert reasons == ["BAD_LOGIN"] * 30 + ["TOO_MANY_TRIES"]
    assert (await refusal(passwords, "ann", GOOD)).reason == "TOO_MANY_TRIES"


async def test_the_addresses_of_one_customer_are_one(passwords):
    reasons = [(await refusal(passwords, "ann", "wrong", f"2001:db8::{i:x}")).reason for i in range(6)]
    assert reasons[-1] == "TOO_MANY_TRIES"
    assert (await refusal(passwords, "ann", "wrong", "2001:db8:0:1::1")).reason == "BAD_LOGIN"


async def test_many_guesses_at_once_are_no_more_than_one_after_the_other(passwords):
    answers = await asyncio.gather(*(refusal(passwords, "ann", f"guess {i}") for i in range(20)))
    assert sum(error.reason == "BAD_LOGIN" for error in answers) == 5


async def test_gateways_whose_clocks_differ_refuse_no_try_that_is_free(passwords, rows, database, clock):
    # One reads its clock, another is faster; the first one's try comes in with the earlier time.
    earlier = clock()
    clock.forward(seconds=3)
    others = Passwords(rows, Tries(SqlTries(database), lambda: earlier))
    for each in (passwords, others, passwords, others, passwords):
        assert (await refusal(each, "ann", "wrong password")).reason == "BAD_LOGIN"
    assert (await refusal(others, "ann", "wrong password")).reason == "TOO_MANY_TRIES"
    others.close()


async def test_tries_survive_a_restart_and_are_forgotten_in_time(passwords, rows, database, clock):
    for _ in range(5):
        await refusal(passwords, "ann", "wrong password")
    again = Passwords(rows, Tries(SqlTries(database), clock), clock)
    assert (await refusal(again, "ann", GOOD)).reason == "TOO_MANY_TRIES"
    clock.forward(hours=2)
    await passwords.check("ann", GOOD, HERE)
    again.close()


@pytest.mark.parametrize("bad", ["", "short", "aaaaaaaaaaaaaaa", "abcabcabcabcabc"])
async def test_weak_passwords_are_refused(passwords, bad):
    with pytest.raises(InvalidArgument) as caught:
        await passwords.set("bob", bad)
    assert caught.value.reason == "WEAK_PASSWORD"
    assert not await passwords.has("bob")


async def test_a_password_has_an_end_and_unicode_counts_the_same_however_it_is_typed(passwords):
    with pytest.raises(InvalidArgument, match="bytes"):
        await passwords.set("bob", "abcdefgh" * (MAX_BYTES // 8 + 1))
    await passwords.set("bob", "u\u0308ber alle Berge")
    await passwords.check("bob", "\u00fcber alle Berge", HERE)


async def test_hashes_are_argon2id_and_grow_with_the_times(rows, database, clock, passwords):
    assert (await rows.get("ann")).startswith("$argon2id$")
    stronger = Passwords(
        rows,
        Tries(SqlTries(database), clock),
        clock,
        PasswordHasher(time_cost=2, memory_cost=16, parallelism=1),
    )
    before = await rows.get("ann")
    await stronger.check("ann", GOOD, HERE)
    after = await rows.get("ann")
    assert before != after
    assert "m=16,t=2" in after
    stronger.close()


async def test_verification_leaves_the_event_loop_to_others(rows, database, clock):
    slow = Passwords(
        rows,
        Tries(SqlTries(database), clock),
        clock,
        PasswordHasher(time_cost=1, memory_cost=32_768, parallelism=1),
    )
    checking = asyncio.create_task(refusal(slow, "ann", "wrong password"))
    turns = 0
    while not checking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 3
    slow.close()
