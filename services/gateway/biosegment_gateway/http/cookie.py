"""The page's cookie, and which requests may use it: those that the page itself sends."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from biosegment.errors import PermissionDenied

SESSION_COOKIE: Final = "biosegment_session"
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


def session_of(scope: Scope) -> str:
    """The secret in the session's cookie; '' when there is none."""
    return Request(scope).cookies.get(SESSION_COOKIE, "")


def set_session(response: Response, secret: str, lifetime_s: float, *, secure: bool) -> None:
    """Give the browser a session; scripts never see it, and other sites' requests never carry it."""
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=int(lifetime_s),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def remove_session(response: Response, *, secure: bool) -> None:
    """Take the session out of the browser."""
    response.delete_cookie(SESSION_COOKIE, path="/", secure=secure, httponly=True, samesite="strict")


def refuse_other_sites(scope: Scope) -> None:
    """Raise PermissionDenied CROSS_SITE for what a page of another site sends; programs send no such header."""
    headers = Headers(scope=scope)
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if (origin and not _is_own(headers)) or site not in ("", "same-origin", "none"):
        raise _cross_site(origin or site)


def require_own_page(scope: Scope) -> None:
    """For a request by cookie: one that may change something must say that it comes from the page itself.

    Raises:
        PermissionDenied: CROSS_SITE.
    """
    if scope["method"] in _SAFE:
        return
    refuse_other_sites(scope)
    headers = Headers(scope=scope)
    if not headers.get("origin") and headers.get("sec-fetch-site") != "same-origin":
        raise _cross_site("")


def _is_own(headers: Headers) -> bool:
    # A proxy that ends TLS leaves the host and changes the scheme.
    origin = urlsplit(headers["origin"])
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host", "")


def _cross_site(origin: str) -> PermissionDenied:
    where = f"of {origin[:100]!r} " if origin else ""
    return PermissionDenied(
        "CROSS_SITE",
        f"a page {where}may not act with the session of this one; programs send 'Authorization: Bearer'",
    )
