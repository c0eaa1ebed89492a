"""Calls that are no calls: half-open, with messages that are none, from those who are sent away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.auth import Principal, PrincipalVerifier
from biosegment.errors import InvalidArgument, ResourceExhausted, Unauthenticated
from biosegment.rpc.call import bearer
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.errors import retry_after_s
from biosegment.rpc.server import RpcServer
from tests.rpc.trial_service import NAME, TrialService, TrialStub, request

WAIT_S = 30.0
SHAPES = ("Unary", "Down", "Up", "Both")
Text = wrappers_pb2.StringValue


class _Texts(grpc.GenericRpcHandler):
    """Methods of messages, in every shape; `calls` counts what was reached."""

    def __init__(self) -> None:
        self.calls = 0

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        codec = {"request_deserializer": Text.FromString, "response_serializer": Text.SerializeToString}
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self._one, **codec),
            "Down": grpc.unary_stream_rpc_method_handler(self._down, **codec),
            "Up": grpc.stream_unary_rpc_method_handler(self._up, **codec),
            "Both": grpc.stream_stream_rpc_method_handler(self._both, **codec),
            "Wrong": grpc.unary_unary_rpc_method_handler(self._wrong, **codec),
        }[name]

    async def _one(self, message: Text, context: Any) -> Text:
        self.calls += 1
        return message

    async def _down(self, message: Text, context: Any) -> Any:
        self.calls += 1
        yield message

    async def _up(self, messages: Any, context: Any) -> Text:
        found = [message.value async for message in messages]
        self.calls += 1
        return Text(value="".join(found))

    async def _both(self, messages: Any, context: Any) -> Any:
        async for message in messages:
            yield message

    async def _wrong(self, message: Text, context: Any) -> Any:
        return object()


class _Gate:
    """Sends callers away as long as `refusals` says."""

    def __init__(self) -> None:
        self.refusals = 0
        self.inside = 0
        self.refused: list[tuple[str, str, str]] = []

    @contextmanager
    def admitted(self, principal: Principal) -> Iterator[None]:
        if self.refusals:
            self.refusals -= 1
            raise ResourceExhausted("RATE_LIMITED", "too often", retry_after_s="0.01")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def refused_call(self, error: Unauthenticated, token: str, context: Any) -> None:
        self.refused.append((error.reason, token, context.peer()))


@pytest.fixture
def texts() -> _Texts:
    return _Texts()


@pytest.fixture
def gate() -> _Gate:
    return _Gate()


@pytest.fixture
async def place(texts, gate, trial: TrialService, verifier: PrincipalVerifier):
    server = RpcServer("127.0.0.1:0", verifier, gate=gate)
    server.add_generic(trial, NAME)
    server.add_generic(texts, "x.Texts")
    yield await server.start()
    await server.stop(0)


@pytest.fixture
async def raw(place):
    async with grpc.aio.insecure_channel(place) as channel:
        yield channel


@pytest.fixture
def trial() -> TrialService:
    return _OfItsOwn()


class _OfItsOwn(TrialService):
    def service(self, handler_call_details: Any) -> Any:
        return None if "x.Texts" in handler_call_details.method else super().service(handler_call_details)


def _call(channel: Any, shape: str, message: bytes, metadata: Any = ()) -> Any:
    method = f"/x.Texts/{shape}"

    async def messages():
        yield message

    if shape in ("Unary", "Wrong"):
        return channel.unary_unary(method)(message, metadata=metadata)
    if shape == "Down":
        return channel.unary_stream(method)(message, metadata=metadata)
    if shape == "Up":
        return channel.stream_unary(method)(messages(), metadata=metadata)
    return channel.stream_stream(method)(messages(), metadata=metadata)


async def _code(call: Any) -> grpc.StatusCode:
    with contextlib.suppress(grpc.aio.AioRpcError):
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return await call.code()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x7fshort", b"\x0a\x02\xff\xfe", b"\x0b\x0b"])
async def test_a_message_that_is_none_is_the_callers_mistake(raw, texts, sampler, shape, message):
    call = _call(raw, shape, message, bearer(sampler()))
    assert await _code(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert texts.calls == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_messages_pass_in_every_shape(raw, sampler, shape):
    call = _call(raw, shape, Text(value="ä").SerializeToString(), bearer(sampler()))
    assert await _code(call) is grpc.StatusCode.OK


async def test_an_answer_that_cannot_be_sent_is_our_mistake_with_a_line_in_the_log(raw, sampler):
    call = _call(raw, "Wrong", b"", bearer(sampler()))
    assert await _code(call) is grpc.StatusCode.INTERNAL
    assert "details are in the log" in await call.details()


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_without_a_token_is_answered_before_its_message_comes(raw, gate, shape):
    # A message that never comes would hold a place that others need.
    call = raw.stream_stream(f"/x.Texts/{shape}")(metadata=bearer("nobody's"))
    async with asyncio.timeout(WAIT_S):
        assert await _code(call) is grpc.StatusCode.UNAUTHENTICATED
    (refused,) = gate.refused
    assert refused[:2] == ("BAD_PRINCIPAL", "nobody's")
    assert refused[2].startswith("ipv4:127.0.0.1:")


async def _count(responses: Any) -> int:
    return len([response async for response in responses])


async def test_an_answer_that_overtakes_the_requests_is_not_lost(place, sampler):
    async def many():
        for _ in range(50):
            yield b"\xff"

    async with connect(place, credentials=sampler, policy=CallPolicy(attempts=1)) as channel:
        up: Any = channel.stream_unary("/x.Texts/Up")
        both: Any = channel.stream_stream("/x.Texts/Both")
        for _ in range(40):
            for call in (up(many()), _count(both(many()))):
                with pytest.raises(InvalidArgument) as caught:
                    await call
                assert caught.value.reason == "BAD_MESSAGE"


@pytest.fixture
async def patient(place, sampler: ServiceCredentials):
    """A channel that would repeat nothing by itself."""
    async with connect(place, credentials=sampler, policy=CallPolicy(attempts=1)) as channel:
        yield channel


async def test_callers_wait_as_they_are_told_whatever_they_call(patient, trial, gate):
    gate.refusals = 3
    await TrialStub(patient).change_one(request())
    assert (gate.refusals, trial.calls["ChangeOne"]) == (0, 1)


async def test_streams_wait_as_they_are_told(patient, gate):
    gate.refusals = 3
    call = patient.unary_stream("/x.Texts/Down")(b"")
    assert [message async for message in call] == [b""]
    assert gate.refusals == 0


async def test_a_caller_waits_no_longer_than_the_call_may_take(patient, gate):
    await patient.unary_unary("/x.Texts/Unary")(b"")
    gate.refusals = 1_000_000
    with pytest.raises(ResourceExhausted) as caught:
        await patient.unary_unary("/x.Texts/Unary")(b"", timeout=2.0)
    assert (caught.value.reason, retry_after_s(caught.value)) == ("RATE_LIMITED", 0.01)


async def test_the_wait_is_also_said_as_google_does(raw, gate, sampler):
    gate.refusals = 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _call(raw, "Unary", b"", bearer(sampler()))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    (packed,) = [value for key, value in caught.value.trailing_metadata() if key == "grpc-status-details-bin"]
    details = status_pb2.Status.FromString(packed).details
    assert any(detail.Unpack(retry) for detail in details if detail.Is(retry.DESCRIPTOR))
    assert retry.retry_delay.ToTimedelta().total_seconds() == 0.01


async def test_the_gate_closes_behind_every_call(patient, raw, gate, sampler):
    await TrialStub(patient).change_one(request())
    with pytest.raises(InvalidArgument):
        await patient.unary_unary("/x.Texts/Unary")(b"\xff")
    running = asyncio.ensure_future(TrialStub(patient).change_one(request(sleep_s=30)))
    async with asyncio.timeout(WAIT_S):
        while not gate.inside:
            await asyncio.sleep(0.01)
        running.cancel()
        while gate.inside:
            await asyncio.sleep(0.01)


async def test_health_passes_no_gate(raw, gate):
    gate.refusals = 1
    answer = await health_pb2_grpc.HealthStub(raw).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert gate.refusals == 1
