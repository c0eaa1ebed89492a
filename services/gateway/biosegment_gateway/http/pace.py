"""Around every HTTP request: how many run at a time, and how slow the sender of a body may be."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from biosegment.errors import InvalidArgument, Unavailable
from biosegment.rpc.errors import to_json

HEALTH: Final = "/healthz"
BODY_PAUSE_S: Final = 30.0
"""Longest pause within a body."""
BODY_GRACE_S: Final = 60.0
BODY_BYTES_PER_S: Final = 1024
"""A body that takes longer than the grace must have come at this rate."""


class BodyTooSlow(InvalidArgument):
    """BODY_TOO_SLOW."""

    http_status = 408


class RequestLimit:
    """Answers 503 while too many requests run; the outermost part, so that it costs least. Health is always told."""

    def __init__(self, app: ASGIApp, max_requests: int) -> None:
        self._app = app
        self._max_requests = max_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await self._app(scope, receive, send)
            return
        if self._running >= self._max_requests:
            error = Unavailable(
                "TOO_MANY_REQUESTS_AT_ONCE",
                f"{self._max_requests} requests run already; try again in a moment",
            )
            headers = {"retry-after": "1", "connection": "close", "cache-control": "no-store"}
            await JSONResponse(to_json(error), error.http_status, headers)(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


class BodyPace:
    """Ends requests whose body stands still or trickles; lies inside of what turns errors into answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        waited_s, received, is_whole = 0.0, 0, False

        async def receive_in_time() -> Message:
            nonlocal waited_s, received, is_whole
            if is_whole:
                return await receive()  # the end of the connection, for which one may wait for long
            began = time.monotonic()
            try:
                async with asyncio.timeout(BODY_PAUSE_S):
                    message = await receive()
            except TimeoutError as error:
                raise _too_slow(f"nothing of it came for {BODY_PAUSE_S:g} s") from error
            # Only while the client is waited for: what we take for ourselves is not its fault.
            waited_s += time.monotonic() - began
            received += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if not is_whole and received < (waited_s - BODY_GRACE_S) * BODY_BYTES_PER_S:
                raise _too_slow(f"{received} bytes came in {waited_s:.0f} s")
            return message

        await self._app(scope, receive_in_time, send)


def _too_slow(what: str) -> BodyTooSlow:
    return BodyTooSlow("BODY_TOO_SLOW", f"the body of the request comes too slowly: {what}; send it again")
