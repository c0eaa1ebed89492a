"""The web application: routes and what lies around them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from biosegment_gateway.authentication import Authentication
from biosegment_gateway.http.access import Access
from biosegment_gateway.http.api import Api
from biosegment_gateway.http.zarr import ZarrEndpoint

_PAGE: Final = (
    ("/", "index.html", "text/html"),
    ("/page.js", "page.js", "text/javascript"),
    ("/page.css", "page.css", "text/css"),
)
_CODES: Final = {404: "NOT_FOUND", 405: "UNIMPLEMENTED"}


def make_application(
    authentication: Authentication, api: Api, zarr: ZarrEndpoint, origins: Sequence[str] = ()
) -> Starlette:
    """Put the routes together.

    Args:
        authentication: Of every request but those to the page's shell and `/healthz`.
        api: JSON endpoints.
        zarr: OME-Zarr.
        origins: Whose pages may read, besides our own.
    """
    middleware = [Middleware(Access, authentication=authentication)]
    if origins:
        # Outside: browsers ask for permission without a token.
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "HEAD"],
                allow_headers=["authorization", "range", "if-none-match"],
                expose_headers=["accept-ranges", "content-length", "content-range", "etag"],
            ),
        )
    pages = [_static(path, name, media_type) for path, name, media_type in _PAGE]
    return Starlette(
        routes=[*pages, *api.routes, *zarr.routes],
        middleware=middleware,
        exception_handlers={HTTPException: _http_error},
    )


def _static(path: str, name: str, media_type: str) -> Route:
    content = files("biosegment_gateway.http").joinpath("page", name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return Route(path, answer)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "UNKNOWN")
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"code": code, "reason": "NO_SUCH_ENDPOINT", "message": message, "details": {}}
    return JSONResponse(body, error.status_code, headers=error.headers)
