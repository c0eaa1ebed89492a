from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from biosegment_gateway.local_call import Caller, LocalCalls

from biosegment.auth import Kind, Principal
from biosegment.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unavailable, Unimplemented
from biosegment.rpc import current_principal, current_request_id
from biosegment.rpc.errors import to_status

CALLER = Caller(Principal(Kind.USER, "ann"), "10.0.0.1:5", "r-1")


class Desk:
    """Handlers of both kinds of streams, and what became of them."""

    def __init__(self) -> None:
        self.written = 0
        self.ended = asyncio.Event()

    async def one(self, request: bytes, context: Any) -> bytes:
        remaining = context.time_remaining()
        assert remaining is not None
        assert remaining > 0
        return f"{current_principal()} {current_request_id()} {context.peer()}".encode()

    async def slow(self, request: bytes, context: Any) -> bytes:
        await asyncio.sleep(60)
        return b""

    async def aborted(self, request: bytes, context: Any) -> bytes:
        status: Any = to_status(NotFound("NO_CAT", "there is no cat", name="Tom"))
        await context.abort(status.code, status.details, status.trailing_metadata)
        return b""

    async def generated(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            for number in range(1000):
                self.written = number
                yield str(number).encode()
        finally:
            self.ended.set()

    async def failing(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        raise ResourceExhausted("ENOUGH", "no more")

    async def writing(self, request: bytes, context: Any) -> None:
        await context.write(b"1")
        await context.write(b"2")

    async def cancelled(self, request: bytes, context: Any) -> None:
        await context.write(b"1")
        raise asyncio.CancelledError

    async def waiting(self, request: bytes, context: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            self.ended.set()


def calls_of(desk: Desk, max_unary_s: float = 10.0) -> LocalCalls:
    unary: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(getattr(desk, name)) for name in ("one", "slow", "aborted")
    }
    many = ("generated", "failing", "writing", "cancelled", "waiting")
    stream: dict[str, Any] = {
        name: grpc.unary_stream_rpc_method_handler(getattr(desk, name)) for name in many
    }
    calls = LocalCalls(max_unary_s)
    calls.add_generic(grpc.method_handlers_generic_handler("trial", {**unary, **stream}))
    return calls


async def test_a_handler_sees_who_calls_and_from_where():
    assert await calls_of(Desk()).unary("/trial/one", b"", CALLER) == b"user:ann r-1 10.0.0.1:5"


async def test_a_call_that_takes_too_long_is_ended():
    with pytest.raises(DeadlineExceeded) as caught:
        await calls_of(Desk(), 0.02).unary("/trial/slow", b"", CALLER)
    assert caught.value.reason == "TOO_SLOW"


async def test_what_a_service_answered_is_the_error_that_it_raised():
    with pytest.raises(NotFound) as caught:
        await calls_of(Desk()).unary("/trial/aborted", b"", CALLER)
    assert (caught.value.reason, caught.value.message, caught.value.metadata) == (
        "NO_CAT",
        "there is no cat",
        {"name": "Tom"},
    )


async def test_methods_that_nobody_serves_are_refused():
    with pytest.raises(Unimplemented):
        await calls_of(Desk()).unary("/trial/none", b"", CALLER)


@pytest.mark.parametrize("name", ["generated", "writing"])
async def test_a_stream_arrives_whole_and_in_order(name):
    answers = [each async for each in calls_of(Desk()).stream(f"/trial/{name}", b"", CALLER)]
    assert answers[:2] == ([b"0", b"1"] if name == "generated" else [b"1", b"2"])
    assert len(answers) == (1000 if name == "generated" else 2)


@pytest.mark.parametrize(
    ("name", "before", "error"), [("failing", 2, ResourceExhausted), ("cancelled", 1, Unavailable)]
)
async def test_an_error_in_a_stream_comes_after_what_was_sent_before(name, before, error):
    async with aclosing(calls_of(Desk()).stream(f"/trial/{name}", b"", CALLER)) as answers:
        assert [await anext(answers) for _ in range(before)] == [b"1", b"2"][:before]
        with pytest.raises(error):
            await anext(answers)


async def test_a_slow_reader_holds_up_the_writer_and_leaving_ends_it():
    desk = Desk()
    async with aclosing(calls_of(desk).stream("/trial/generated", b"", CALLER)) as answers:
        assert await anext(answers) == b"0"
        for _ in range(20):
            await asyncio.sleep(0)
        assert desk.written <= 2
    await asyncio.wait_for(desk.ended.wait(), 5)


async def test_a_reader_that_is_cancelled_ends_a_stream_that_says_nothing():
    desk = Desk()

    async def read() -> None:
        async with aclosing(calls_of(desk).stream("/trial/waiting", b"", CALLER)) as answers:
            await anext(answers)

    task = asyncio.create_task(read())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.ended.is_set()
