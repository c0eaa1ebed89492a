"""`GET /api/openapi.json`: all that there is over HTTP, in OpenAPI 3.1."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

import biosegment
from biosegment_gateway.http.openapi_schema import ERROR, Schema, components, tags

_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")
_ABOUT: Final = (
    "Every method of the gRPC API as `POST /api/{Service}/{Method}` with the request as JSON; events, files, images "
    "and OME-Zarr beside it. Numbers of 64 bits are texts, bytes are base64, times are RFC 3339. Fields that are not "
    "known are refused. Requests that carry the page's cookie must come from the page itself."
)
_FAILED: Final[Schema] = {
    "description": "It failed; nothing was done unless the message says so.",
    "content": {"application/json": {"schema": ERROR}},
}
_SECURITY: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API token."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "biosegment_session",
        "description": "Of those who signed in to the page.",
    },
}


class OpenApi:
    """The document.

    Operations come from the `paths` of endpoints that have some; for other routes from the route and the docstring of
    what answers it.

    Args:
        endpoints: What is described.
    """

    def __init__(self, endpoints: Sequence[Any]) -> None:
        self._endpoints = endpoints
        self._answer: Response | None = None

    @property
    def routes(self) -> list[Route]:
        return [Route("/api/openapi.json", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """This document."""
        if self._answer is None:
            body = json.dumps(self.document(), ensure_ascii=False, separators=(",", ":")).encode()
            headers = {"etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "cache-control": "no-cache"}
            self._answer = Response(body, headers=headers, media_type="application/json")
        etag = self._answer.headers["etag"]
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag, "cache-control": "no-cache"})
        return self._answer

    def document(self) -> Schema:
        """The document as `json.dumps` takes it."""
        paths: dict[str, Schema] = {}
        for endpoint in (*self._endpoints, self):
            said: Mapping[str, Schema] = getattr(endpoint, "paths", {})
            for path, item in said.items():
                paths[path] = item
            for path, route in _flat(endpoint.routes):
                if path not in said and not _is_said(path, said):
                    paths.setdefault(path, {}).update(_operations(path, route))
        for item in paths.values():
            for operation in item.values():
                operation["responses"].setdefault("default", _FAILED)
        return {
            "openapi": "3.1.0",
            "info": {"title": "BioSegment", "version": biosegment.__version__, "description": _ABOUT},
            "tags": tags(),
            "security": [{name: []} for name in _SECURITY],
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": components(), "securitySchemes": _SECURITY},
        }


def _flat(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, Route]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _flat(route.routes, f"{prefix}{_template(route.path)}")
        elif isinstance(route, Route):
            yield f"{prefix}{_template(route.path)}", route


def _template(path: str) -> str:
    """`{name}` also where the route says of which kind it is."""
    return _PARAMETER.sub(r"{\1}", path)


def _is_said(path: str, said: Mapping[str, Schema]) -> bool:
    """Whether an endpoint's own paths spell out what a route has a parameter for."""
    pattern = re.compile(_PARAMETER.sub(r"[^/]+", path))
    return any(pattern.fullmatch(each) for each in said)


def _operations(path: str, route: Route) -> Schema:
    text = " ".join((inspect.getdoc(route.endpoint) or "").partition("\n\n")[0].split())
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]
    found: Schema = {}
    for method in sorted((route.methods or {"GET"}) - {"HEAD", "OPTIONS"}):
        found[method.lower()] = {
            "summary": text or path,
            "parameters": parameters,
            "responses": {"200": {"description": "Done."}},
        }
    return found
