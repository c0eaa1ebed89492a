"""Server-sent events: what changes in a project, for pages.

`GET /api/events/jobs?project=projects/{project}`, and the same for `samples`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import message_factory
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from biosegment.errors import BiosegmentError, InvalidArgument, ResourceExhausted, Unavailable
from biosegment.rpc.errors import to_json as error_to_json
from biosegment_gateway.contract import path_of, public_services
from biosegment_gateway.http.json_call import caller_of
from biosegment_gateway.http.openapi_schema import Schema
from biosegment_gateway.local_call import Caller, LocalCalls
from biosegment_gateway.message_json import to_json

HEARTBEAT_S: Final = 15.0
LIFETIME_S: Final = 600.0
"""Then the client connects again by itself, and shows again that it may."""
_RETRY_S: Final = 2.0
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Proxies would collect events before they hand them on.
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long things last, in seconds.

    Attributes:
        heartbeat_s: A comment is sent when nothing else was for so long.
        lifetime_s: Of a stream.
        retry_s: Between two tries to reach a service that is away; the client is told to wait as long.
    """

    heartbeat_s: float = HEARTBEAT_S
    lifetime_s: float = LIFETIME_S
    retry_s: float = _RETRY_S


class Events:
    """Streams of changes.

    A stream goes on by itself when a service was away for a moment. It ends when the gateway stops, when the caller
    may not see the project any more, and after `lifetime_s`; whoever comes back with the last id misses nothing.

    Args:
        calls: Answer the methods that watch.
        max_streams: Of one user at a time.
        stopping: Set when the gateway stops.
        clocks: How long things last.
    """

    def __init__(
        self, calls: LocalCalls, max_streams: int, stopping: asyncio.Event, clocks: Clocks | None = None
    ) -> None:
        self._calls = calls
        self._max_streams = max_streams
        self._stopping = stopping
        self._clocks = clocks or Clocks()
        self.open: Counter[str] = Counter()

    @property
    def routes(self) -> list[Route]:
        """Both take `project`, and `Last-Event-ID`."""
        return [
            Route(path, _Endpoint(self, method, field), methods=["GET"])
            for path, (method, field) in _watched().items()
        ]

    @property
    def paths(self) -> dict[str, Schema]:
        """The same in OpenAPI's words."""
        return {path: {"get": _operation(method)} for path, (method, _) in _watched().items()}

    async def serve(self, request: Request, method: Any, field: str, send: Send) -> None:
        """Answer a request until its end."""
        caller = caller_of(request)
        user = caller.principal.user
        project = request.query_params.get("project", "")
        if not project:
            raise InvalidArgument("NO_PROJECT", "say of which project: ?project=projects/{project}")
        if self.open[user] >= self._max_streams:
            raise ResourceExhausted(
                "TOO_MANY_STREAMS",
                f"user {user!r} has {self.open[user]} streams of events open, which is the limit; close some",
            )
        token = request.headers.get("last-event-id", "")
        self.open[user] += 1
        try:
            async with aclosing(self._blocks(caller, method, {field: project}, token)) as blocks:
                # What is wrong at once still gets a status of its own.
                first = await anext(blocks)
                await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
                if request.method != "HEAD":
                    retry = f"retry: {int(self._clocks.retry_s * 1000)}\n\n".encode()
                    await send({"type": "http.response.body", "body": retry + first, "more_body": True})
                    await self._send(request, blocks, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.open[user] -= 1
            if not self.open[user]:
                del self.open[user]

    async def _send(self, request: Request, blocks: AsyncIterator[bytes], send: Send) -> None:
        """Send blocks and heartbeats until somebody ends it."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._clocks.lifetime_s
        ends = [asyncio.create_task(_gone(request)), asyncio.create_task(self._stopping.wait())]
        block: asyncio.Task[bytes | None] = asyncio.create_task(_next(blocks))
        try:
            while (left_s := ends_at - loop.time()) > 0:
                done, _ = await asyncio.wait(
                    [block, *ends],
                    timeout=min(self._clocks.heartbeat_s, left_s),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if any(end in done for end in ends):
                    return
                if not done:
                    await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                elif (text := block.result()) is None:
                    return
                else:
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                    block = asyncio.create_task(_next(blocks))
        finally:
            for task in (block, *ends):
                task.cancel()
            await asyncio.wait([block, *ends])

    async def _blocks(
        self, caller: Caller, method: Any, fields: dict[str, str], token: str
    ) -> AsyncGenerator[bytes, None]:
        """What is sent, event by event; over interruptions of the service, once there is something to resume from."""
        begun = False
        while True:
            try:
                async with aclosing(
                    self._answers(caller, method, {**fields, "resume_token": token})
                ) as found:
                    async for data, resume_token in found:
                        token, begun = resume_token or token, True
                        yield _block(data, resume_token)
            except Unavailable as error:
                if not begun and not token:
                    raise
                begun = True
                yield f": {error.reason}\n\n".encode()
            except BiosegmentError as error:
                if not begun:
                    raise
                yield f"event: refused\ndata: {json.dumps(error_to_json(error))}\n\n".encode()
                return
            await asyncio.sleep(self._clocks.retry_s)

    async def _answers(
        self, caller: Caller, method: Any, fields: dict[str, str]
    ) -> AsyncGenerator[tuple[dict[str, Any], str], None]:
        request = message_factory.GetMessageClass(method.input_type)(**fields).SerializeToString()
        async with aclosing(self._calls.stream(path_of(method), request, caller)) as answers:
            async for answer in answers:
                data = to_json(answer, method.output_type)
                yield data, data["resumeToken"]


class _Endpoint:
    """An ASGI application, so that the stream is closed whatever happens to the connection."""

    def __init__(self, events: Events, method: Any, field: str) -> None:
        self._events = events
        self._method = method
        self._field = field

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._events.serve(Request(scope, receive), self._method, self._field, send)


def _watched() -> dict[str, tuple[Any, str]]:
    """Methods by path, with the field of their request that names the project."""
    services = public_services()
    return {
        "/api/events/jobs": (services["JobService"].methods_by_name["WatchJobs"], "project"),
        "/api/events/samples": (services["SamplerService"].methods_by_name["WatchSamples"], "parent"),
    }


def _operation(method: Any) -> Schema:
    text = {"type": "string"}
    return {
        "summary": f"Server-sent events: what {method.name} streams",
        "description": f"The `data` of each event is a {method.output_type.name} as JSON, its `id` where to resume.",
        "tags": ["events"],
        "parameters": [
            {
                "name": "project",
                "in": "query",
                "required": True,
                "schema": {**text, "pattern": "^projects/[a-z0-9-]{1,63}$"},
            },
            {
                "name": "Last-Event-ID",
                "in": "header",
                "schema": {**text, "pattern": "^[A-Za-z0-9_=-]{0,400}$"},
                "description": "The last `id` that came: nothing that happened since is missed.",
            },
        ],
        "responses": {
            "200": {
                "description": "Events, until the client leaves or ten minutes have passed.",
                "content": {"text/event-stream": {"schema": text}},
            }
        },
    }


def _block(data: dict[str, Any], token: str) -> bytes:
    """An event; one without a job or sample has no data: it only moves the id."""
    text = f"id: {token}\n" if token else ""
    if len(data) > 1:
        text += f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n"
    return f"{text}\n".encode()


async def _next(blocks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(blocks, None)


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
