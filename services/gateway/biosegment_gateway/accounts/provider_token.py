"""Checks tokens that an identity provider signed."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any, Final

import jwt

from biosegment.errors import Unauthenticated
from biosegment.expiring import Expiring
from biosegment_gateway.accounts.provider import Provider

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
LEEWAY_S: Final = 30.0
_TYPES: Final = ("", "jwt", "at+jwt", "application/at+jwt")
_REMEMBERED_S: Final = 60.0
_LONGEST: Final = 16 << 10


class TokenCheck:
    """Returns the claims of tokens that are genuine, in force, and meant for us.

    Args:
        provider: Whose keys count.
        audiences: For whom a token may be.
    """

    def __init__(self, provider: Provider, audiences: frozenset[str]) -> None:
        self._provider = provider
        self._audiences = audiences
        # Checking a signature costs more than most calls do otherwise, and callers send a token many times.
        self._known: Expiring[str, dict[str, Any]] = Expiring(_REMEMBERED_S)

    async def claims(self, token: str) -> dict[str, Any]:
        """Claims of an access or ID token that somebody shows.

        Raises:
            Unauthenticated: BAD_TOKEN, TOKEN_EXPIRED.
            Unavailable: PROVIDER_UNAVAILABLE.
        """
        key = hashlib.sha256(token.encode()).hexdigest()
        claims = await self._known.get(key, lambda: self.check(token, self._audiences))
        if float(claims["exp"]) + LEEWAY_S <= time.time():
            raise _expired()
        return claims

    async def id_claims(self, token: str, client_id: str, nonce: str) -> dict[str, Any]:
        """Claims of the ID token that the token endpoint gave for our own request; errors as `claims`."""
        claims = await self.check(token, frozenset({client_id}))
        if nonce and not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise Unauthenticated("BAD_TOKEN", "the ID token answers another sign-in; begin again")
        others = claims["aud"] if isinstance(claims["aud"], list) else []
        if claims.get("azp", client_id if len(others) < 2 else "") != client_id:
            raise Unauthenticated("BAD_TOKEN", "the ID token was made for another client")
        return claims

    async def check(self, token: str, audiences: frozenset[str]) -> dict[str, Any]:
        """Claims of a token for one of `audiences`; errors as `claims`."""
        header = _header(token)
        keys = await self._provider.keys(header.get("kid"))
        failure: Exception | None = None
        for key in keys:
            try:
                return _decoded(token, key, self._provider.issuer, audiences)
            except jwt.ExpiredSignatureError as error:
                raise _expired() from error
            except jwt.PyJWTError as error:
                failure = error
        why = f"{failure}" if failure else "no key of the provider has this id"
        raise Unauthenticated(
            "BAD_TOKEN", f"the token is not one for this platform: {why[:200]}"
        ) from failure


def _header(token: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token) if len(token) <= _LONGEST else None
    except jwt.PyJWTError as error:
        raise Unauthenticated("BAD_TOKEN", f"the token cannot be read: {str(error)[:200]}") from error
    if header is None:
        raise Unauthenticated("BAD_TOKEN", f"the token has more than {_LONGEST} characters")
    if header.get("alg") not in ALGORITHMS:
        raise Unauthenticated(
            "BAD_TOKEN",
            f"the token is signed with {str(header.get('alg'))[:50]!r}; {', '.join(ALGORITHMS)} are taken",
        )
    if str(header.get("typ", "")).lower() not in _TYPES:
        raise Unauthenticated("BAD_TOKEN", f"{str(header['typ'])[:50]!r} is no kind of token to call with")
    return header


def _decoded(token: str, key: jwt.PyJWK, issuer: str, audiences: frozenset[str]) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=list(ALGORITHMS),
        audience=list(audiences),
        issuer=issuer,
        leeway=LEEWAY_S,
        options={"require": ["exp", "iss", "aud", "sub"]},
    )
    if "cnf" in claims:
        raise jwt.InvalidTokenError("it is bound to a key that its holder must prove; send a plain one")
    return claims


def _expired() -> Unauthenticated:
    return Unauthenticated("TOKEN_EXPIRED", "the token of the identity provider has expired; sign in again")
