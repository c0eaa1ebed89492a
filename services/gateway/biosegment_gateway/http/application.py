"""The web application: routes and what lies around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.admission import Admission, AdmittedRequests
from biosegment_gateway.audit import Audit
from biosegment_gateway.http.access import Access
from biosegment_gateway.http.monailabel_door import MonaiLabelDoor
from biosegment_gateway.http.pace import BodyPace, RequestLimit
from biosegment_gateway.http.recorder import Recorder

_CODES: Final = {404: "NOT_FOUND", 405: "UNIMPLEMENTED"}


class Endpoint(Protocol):
    """A part of what is served."""

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Its routes, the particular before the general."""


def make_application(
    authentication: Authentication,
    admission: Admission,
    door: MonaiLabelDoor,
    endpoints: Sequence[Endpoint],
    audit: Audit,
    max_requests: int,
    origins: Sequence[str] = (),
) -> Starlette:
    """Put the routes together.

    Args:
        authentication: Of every request but those to the page's shell and `/healthz`.
        admission: How often each user may ask.
        door: Whom the MONAI Label API lets in without a token.
        endpoints: Whose routes there are; the first that matches answers.
        audit: Where requests that may change something are recorded.
        max_requests: At a time; more are answered with 503.
        origins: Whose pages may read, besides our own.
    """
    middleware = [
        Middleware(Access, authentication=authentication, door=door, admission=admission),
        Middleware(BodyPace),
        Middleware(AdmittedRequests, admission=admission),
        Middleware(Recorder, audit=audit),
    ]
    if origins:
        # Outside: browsers ask for permission without a token.
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
                allow_headers=["authorization", "content-type", "range", "if-none-match"],
                expose_headers=["accept-ranges", "content-length", "content-range", "etag"],
            ),
        )
    middleware.insert(0, Middleware(RequestLimit, max_requests=max_requests))
    routes: list[BaseRoute] = [route for each in endpoints for route in each.routes]
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: _http_error},
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "UNKNOWN")
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"code": code, "reason": "NO_SUCH_ENDPOINT", "message": message, "details": {}}
    return JSONResponse(body, error.status_code, headers=error.headers)
