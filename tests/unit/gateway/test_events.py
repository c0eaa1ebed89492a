"""Streams of events with clocks that run fast; over a connection they are tested in tests/rpc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from biosegment_gateway.http.events import Clocks, Events
from biosegment_gateway.local_call import LocalCalls

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.auth import Kind, Principal
from biosegment.errors import NotFound, ResourceExhausted, Unavailable

SERVICE = "biosegment.api.sampler.v1alpha1.SamplerService"
Handler = Callable[[Any, Any], AsyncIterator[Any]]


def sample(name: str, token: str) -> pb.WatchSamplesResponse:
    return pb.WatchSamplesResponse(sample=pb.Sample(name=name), resume_token=token)


class Visit:
    """One request for events, and what came."""

    def __init__(self, handler: Handler, clocks: Clocks, max_streams: int = 3) -> None:
        calls = LocalCalls(10.0)
        method = grpc.unary_stream_rpc_method_handler(
            handler,
            request_deserializer=pb.WatchSamplesRequest.FromString,
            response_serializer=pb.WatchSamplesResponse.SerializeToString,
        )
        calls.add_generic(grpc.method_handlers_generic_handler(SERVICE, {"WatchSamples": method}))
        self.stopping = asyncio.Event()
        self.events = Events(calls, max_streams, self.stopping, clocks)
        self.left = asyncio.Event()
        self.body = b""
        self.came = asyncio.Condition()

    async def run(self, last_id: str = "") -> None:
        route = next(each for each in self.events.routes if each.path.endswith("samples"))
        scope = {
            "type": "http",
            "method": "GET",
            "path": route.path,
            "query_string": b"project=projects/p",
            "headers": [(b"last-event-id", last_id.encode())] if last_id else [],
            "client": ("10.0.0.1", 5),
            "state": {"principal": Principal(Kind.USER, "ann")},
        }
        await route.app(scope, self._receive, self._send)

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: text in self.body)

    async def _receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        async with self.came:
            self.body += message.get("body", b"")
            self.came.notify_all()


async def quiet(request: Any, context: Any) -> AsyncIterator[Any]:
    yield sample("a", "1")
    await asyncio.sleep(60)


async def test_a_stream_on_which_nothing_happens_says_that_it_lives():
    visit = Visit(quiet, Clocks(heartbeat_s=0.01))
    running = asyncio.create_task(visit.run())
    await visit.until(b":\n\n:\n\n:\n\n")
    visit.left.set()
    await asyncio.wait_for(running, 10)
    assert visit.body.startswith(b'retry: 2000\n\nid: 1\ndata: {"sample":{"name":"a"')
    assert not visit.events.open


async def test_a_stream_ends_after_its_time():
    visit = Visit(quiet, Clocks(lifetime_s=0.05))
    await asyncio.wait_for(visit.run(), 10)


async def test_a_stream_ends_when_the_gateway_stops():
    visit = Visit(quiet, Clocks())
    running = asyncio.create_task(visit.run())
    await visit.until(b"id: 1\n")
    visit.stopping.set()
    await asyncio.wait_for(running, 10)


async def test_a_stream_goes_on_where_it_was_when_its_service_is_back():
    asked: list[str] = []

    async def restarted(request: pb.WatchSamplesRequest, context: Any) -> AsyncIterator[Any]:
        asked.append(request.resume_token)
        if len(asked) in (2, 3):
            raise Unavailable("SERVICE_UNAVAILABLE", "the sampler cannot be reached")
        yield sample("a", str(len(asked)))
        if len(asked) == 1:
            raise Unavailable("SERVICE_UNAVAILABLE", "the sampler stops")
        await asyncio.sleep(60)

    visit = Visit(restarted, Clocks(retry_s=0.01))
    running = asyncio.create_task(visit.run())
    await visit.until(b"id: 4\n")
    assert asked == ["", "1", "1", "1"]
    assert visit.body.count(b": SERVICE_UNAVAILABLE\n") == 3
    visit.left.set()
    await asyncio.wait_for(running, 10)


async def test_a_service_that_is_away_from_the_beginning_is_an_error_for_who_has_no_id():
    async def away(request: Any, context: Any) -> AsyncIterator[Any]:
        raise Unavailable("SERVICE_UNAVAILABLE", "the sampler cannot be reached")
        yield

    visit = Visit(away, Clocks(retry_s=0.01))
    with pytest.raises(Unavailable):
        await visit.run()
    assert visit.body == b""
    running = asyncio.create_task(visit.run("7"))
    await visit.until(b": SERVICE_UNAVAILABLE\n\n")
    visit.left.set()
    await asyncio.wait_for(running, 10)
    assert not visit.events.open


async def test_who_is_removed_from_the_project_is_told_and_sees_no_more():
    async def removed(request: Any, context: Any) -> AsyncIterator[Any]:
        yield sample("a", "1")
        raise NotFound("PROJECT_NOT_FOUND", "there is no project 'p', or you are no member")

    visit = Visit(removed, Clocks())
    await asyncio.wait_for(visit.run(), 10)
    assert b'event: refused\ndata: {"code": "NOT_FOUND"' in visit.body


async def test_streams_above_the_limit_are_refused_and_those_that_ended_do_not_count():
    visit = Visit(quiet, Clocks(), max_streams=1)
    running = asyncio.create_task(visit.run())
    await visit.until(b"id: 1\n")
    with pytest.raises(ResourceExhausted, match="'ann' has 1 streams"):
        await visit.run()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    visit.left.set()
    await asyncio.wait_for(visit.run(), 10)
