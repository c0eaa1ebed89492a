"""Signing in to the page at an identity provider: `/auth/oidc/...`."""

from __future__ import annotations

import html
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from biosegment.errors import BiosegmentError, Unauthenticated
from biosegment_gateway.accounts.provider_sign_in import LIFETIME_S, ProviderSignIn
from biosegment_gateway.accounts.session import Sessions
from biosegment_gateway.audit import Audit
from biosegment_gateway.http.cookie import set_session
from biosegment_gateway.http.sign_in import is_secure
from biosegment_gateway.peer import http_peer

_COOKIE: Final = "biosegment_oidc"
_CALLBACK: Final = "/auth/oidc/callback"


class OidcEndpoint:
    """Sends browsers to the provider, and takes them back.

    Args:
        sign_in: The use cases.
        sessions: Where one begins.
        audit: Records who signs in.
        public_url: Where browsers find the gateway; as they ask for it when ''.
    """

    def __init__(
        self, sign_in: ProviderSignIn, sessions: Sessions, audit: Audit, public_url: str = ""
    ) -> None:
        self._sign_in = sign_in
        self._audit = audit
        self._sessions = sessions
        self._public_url = public_url

    @property
    def routes(self) -> list[Route]:
        """Both answer whoever asks."""
        return [
            Route("/auth/oidc/login", self.login, methods=["GET"]),
            Route(_CALLBACK, self.callback, methods=["GET"]),
        ]

    async def login(self, request: Request) -> Response:
        """Send the browser to the provider; it comes to the path `return_to` of ours in the end."""
        begun = await self._sign_in.begin(
            self._redirect_uri(request), request.query_params.get("return_to", "/")
        )
        response = RedirectResponse(begun.url, 302)
        response.set_cookie(
            _COOKIE,
            begun.cookie,
            max_age=LIFETIME_S,
            path="/auth/oidc",
            secure=is_secure(request, self._public_url),
            httponly=True,
            # The provider's page leads here: a strict cookie would stay behind.
            samesite="lax",
        )
        return response

    async def callback(self, request: Request) -> Response:
        """Begin a session for whom the provider vouches."""
        try:
            secret, return_to = await self._complete(request)
        except BiosegmentError as error:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            return _page("Not signed in", error.message, "/", "Back to the start", error.http_status)
        # Not a redirect: that would still be the provider's, and the browser would keep the strict cookie to itself.
        response = _page("Signed in", "", return_to, "Continue", 200, forward=True)
        secure = is_secure(request, self._public_url)
        set_session(response, secret, self._sessions.lifetime.total_seconds(), secure=secure)
        response.delete_cookie(_COOKIE, path="/auth/oidc", secure=secure, httponly=True, samesite="lax")
        return response

    async def _complete(self, request: Request) -> tuple[str, str]:
        query = request.query_params
        if "error" in query:
            said = f"{query['error']}: {query.get('error_description', '')}"
            raise Unauthenticated("PROVIDER_REFUSED", f"the identity provider refuses: {said[:300]}")
        # A GET, which is not recorded by itself.
        async with self._audit.recording(
            "GET /auth/oidc/callback", None, http_peer(request.scope)
        ) as recording:
            user, return_to = await self._sign_in.complete(
                request.cookies.get(_COOKIE, ""),
                query.get("state", ""),
                query.get("code", ""),
                query.get("iss", ""),
                self._redirect_uri(request),
            )
            recording.user_id = user.user_id
        return await self._sessions.begin(user.user_id), return_to

    def _redirect_uri(self, request: Request) -> str:
        return (self._public_url or str(request.base_url).rstrip("/")) + _CALLBACK


def _page(title: str, text: str, path: str, link: str, status: int, *, forward: bool = False) -> HTMLResponse:
    place = html.escape(path, quote=True)
    refresh = f'<meta http-equiv="refresh" content="0; url={place}">' if forward else ""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}</head>'
        f"<body><h1>{title}</h1><p>{html.escape(text)}</p>"
        f'<p><a href="{place}">{html.escape(link)}</a></p></body></html>',
        status,
    )
