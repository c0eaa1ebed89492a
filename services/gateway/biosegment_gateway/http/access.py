"""Around every HTTP request: who asks, errors as JSON, headers against abuse, one log line without secrets."""

from __future__ import annotations

import base64
import binascii
import math
import time
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from biosegment.auth import Principal
from biosegment.errors import BiosegmentError, Internal, Unauthenticated
from biosegment.ids import new_id
from biosegment.rpc.errors import retry_after_s, to_json
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.admission import Admission
from biosegment_gateway.http.cookie import require_own_page, session_of
from biosegment_gateway.http.dashboard import is_page
from biosegment_gateway.http.monailabel_door import EMBEDDED as _MONAILABEL_EMBEDDED
from biosegment_gateway.http.monailabel_door import PREFIX as _MONAILABEL
from biosegment_gateway.http.monailabel_door import MonaiLabelDoor
from biosegment_gateway.peer import http_peer

OPEN_PATHS: Final = frozenset(
    {
        "/healthz",
        "/auth/methods",
        "/auth/login",
        "/auth/logout",
        "/auth/oidc/login",
        "/auth/oidc/callback",
    }
)
"""What answers without a token besides the page's shell: whether the gateway lives, and the ways to sign in."""

LINKED: Final = "/zarr/l/"
"""Before a link in a path: whoever comes with one needs no token, and what reads objects looks at the link."""
_OPEN_BELOW: Final = (LINKED, "/neuroglancer/")

_ZARR: Final = "/zarr/"
_EMBEDDED: Final = "/zarr/t/"

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

_HSTS: Final = "max-age=31536000"
"""Of this host alone: what else a lab has below its name is not ours to decide on."""

_log = structlog.get_logger("biosegment_gateway.http")


def principal_of(request: Request) -> Principal:
    """The authenticated caller of a request."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


class Access:
    """Lets nobody in without a token, except to the page's shell and `OPEN_PATHS`.

    The token comes as `Authorization: Bearer ...` or as the password of `Authorization: Basic ...`; below `/zarr/`
    also as `?token=...`, or as `/zarr/t/{token}/...` for programs that know nothing but a URL, and for those of MONAI
    Label as `/monailabel/t/{token}/...`. The door lets some of the latter in without one. Without a token the session
    in the page's cookie counts, as long as the page itself asks.
    """

    def __init__(
        self, app: ASGIApp, authentication: Authentication, door: MonaiLabelDoor, admission: Admission
    ) -> None:
        self._app = app
        self._authentication = authentication
        self._door = door
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", _HSTS)
            await send(message)

        scope, token = _without_token(scope)
        structlog.contextvars.clear_contextvars()
        try:
            if not _is_open(scope["path"]) and not self._door.needs_nobody(scope["path"]):
                principal = await self._door.principal(scope, token) or await self._principal(scope, token)
                scope["state"]["principal"] = principal
                structlog.contextvars.bind_contextvars(principal=str(principal))
            await self._app(scope, receive, answer)
        except Exception as cause:
            error = _as_biosegment_error(cause, scope["path"])
            if isinstance(error, Unauthenticated):
                self._admission.refused(error, token, http_peer(scope))
            if status:
                raise  # too late to say it: the connection is closed, so that nobody takes half for the whole
            await error_response(error, scope["path"])(scope, receive, answer)
        finally:
            # The path has no token any more, and the query may have one: it is never logged.
            _log.info(
                "http",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 2),
            )

    async def _principal(self, scope: Scope, token: str) -> Principal:
        if not token and (session := session_of(scope)):
            principal = await self._authentication.of_session(session)
            require_own_page(scope)
            return principal
        if not token:
            raise Unauthenticated(
                "NO_TOKEN", "the request carries no token; send 'Authorization: Bearer <token>'"
            )
        return await self._authentication.of_token(token)


def error_response(error: BiosegmentError, path: str = "") -> JSONResponse:
    """`{code, reason, message, details}` with the status of the error."""
    headers = {}
    if isinstance(error, Unauthenticated):
        # Browsers would ask for a password over the page if its own requests were answered with Basic.
        scheme = "Basic" if path.startswith(_ZARR) else "Bearer"
        headers["www-authenticate"] = f'{scheme} realm="biosegment"'
    if (pause_s := retry_after_s(error)) is not None:
        headers["retry-after"] = str(math.ceil(pause_s))
    if error.http_status in (408, 413):
        # Else the rest of a body that may never end would be received, and thrown away.
        headers["connection"] = "close"
    return JSONResponse(to_json(error), status_code=error.http_status, headers=headers)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(_OPEN_BELOW) or is_page(path)


def _without_token(scope: Scope) -> tuple[Scope, str]:
    """Take the token out of a request; its path is then that of a request with a header."""
    path: str = scope["path"]
    scope = {**scope, "state": {**scope.get("state", {}), "needs_no_link": False}}
    if path.startswith(_MONAILABEL_EMBEDDED):
        token, _, rest = path.removeprefix(_MONAILABEL + "t/").partition("/")
        path = _MONAILABEL + rest
        # Whatever the program asks for, it asks with the token.
        scope["state"]["needs_no_link"] = True
        return {**scope, "path": path, "raw_path": path.encode()}, token
    if path.startswith(LINKED):
        scope["state"]["link"], _, rest = path.removeprefix(LINKED).partition("/")
        path = LINKED + rest
        return {**scope, "path": path, "raw_path": path.encode()}, ""
    if path.startswith(_EMBEDDED):
        token, _, rest = path.removeprefix(_EMBEDDED).partition("/")
        path = _ZARR + rest
        return {**scope, "path": path, "raw_path": path.encode()}, token
    token = _header_token(scope)
    if not token and path.startswith(_ZARR):
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
    return dict(scope), token


def _header_token(scope: Scope) -> str:
    value = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode(
        "latin-1"
    )
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest.strip(), validate=True).decode("latin-1")
        except (binascii.Error, ValueError):
            return ""
        return decoded.partition(":")[2]
    return ""


def _as_biosegment_error(cause: Exception, path: str) -> BiosegmentError:
    if isinstance(cause, BiosegmentError) and not isinstance(cause, Internal):
        return cause
    error_id = new_id()
    extra: dict[str, Any] = {"path": path, "error_id": error_id}
    _log.error("http_failed", exc_info=cause, **extra)
    if isinstance(cause, Internal):
        return cause
    return Internal(
        "INTERNAL", f"internal error; its details are in the log under {error_id}", error_id=error_id
    )
