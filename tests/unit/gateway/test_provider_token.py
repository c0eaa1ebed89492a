from __future__ import annotations

import time

import jwt
import pytest
from biosegment_gateway.accounts import provider as provider_module
from biosegment_gateway.accounts.oidc_settings import OidcSettings
from biosegment_gateway.accounts.provider import Provider
from biosegment_gateway.accounts.provider_token import TokenCheck
from cryptography.hazmat.primitives import serialization
from jwt.algorithms import RSAAlgorithm

from biosegment.errors import Unauthenticated, Unavailable
from tests.unit.gateway.identity_provider import CLIENT, identity_provider, rsa_key


@pytest.fixture
def lab():
    with identity_provider() as found:
        yield found


@pytest.fixture
async def asked(lab):
    provider = Provider(OidcSettings(oidc_issuer=lab.issuer, oidc_client_id=CLIENT, oidc_audience="api"))
    yield provider
    await provider.close()


@pytest.fixture
def check(asked):
    return TokenCheck(asked, frozenset({CLIENT, "api"}))


async def refusal(check, token):
    with pytest.raises(Unauthenticated) as caught:
        await check.claims(token)
    assert token not in caught.value.message
    return caught.value.reason


async def test_tokens_of_every_allowed_kind_are_taken(lab, check):
    lab.add_all_kinds()
    for key_id in lab.keys:
        assert (await check.claims(lab.token(key_id)))["sub"] == "u-1"
    for header in ({"typ": "at+jwt"}, {"typ": "JWT"}, {"typ": None}):
        await check.claims(lab.token(header=header))
    for audience in ("api", ["other", "api"]):
        await check.claims(lab.token(aud=audience))


async def test_forged_and_foreign_tokens_are_refused(lab, check):
    key = lab.keys["first"][0]
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    other = rsa_key(1)
    claims = jwt.decode(lab.token(), options={"verify_signature": False})
    good = lab.token()
    head, body, signature = good.split(".")
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": "first"})
    # The public key as the secret of a shared one: the oldest trick.
    confused = jwt.api_jws.PyJWS().encode(
        jwt.utils.base64url_decode(body), b"x" * 32 + public[:10], algorithm="HS256", headers={"kid": "first"}
    )
    forged = [
        unsigned,
        unsigned.replace(".", "..", 1),
        confused,
        jwt.encode(claims, other, algorithm="RS256", headers={"kid": "first"}),
        jwt.encode(claims, other, algorithm="RS256", headers={"kid": "unknown"}),
        jwt.encode(claims, key, algorithm="RS512", headers={"kid": "first"}),
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{jwt.utils.base64url_encode(b'{}').decode()}.{signature}",
        lab.token(aud="somebody-else"),
        lab.token(aud=["x", "y"]),
        lab.token(aud=None),
        lab.token(iss="https://elsewhere.example"),
        lab.token(iss=None),
        lab.token(sub=None),
        lab.token(exp=None),
        lab.token(nbf=int(time.time()) + 120),
        lab.token(header={"typ": "logout+jwt"}),
        lab.token(header={"typ": "dpop+jwt"}),
        lab.token(cnf={"jkt": "a key that the holder must prove"}),
        lab.token(filler="x" * 20_000),
        "a.b.c",
        "..",
        "\x00.\x00.\x00",
    ]
    assert [await refusal(check, token) for token in forged] == ["BAD_TOKEN"] * len(forged)


async def test_a_token_ends_at_its_time_with_some_leeway(lab, check):
    now = time.time()
    assert await refusal(check, lab.token(exp=int(now) - 60)) == "TOKEN_EXPIRED"
    await check.claims(lab.token(exp=int(now) - 10))
    await check.claims(lab.token(nbf=int(now) + 10, iat=int(now) + 10))


async def test_a_token_that_is_remembered_ends_too(lab, check, monkeypatch):
    token = lab.token(exp=int(time.time()) + 1)
    await check.claims(token)
    later = time.time() + 40
    monkeypatch.setattr(time, "time", lambda: later)
    assert await refusal(check, token) == "TOKEN_EXPIRED"


async def test_a_signature_is_checked_once_and_keys_are_fetched_once(lab, check):
    token = lab.token()
    for _ in range(5):
        await check.claims(token)
        await check.claims(lab.token(jti=str(time.perf_counter_ns())))
    assert lab.asked == {"/.well-known/openid-configuration": 1, "/jwks": 1}


async def test_a_new_key_is_found_and_forged_ones_do_not_cost_the_provider(lab, check, monkeypatch):
    await check.claims(lab.token())
    monkeypatch.setattr(provider_module, "_PAUSE_S", 0.0)
    lab.add_key("second", rsa_key(2), RSAAlgorithm, "RS256")
    del lab.keys["first"]
    await check.claims(lab.token("second"))
    assert lab.asked["/jwks"] == 2
    monkeypatch.setattr(provider_module, "_PAUSE_S", 60.0)
    other = rsa_key(1)
    for i in range(10):
        forged = jwt.encode({"sub": "x"}, other, algorithm="RS256", headers={"kid": f"forged-{i}"})
        assert await refusal(check, forged) == "BAD_TOKEN"
    assert lab.asked["/jwks"] == 2


async def test_a_provider_that_is_away_is_named_and_not_needed_for_known_keys(lab, check):
    lab.is_away = True
    with pytest.raises(Unavailable) as caught:
        await check.claims(lab.token())
    assert (caught.value.reason, lab.issuer in caught.value.message) == ("PROVIDER_UNAVAILABLE", True)
    lab.is_away = False
    await check.claims(lab.token())
    lab.is_away = True
    await check.claims(lab.token(jti="another"))


async def test_a_provider_that_calls_itself_otherwise_is_refused(lab, check):
    lab.document["issuer"] = "https://elsewhere.example"
    with pytest.raises(Unavailable) as caught:
        await check.claims(lab.token())
    assert caught.value.reason == "PROVIDER_MISMATCH"


async def test_an_id_token_must_answer_this_very_sign_in_and_be_for_this_client(lab, check):
    await check.id_claims(lab.token(nonce="n"), CLIENT, "n")
    await check.id_claims(lab.token(nonce="n", aud=[CLIENT, "api"], azp=CLIENT), CLIENT, "n")
    for claims in (
        {},
        {"nonce": "other"},
        {"nonce": "n", "aud": "api"},
        {"nonce": "n", "azp": "other"},
        {"nonce": "n", "aud": [CLIENT, "api"]},
    ):
        with pytest.raises(Unauthenticated):
            await check.id_claims(lab.token(**claims), CLIENT, "n")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"oidc_issuer": "http://keycloak.lab.org"}, "https"),
        ({"oidc_issuer": "keycloak"}, "https"),
        ({"oidc_issuer": "https://a.b"}, "OIDC_CLIENT_ID"),
        ({"oidc_issuer": "https://a.b", "oidc_client_id": "x", "oidc_scopes": "email"}, "openid"),
        ({"oidc_admin_claim": "groups"}, "OIDC_ADMIN_VALUE"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        OidcSettings(**wrong)
