"""`POST /api/{Service}/{Method}`: every method of the public port that has one request and one response, as JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from biosegment.errors import NotFound, ResourceExhausted
from biosegment.rpc.call import MAX_MESSAGE_BYTES, REQUEST_ID, valid_request_id
from biosegment_gateway.contract import is_unary, path_of, public_services
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.body import BodyLimit, BodyTooLarge, require_media_type
from biosegment_gateway.http.openapi_schema import Schema, operations
from biosegment_gateway.local_call import Caller, LocalCalls
from biosegment_gateway.message_json import from_json, to_json
from biosegment_gateway.peer import http_peer

JSON: Final = "application/json"
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES * 4 // 3 + (1 << 20)
"""A message of the largest size whose bytes are in base64, and its other fields."""

_ALLOW: Final = "POST, OPTIONS"
_TOO_LARGE: Final = ("UPLOAD_TOO_LARGE", "MESSAGE_TOO_LARGE")
"""Reasons of ResourceExhausted that no waiting helps against: 413, not 429."""
_BIG_BYTES: Final = 64 << 10
"""Converting more would hold up other requests; it is done in a thread."""


class JsonCalls:
    """Turns requests into calls.

    Args:
        calls: Answer them.
    """

    def __init__(self, calls: LocalCalls) -> None:
        self._calls = calls
        self._methods = {
            (service.name, method.name): method
            for service in public_services().values()
            for method in service.methods
            if is_unary(method)
        }

    @property
    def routes(self) -> list[Route]:
        """One for each service."""
        return [
            Route(
                f"/api/{name}/{{method}}",
                self._endpoint(name),
                methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            )
            for name in public_services()
        ]

    @property
    def paths(self) -> dict[str, Schema]:
        """The methods in OpenAPI's words."""
        return operations()

    def _endpoint(self, service: str) -> Any:
        async def answer(request: Request) -> Response:
            method = self._methods.get((service, request.path_params["method"]))
            if method is None:
                raise _unknown(service, request.path_params["method"])
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"allow": _ALLOW})
            if request.method != "POST":
                raise HTTPException(405, "methods are called with POST", {"allow": _ALLOW})
            return await self._call(request, method)

        return answer

    async def _call(self, request: Request, method: Any) -> Response:
        body = await BodyLimit(request, MAX_BODY_BYTES).read()
        if body:
            require_media_type(request, JSON)
        message = await _off_loop(len(body), from_json, body, method.input_type)
        if len(message) > MAX_MESSAGE_BYTES:
            raise BodyTooLarge(
                "BODY_TOO_LARGE",
                f"the request is a message of {len(message)} bytes; {MAX_MESSAGE_BYTES} are taken",
                limit=str(MAX_MESSAGE_BYTES),
            )
        caller = caller_of(request)
        try:
            answer = await self._calls.unary(path_of(method), message, caller)
        except ResourceExhausted as error:
            if error.reason in _TOO_LARGE:
                raise BodyTooLarge(error.reason, error.message, **error.metadata) from error
            raise
        text = await _off_loop(len(answer), _render, answer, method.output_type)
        return Response(text, media_type=JSON, headers={REQUEST_ID: caller.request_id})


def caller_of(request: Request) -> Caller:
    """Who sent a request, and under which id: the header `x-request-id`, or a new one."""
    request_id = valid_request_id(request.headers.get(REQUEST_ID, ""))
    return Caller(principal_of(request), http_peer(request.scope), request_id)


async def _off_loop(size: int, convert: Any, *arguments: Any) -> Any:
    if size < _BIG_BYTES:
        return convert(*arguments)
    return await asyncio.to_thread(convert, *arguments)


def _render(answer: bytes, descriptor: Any) -> bytes:
    found = to_json(answer, descriptor)
    return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _unknown(service: str, method: str) -> NotFound:
    known = {each.name: each for each in public_services()[service].methods}
    if method in known:
        return NotFound(
            "METHOD_STREAMS", f"{service}/{method} is a stream, which JSON has no place for; use gRPC"
        )
    return NotFound(
        "NO_SUCH_METHOD", f"{service} has no method {method[:100]!r}; GET /api/openapi.json lists them"
    )
