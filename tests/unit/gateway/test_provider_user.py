from __future__ import annotations

import pytest
from biosegment_gateway.accounts.oidc_settings import OidcSettings
from biosegment_gateway.accounts.provider import Provider
from biosegment_gateway.accounts.provider_token import TokenCheck
from biosegment_gateway.accounts.provider_user import ProviderAccounts
from biosegment_gateway.accounts.sql_sign_in import SqlPasswords, SqlProviderUsers
from biosegment_gateway.domain import User

from biosegment.errors import PermissionDenied, Unauthenticated
from tests.unit.gateway.identity_provider import CLIENT, identity_provider

ANN = {"sub": "u-1", "preferred_username": "Ann.Smith@lab.org", "name": "Ann Smith"}


@pytest.fixture
def lab():
    with identity_provider() as found:
        yield found


@pytest.fixture
async def make_users(lab, accounts, database, clock):
    opened = []

    def make(**settings):
        chosen = OidcSettings(oidc_issuer=lab.issuer, oidc_client_id=CLIENT, **settings)
        opened.append(Provider(chosen))
        check = TokenCheck(opened[-1], chosen.oidc_audiences)
        return ProviderAccounts(
            chosen, check, accounts, SqlProviderUsers(database), SqlPasswords(database), clock
        )

    yield make
    for provider in opened:
        await provider.close()


async def refusal(call):
    with pytest.raises((Unauthenticated, PermissionDenied)) as caught:
        await call
    return caught.value.reason


async def test_a_user_is_made_at_the_first_sign_in_and_known_by_subject_from_then_on(
    lab, make_users, accounts
):
    users = make_users()
    principal = await users.principal(lab.token(**ANN))
    assert (principal.user, principal.display_name, principal.is_admin) == (
        "ann-smith-lab-org",
        "Ann Smith",
        False,
    )
    renamed = await users.principal(lab.token(sub="u-1", preferred_username="somebody-else"))
    assert renamed.user == "ann-smith-lab-org"
    without = await users.principal(lab.token(sub="u-1"))
    assert without.user == "ann-smith-lab-org"
    assert len(await accounts.list_users("", 10)) == 1


async def test_a_name_is_nobody_elses(lab, make_users):
    users = make_users()
    await users.principal(lab.token(**ANN))
    assert await refusal(users.principal(lab.token(**{**ANN, "sub": "u-2"}))) == "USER_ID_TAKEN"
    assert (
        await refusal(users.principal(lab.token(sub="u-3", preferred_username="ann-smith-lab-org")))
        == "USER_ID_TAKEN"
    )


async def test_a_user_who_was_made_before_is_taken_over_but_no_administrator_or_local_user(
    lab, make_users, accounts, database, clock
):
    users = make_users()
    for name, is_admin in (("ann", False), ("root", True), ("local", False), ("admin", False)):
        await accounts.add_user(User(name, name, is_admin, False, clock()))
    await SqlPasswords(database).put("local", "$argon2id$...", clock())
    answers = {}
    for i, name in enumerate(("ann", "root", "local", "admin")):
        token = lab.token(sub=f"u-{i}", preferred_username=name)
        answers[name] = (
            (await users.principal(token)).user if name == "ann" else await refusal(users.principal(token))
        )
    assert answers == {
        "ann": "ann",
        "root": "USER_ID_TAKEN",
        "local": "USER_ID_TAKEN",
        "admin": "USER_ID_TAKEN",
    }


async def test_users_are_not_made_where_the_settings_say_so(lab, make_users, accounts, clock):
    users = make_users(oidc_create_users=False, oidc_user_claim="email")
    token = lab.token(sub="u-1", email="ann@lab.org")
    assert await refusal(users.principal(token)) == "NO_USER"
    await accounts.add_user(User("ann-lab-org", "", False, False, clock()))
    assert (await users.principal(token)).user == "ann-lab-org"


@pytest.mark.parametrize("value", [None, "", "@@@", 7, ["ann"]])
async def test_a_token_without_a_usable_claim_says_so(lab, make_users, value):
    assert await refusal(make_users().principal(lab.token(preferred_username=value))) == "NO_USER_CLAIM"


async def test_a_long_name_still_makes_an_id(lab, make_users):
    principal = await make_users().principal(lab.token(preferred_username="x" * 62 + "." + "y" * 100))
    assert principal.user == "x" * 62


async def test_disabled_users_are_refused(lab, make_users, accounts):
    users = make_users()
    user = (await users.principal(lab.token(**ANN))).user
    await accounts.update_user(user, disabled=True)
    users.forget()
    assert await refusal(users.principal(lab.token(**ANN))) == "USER_DISABLED"
    assert await refusal(users.sign_in(ANN)) == "USER_DISABLED"


@pytest.mark.parametrize(
    ("claim", "claims", "is_admin"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["user", "lab-admin"]}}, True),
        ("realm_access.roles", {"realm_access": {"roles": ["user"]}}, False),
        ("realm_access.roles", {"realm_access": ["lab-admin"]}, False),
        ("realm_access.roles", {}, False),
        ("https://lab.org/role", {"https://lab.org/role": "lab-admin"}, True),
        ("groups", {"groups": "no-lab-admin"}, False),
        ("groups", {"groups": {"lab-admin": True}}, False),
    ],
)
async def test_a_claim_makes_administrators(lab, make_users, claim, claims, is_admin):
    users = make_users(oidc_admin_claim=claim, oidc_admin_value="lab-admin")
    assert (await users.principal(lab.token(**ANN, **claims))).is_admin is is_admin
    assert (await users.principal(lab.token(**ANN))).is_admin is False


async def test_who_loses_the_claim_is_no_administrator_after_the_next_sign_in(
    lab, make_users, accounts, clock
):
    users = make_users(oidc_admin_claim="groups", oidc_admin_value="lab-admin")
    assert (await users.sign_in({**ANN, "groups": ["lab-admin"]})).is_admin
    # The last one stays, so that somebody can mend the settings.
    assert (await users.sign_in(ANN)).is_admin
    await accounts.add_user(User("admin", "", True, False, clock()))
    assert not (await users.sign_in(ANN)).is_admin
    assert (await users.sign_in({**ANN, "groups": ["lab-admin"]})).is_admin
