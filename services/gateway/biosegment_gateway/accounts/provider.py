"""An identity provider over HTTP: its discovery document, its keys, and the token endpoint."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import httpx
import jwt
import structlog

from biosegment.errors import BiosegmentError, Unauthenticated, Unavailable
from biosegment_gateway.accounts.oidc_settings import OidcSettings

_TIMEOUT_S: Final = 5.0
_FRESH_S: Final = 3600.0
"""The document and the keys are asked for again after so long."""
_PAUSE_S: Final = 5.0
"""Keys are asked for at most so often, however many tokens name an unknown one."""

_log = structlog.get_logger("biosegment_gateway.accounts.provider")


class Provider:
    """Asks the provider; nothing before it is needed, so that the gateway starts without it.

    Args:
        settings: Which one, and who we are there.
        client: For tests; one of its own otherwise. Closed by `close`.
    """

    def __init__(self, settings: OidcSettings, client: httpx.AsyncClient | None = None) -> None:
        self._settings = settings
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT_S)
        self._document: dict[str, Any] = {}
        self._document_until = 0.0
        self._keys: list[jwt.PyJWK] = []
        self._keys_time = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def issuer(self) -> str:
        """As its tokens name it."""
        return self._settings.oidc_issuer

    async def document(self) -> dict[str, Any]:
        """The discovery document.

        Raises:
            Unavailable: PROVIDER_UNAVAILABLE; PROVIDER_MISMATCH when it speaks of another issuer.
        """
        async with self._asking:
            if time.monotonic() >= self._document_until:
                try:
                    self._document = await self._discover()
                except Unavailable:
                    if not self._document:
                        raise
                    # The one that we have was good an hour ago.
                    _log.warning("provider_unavailable", issuer=self.issuer)
                self._document_until = time.monotonic() + _FRESH_S
        return self._document

    async def keys(self, key_id: str | None) -> list[jwt.PyJWK]:
        """Keys that may have signed a token which names `key_id`; all when it names none.

        The provider is asked again for an unknown one, since keys are replaced, but not for each forged token.
        """
        document = await self.document()
        async with self._asking:
            age_s = time.monotonic() - self._keys_time
            unknown = key_id is not None and not any(key.key_id == key_id for key in self._keys)
            if age_s >= _FRESH_S or (unknown and age_s >= _PAUSE_S):
                self._keys = await self._fetch_keys(str(document["jwks_uri"]))
                self._keys_time = time.monotonic()
        return [key for key in self._keys if key_id is None or key.key_id == key_id]

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where a browser goes to sign in, by the code flow with PKCE."""
        endpoint = str((await self.document())["authorization_endpoint"])
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.oidc_scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def redeem(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """Tokens for the code that a browser came back with; Unauthenticated PROVIDER_REFUSED."""
        return await self._tokens(
            grant_type="authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
        )

    async def with_password(self, user: str, password: str) -> dict[str, Any]:
        """Tokens for a password, where the provider allows that; Unauthenticated PROVIDER_REFUSED."""
        return await self._tokens(
            grant_type="password", username=user, password=password, scope=self._settings.oidc_scopes
        )

    async def user_info(self, access_token: str) -> dict[str, Any]:
        """What the provider says of whom an access token is; {} where it has no such endpoint, or refuses."""
        endpoint = (await self.document()).get("userinfo_endpoint")
        if not endpoint:
            return {}
        answer = await self._send("GET", str(endpoint), headers={"authorization": f"Bearer {access_token}"})
        # A signed answer is of another type; its claims are in the ID token as well.
        if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
            return {}
        return _object(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _discover(self) -> dict[str, Any]:
        answer = await self._send("GET", self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        document = _object(answer) if answer.status_code == 200 else {}
        missing = {"jwks_uri", "authorization_endpoint", "token_endpoint"} - set(document)
        if missing:
            raise self._unavailable(
                f"its discovery document (HTTP {answer.status_code}) lacks {sorted(missing)}"
            )
        if document.get("issuer") != self.issuer:
            raise Unavailable(
                "PROVIDER_MISMATCH",
                f"the provider at {self.issuer} calls itself {str(document.get('issuer'))[:200]!r}; "
                "set OIDC_ISSUER to that if it is the right one",
            )
        return document

    async def _fetch_keys(self, address: str) -> list[jwt.PyJWK]:
        answer = await self._send("GET", address)
        described = _object(answer).get("keys") if answer.status_code == 200 else None
        if not isinstance(described, list):
            raise self._unavailable(f"it has no keys at {address} (HTTP {answer.status_code})")
        found = []
        for each in described:
            if not isinstance(each, dict) or each.get("use") == "enc":
                continue
            try:
                found.append(jwt.PyJWK(each))
            except jwt.PyJWTError:
                continue  # of a kind that we take no tokens of
        return found

    async def _tokens(self, **form: str) -> dict[str, Any]:
        document = await self.document()
        secret = self._settings.oidc_client_secret.get_secret_value()
        authentication: httpx.BasicAuth | None = None
        ways = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret and "client_secret_basic" in ways:
            client = self._settings.oidc_client_id
            authentication = httpx.BasicAuth(quote_plus(client), quote_plus(secret))
        else:
            form["client_id"] = self._settings.oidc_client_id
            if secret:
                form["client_secret"] = secret
        answer = await self._send("POST", str(document["token_endpoint"]), data=form, auth=authentication)
        if answer.status_code >= 500:
            raise self._unavailable(f"its token endpoint answers HTTP {answer.status_code}")
        said = _object(answer)
        if answer.status_code != 200:
            reason = f"{said.get('error', answer.status_code)}: {said.get('error_description', '')}"
            raise Unauthenticated("PROVIDER_REFUSED", f"the identity provider refuses: {reason[:300]}")
        return said

    async def _send(self, method: str, address: str, **how: Any) -> httpx.Response:
        try:
            return await self._client.request(method, address, **how)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    def _unavailable(self, why: str) -> BiosegmentError:
        return Unavailable(
            "PROVIDER_UNAVAILABLE",
            f"the identity provider at {self.issuer} cannot be asked: {why}; try again",
        )


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
