"""Signing in and out of the page: `/auth/...`."""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from biosegment.errors import InvalidArgument
from biosegment_gateway.accounts.session import is_session
from biosegment_gateway.accounts.sign_in import SignIn
from biosegment_gateway.audit import current_recording
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.body import BodyLimit
from biosegment_gateway.http.cookie import refuse_other_sites, remove_session, session_of, set_session

_MAX_BODY_BYTES: Final = 16 << 10


class SignInEndpoint:
    """Methods, sign-in with password or API token, sign-out, and who one is.

    Args:
        sign_in: The use cases.
        public_url: Where browsers find the gateway, `https://biosegment.lab.org`; as they ask for it when ''.

    Attributes:
        grpc_port: Of the other port, for the command line; 0 until it is known.
    """

    def __init__(self, sign_in: SignIn, public_url: str = "") -> None:
        self._sign_in = sign_in
        self._public_url = public_url
        self.grpc_port = 0

    @property
    def routes(self) -> list[Route]:
        """All but `/auth/self` answer whoever asks."""
        return [
            Route("/auth/methods", self.methods, methods=["GET"]),
            Route("/auth/login", self.login, methods=["POST"]),
            Route("/auth/logout", self.logout, methods=["POST"]),
            Route("/auth/self", self.self, methods=["GET"]),
        ]

    async def methods(self, request: Request) -> Response:
        """How one can sign in."""
        provider = self._sign_in.provider
        oidc = None
        if provider is not None:
            settings = provider.settings
            device = {"issuer": settings.oidc_issuer, "clientId": settings.oidc_device_client}
            device["scopes"] = settings.oidc_device_scopes
            oidc = {"name": settings.oidc_name, "device": device if settings.oidc_device_client else None}
        return JSONResponse(
            {"password": self._sign_in.takes_passwords, "oidc": oidc, "grpcPort": self.grpc_port}
        )

    async def login(self, request: Request) -> Response:
        """Begin a session from `{"user", "password"}` or `{"token"}`; the cookie holds it."""
        refuse_other_sites(request.scope)
        body = await _read_texts(request)
        if set(body) == {"token"}:
            secret = await self._sign_in.with_token(body["token"].strip())
        elif set(body) == {"user", "password"}:
            address = request.client.host if request.client else ""
            user_id = body["user"].strip()
            recording = current_recording()
            if recording is not None and await self._sign_in.knows(user_id):
                recording.resource = f"users/{user_id}"  # what was typed there may be a password otherwise
            secret = await self._sign_in.with_password(user_id, body["password"], address)
        else:
            raise InvalidArgument("BAD_LOGIN_REQUEST", 'send {"user", "password"} or {"token"}, as JSON')
        await self._record(secret)
        response = Response(status_code=204)
        lifetime_s = self._sign_in.sessions.lifetime.total_seconds()
        set_session(response, secret, lifetime_s, secure=is_secure(request, self._public_url))
        return response

    async def _record(self, secret: str) -> None:
        recording = current_recording()
        if recording is not None:
            recording.user_id = (await self._sign_in.sessions.principal(secret)).user

    async def logout(self, request: Request) -> Response:
        """End the session of the cookie, or of the header; there need be none."""
        refuse_other_sites(request.scope)
        scheme, _, header = request.headers.get("authorization", "").partition(" ")
        for secret in (session_of(request.scope), header.strip() if scheme.lower() == "bearer" else ""):
            if is_session(secret):
                await self._sign_in.sessions.end(secret)
        response = Response(status_code=204)
        remove_session(response, secure=is_secure(request, self._public_url))
        return response

    async def self(self, request: Request) -> Response:
        """Who one is."""
        principal = principal_of(request)
        return JSONResponse(
            {
                "userId": principal.user,
                "displayName": principal.display_name or principal.user,
                "isAdmin": principal.is_admin and principal.is_whole,
            }
        )


def is_secure(request: Request, public_url: str) -> bool:
    """Whether browsers reach the gateway over TLS, here or at a proxy: cookies are then for TLS alone."""
    return request.url.scheme == "https" or public_url.startswith("https://")


async def _read_texts(request: Request) -> dict[str, str]:
    try:
        body: Any = json.loads(await BodyLimit(request, _MAX_BODY_BYTES).read())
    except ValueError as error:
        raise InvalidArgument("BAD_JSON", "the body is not JSON") from error
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise InvalidArgument("BAD_JSON", "the body is no JSON object of texts")
    return body
