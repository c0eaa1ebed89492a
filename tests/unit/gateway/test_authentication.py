from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.domain import ApiToken, User, digest, new_secret
from biosegment_gateway.tables import tokens

from biosegment.errors import Unauthenticated


@pytest.fixture
def authentication(accounts, clock):
    return Authentication(accounts, clock)


async def make_token(accounts, clock, *, lifetime=None, disabled=False, user_id="ann"):
    await accounts.add_user(User(user_id, "", False, disabled, clock()))
    token_id, secret = new_secret()
    expire_time = None if lifetime is None else clock() + lifetime
    await accounts.add_token(ApiToken(token_id, user_id, "", clock(), expire_time), digest(secret))
    return token_id, secret


async def refusal(authentication, secret):
    with pytest.raises(Unauthenticated) as caught:
        await authentication.of_token(secret)
    assert secret == "" or secret not in caught.value.message
    return caught.value.reason


async def test_a_token_says_who_calls(accounts, authentication, clock):
    _, secret = await make_token(accounts, clock)
    principal = await authentication.of_token(secret)
    assert (principal.user, principal.is_admin) == ("ann", False)


async def test_forged_tokens_are_refused(accounts, authentication, clock):
    token_id, secret = await make_token(accounts, clock)
    other = new_secret()[1]
    forged = [
        "",
        "bsg_",
        f"bsg_{token_id}_",
        f"bsg_{token_id}_{'0' * 64}",
        other,
        secret[:-1] + ("0" if secret[-1] != "0" else "1"),
        secret + "0",
        secret[:-1],
        secret.upper(),
        secret.replace("bsg_", "BSG_"),
        f" {secret}",
        f"{secret}\n",
    ]
    assert {await refusal(authentication, each) for each in forged} == {"BAD_TOKEN"}


async def test_a_token_ends_at_its_time(accounts, authentication, clock):
    _, secret = await make_token(accounts, clock, lifetime=timedelta(hours=1))
    clock.forward(minutes=59)
    await authentication.of_token(secret)
    clock.forward(minutes=1)
    assert await refusal(authentication, secret) == "TOKEN_EXPIRED"


async def test_a_revoked_token_is_refused_even_when_it_was_just_used(accounts, authentication, clock):
    token_id, secret = await make_token(accounts, clock)
    await authentication.of_token(secret)
    assert await accounts.revoke_token("ann", token_id, clock())
    authentication.forget(token_id)
    assert await refusal(authentication, secret) == "TOKEN_REVOKED"
    assert not await accounts.revoke_token("ann", token_id, clock())


async def test_a_token_that_another_replica_revoked_is_refused_soon(accounts, clock):
    authentication = Authentication(accounts, clock, lifetime_s=0.0)
    token_id, secret = await make_token(accounts, clock)
    await authentication.of_token(secret)
    await accounts.revoke_token("ann", token_id, clock())
    assert await refusal(authentication, secret) == "TOKEN_REVOKED"


async def test_disabled_users_may_not_sign_in(accounts, authentication, clock):
    _, secret = await make_token(accounts, clock, disabled=True)
    assert await refusal(authentication, secret) == "USER_DISABLED"


async def test_the_reason_is_told_only_to_those_who_know_the_secret(accounts, authentication, clock):
    token_id, _ = await make_token(accounts, clock, disabled=True)
    assert await refusal(authentication, f"bsg_{token_id}_{'0' * 64}") == "BAD_TOKEN"


async def test_the_last_use_is_kept_to_the_minute(accounts, authentication, clock):
    _, secret = await make_token(accounts, clock)
    await authentication.of_token(secret)
    await authentication.flush()
    first = clock()
    clock.forward(seconds=30)
    await authentication.of_token(secret)
    await authentication.flush()
    assert [token.last_use_time for token in await accounts.list_tokens("ann")] == [first]
    clock.forward(seconds=31)
    await authentication.of_token(secret)
    await authentication.flush()
    assert [token.last_use_time for token in await accounts.list_tokens("ann")] == [clock()]


async def test_no_secret_is_at_rest(accounts, database, clock, tmp_path):
    _, secret = await make_token(accounts, clock)
    async with database.read() as connection:
        assert (await connection.execute(sa.select(tokens.c.secret_sha256))).scalar_one() == digest(secret)
    for file in tmp_path.iterdir():
        assert secret[-64:].encode() not in file.read_bytes()
