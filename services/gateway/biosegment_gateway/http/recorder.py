"""The audit of HTTP requests: all that may change something, whatever route answers them."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from biosegment.errors import ERRORS
from biosegment_gateway.audit import Audit, is_change
from biosegment_gateway.peer import http_peer

_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_CALLS: Final = "/api/"
_NAME: Final = re.compile(r"(?:projects|models|jobs|users)/[a-z0-9-]{1,63}(?:/[a-z]+/[a-z0-9-]{1,63}){0,3}")
_MONAILABEL: Final = re.compile(r"/monailabel/([a-z0-9-]{1,63})/")
_OUTCOMES: Final = {error.http_status: error.grpc_code for error in reversed(ERRORS)} | {405: "UNIMPLEMENTED"}


class Recorder:
    """Records requests, each with who sent it and how it ended; lies inside of what finds out who sent it.

    A route that knows better what is done records that itself, or says it by `current_recording`.
    """

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _may_change(scope):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        principal = scope.get("state", {}).get("principal")
        async with self._audit.recording(
            f"{scope['method']} {path}", principal, http_peer(scope), _resource(path)
        ) as recording:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] >= 400:
                    recording.outcome = _OUTCOMES.get(message["status"], "UNKNOWN")
                await send(message)

            await self._app(scope, receive, answer)


def _may_change(scope: Scope) -> bool:
    if scope["method"] in _SAFE:
        return False
    path: str = scope["path"]
    return not path.startswith(_CALLS) or is_change(path)


def _resource(path: str) -> str:
    if found := _NAME.search(path):
        return found[0]
    if found := _MONAILABEL.match(path):
        return f"projects/{found[1]}"
    return ""
