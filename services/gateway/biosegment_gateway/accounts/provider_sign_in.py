"""Signing in at an identity provider: the code flow with PKCE, and its password grant."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biosegment.errors import InvalidArgument, Unauthenticated
from biosegment_gateway.accounts.oidc_settings import OidcSettings
from biosegment_gateway.accounts.provider import Provider
from biosegment_gateway.accounts.provider_token import TokenCheck
from biosegment_gateway.accounts.provider_user import ProviderAccounts
from biosegment_gateway.domain import User

LIFETIME_S: Final = 600
"""Of a sign-in that has begun."""
_LONGEST_PATH: Final = 2000


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that has begun: where the browser goes, and what it brings back in a cookie."""

    url: str
    cookie: str


class ProviderSignIn:
    """Begins and completes sign-ins; what lies between is in the browser's cookie, which any replica can read.

    Args:
        settings: Who we are there.
        provider: Where people sign in.
        check: Of its tokens.
        users: Who they are here.
        key: Of the cookie's signature; secret, the same on all replicas.
    """

    def __init__(
        self,
        settings: OidcSettings,
        provider: Provider,
        check: TokenCheck,
        users: ProviderAccounts,
        key: bytes,
    ) -> None:
        self.settings = settings
        self._provider = provider
        self._check = check
        self._users = users
        self._key = key

    @staticmethod
    def key_of(signing_key_file: Path) -> bytes:
        """A key that follows from the gateway's own."""
        return hmac.digest(signing_key_file.read_bytes(), b"biosegment sign-in at a provider", "sha256")

    async def begin(self, redirect_uri: str, return_to: str) -> Begun:
        """Send a browser to the provider.

        Args:
            redirect_uri: Where the provider sends it back to.
            return_to: Path of ours where it goes then.

        Raises:
            InvalidArgument: BAD_RETURN_TO.
            Unavailable: PROVIDER_UNAVAILABLE.
        """
        check_own_path(return_to)
        state = secrets.token_urlsafe(32)
        verifier = self._derived("verifier", state)
        challenge = _text(hashlib.sha256(verifier.encode()).digest())
        url = await self._provider.authorization_url(
            redirect_uri, state, self._derived("nonce", state), challenge
        )
        content = _text(json.dumps([state, return_to, int(time.time()) + LIFETIME_S]).encode())
        return Begun(url, f"{content}.{self._derived('cookie', content)}")

    async def complete(
        self, cookie: str, state: str, code: str, issuer: str, redirect_uri: str
    ) -> tuple[User, str]:
        """Return who signed in, and the path to go to.

        Args:
            cookie: As `begin` gave it.
            state: As the provider sent it back.
            code: Likewise.
            issuer: Likewise; '' when the provider does not send it.
            redirect_uri: As it was given to `begin`.

        Raises:
            Unauthenticated: BAD_STATE, PROVIDER_REFUSED, BAD_TOKEN, and as `ProviderAccounts.sign_in`.
        """
        begun, return_to = self._read(cookie)
        if not hmac.compare_digest(begun.encode(), state.encode()):
            raise _bad_state()
        if issuer and issuer != self._provider.issuer:
            raise Unauthenticated("PROVIDER_REFUSED", f"another provider answers: {issuer[:200]!r}")
        tokens = await self._provider.redeem(code, redirect_uri, self._derived("verifier", begun))
        claims = await self._claims(tokens, self._derived("nonce", begun))
        return await self._users.sign_in(claims), return_to

    async def with_password(self, user: str, password: str) -> User:
        """Who it is that the provider knows by this password; Unauthenticated as `complete`."""
        return await self._users.sign_in(
            await self._claims(await self._provider.with_password(user, password), "")
        )

    async def _claims(self, tokens: dict[str, Any], nonce: str) -> dict[str, Any]:
        """What the provider says of somebody, in all the places where providers say it."""
        identity = await self._check.id_claims(
            str(tokens.get("id_token", "")), self.settings.oidc_client_id, nonce
        )
        access_token = str(tokens.get("access_token", ""))
        told = await self._provider.user_info(access_token) if access_token else {}
        access: dict[str, Any] = {}
        if access_token.count(".") == 2:
            try:
                access = await self._check.claims(access_token)
            except Unauthenticated:
                access = {}  # for somebody else, which is nothing to complain about
        mine = [each for each in (told, access) if each.get("sub") == identity["sub"]]
        return {**(mine[0] if mine else {}), **(mine[1] if len(mine) > 1 else {}), **identity}

    def _read(self, cookie: str) -> tuple[str, str]:
        content, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._derived("cookie", content).encode()):
            raise _bad_state()
        state, return_to, end = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        if end < time.time():
            raise Unauthenticated("BAD_STATE", "the sign-in took longer than ten minutes; begin again")
        return state, return_to

    def _derived(self, purpose: str, text: str) -> str:
        return _text(hmac.digest(self._key, f"{purpose}\n{text}".encode(), "sha256"))


def check_own_path(path: str) -> None:
    """InvalidArgument BAD_RETURN_TO for what leads away from here."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and len(path) <= _LONGEST_PATH
    if not is_own or "\\" in path or any(ord(character) < 33 for character in path):
        raise InvalidArgument(
            "BAD_RETURN_TO", f"return_to {path[:100]!r} is no path of this server; it begins with one '/'"
        )


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bad_state() -> Unauthenticated:
    return Unauthenticated("BAD_STATE", "this answer belongs to no sign-in of this browser; begin again")
