from __future__ import annotations

import string
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from biosegment import errors
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.rpc.errors import from_rpc_error, raising_biosegment_errors, to_json, to_status
from tests.rpc.trial_service import TrialStub, request

_PLAIN = string.punctuation.replace("%", "") + " "
"""What gRPC does not encode, besides letters and digits."""


async def _requests(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _get_one(channel: grpc.aio.Channel, body: bytes) -> Any:
    return await TrialStub(channel).get_one(body)


async def _watch_many(channel: grpc.aio.Channel, body: bytes) -> Any:
    return [answer async for answer in TrialStub(channel).watch_many(body)]


async def _send_all(channel: grpc.aio.Channel, body: bytes) -> Any:
    return await TrialStub(channel).send_all(_requests(body))


async def _send_all_by_writing(channel: grpc.aio.Channel, body: bytes) -> Any:
    call = TrialStub(channel).send_all()
    await call.write(body)
    await call.done_writing()
    return await call


async def _talk(channel: grpc.aio.Channel, body: bytes) -> Any:
    return [answer async for answer in TrialStub(channel).talk(_requests(body))]


SHAPES = (_get_one, _watch_many, _send_all, _send_all_by_writing, _talk)
Shape = Callable[[grpc.aio.Channel, bytes], Awaitable[Any]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", errors.ERRORS)
async def test_every_error_comes_back_as_it_was_raised(
    channel: grpc.aio.Channel, shape: Shape, kind: type[errors.BiosegmentError]
) -> None:
    body = request(
        error=kind.__name__, reason="SOME_REASON", message="Größe 3 µm is wrong", metadata={"volume": "v1"}
    )
    with pytest.raises(kind) as caught:
        await shape(channel, body)
    assert type(caught.value) is kind
    assert caught.value.reason == "SOME_REASON"
    assert caught.value.message == "Größe 3 µm is wrong"
    assert caught.value.metadata == {"volume": "v1"}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_bug_is_internal_and_its_details_stay_on_the_server(
    channel: grpc.aio.Channel, shape: Shape
) -> None:
    with pytest.raises(errors.Internal) as caught:
        await shape(channel, request(bug="password=swordfish"))
    assert "swordfish" not in str(caught.value)
    assert caught.value.metadata["error_id"] in caught.value.message


async def test_an_error_arrives_after_the_messages_before_it(channel: grpc.aio.Channel) -> None:
    body = request(before=3, error="NotFound", reason="GONE", message="gone")
    answers = TrialStub(channel).watch_many(body).__aiter__()
    received = [await anext(answers) for _ in range(3)]
    with pytest.raises(errors.NotFound):
        await anext(answers)
    assert len(received) == 3


@pytest.mark.parametrize(("letter", "kept"), [("x", 1000), ("ü", 500), ("線", 333), ("😀", 250)])
async def test_a_long_message_is_cut_and_not_lost(channel: grpc.aio.Channel, letter: str, kept: int) -> None:
    values = {f"number{number}": letter * 20_000 for number in range(20)}
    body = request(error="Conflict", reason="LONG", message=letter * 20_000, metadata=values)
    with pytest.raises(errors.Conflict) as caught:
        await _get_one(channel, body)
    assert caught.value.reason == "LONG"
    assert caught.value.message == letter * (kept - 1) + "…"
    assert caught.value.metadata["number7"] == letter * (200 // len(letter.encode()))


@pytest.mark.parametrize("letter", ["x", "%", "\n", "ü", "線", "😀"])
def test_no_error_takes_more_than_peers_accept_by_default(letter: str) -> None:
    values = {f"number{number}": letter * 300 for number in range(8)} | {"retry_after_s": "1"}
    status = to_status(errors.ResourceExhausted("LONG", letter * 2000, **values))
    details = sum(4 * -(-len(value) // 3) for _, value in status.trailing_metadata)
    # Beyond 8192 bytes gRPC refuses some at random; each entry counts 32 bytes and its name.
    assert len(quote(status.details, safe=_PLAIN)) + details + 5 * 60 < 8192


def test_a_message_at_the_limit_is_sent_whole() -> None:
    for message in ("x" * 1000, "ü" * 500, "x" * 400 + "線" * 288, ""):
        assert to_status(errors.NotFound("LONG", message)).details == message


def test_a_message_that_is_not_valid_text_is_sent_all_the_same() -> None:
    status = to_status(errors.NotFound("NO_FILE", "no file \udcff", path="\udcff"))
    assert status.code is grpc.StatusCode.NOT_FOUND
    assert status.details == "no file ?"


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    with pytest.raises(errors.Unimplemented, match="UNIMPLEMENTED"):
        await TrialStub(channel).nothing(b"")


async def test_a_server_that_is_not_there_is_unavailable_and_named(sampler: ServiceCredentials) -> None:
    async with connect("127.0.0.1:1", credentials=sampler) as channel:
        with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1") as caught:
            await TrialStub(channel).change_one(b"{}")
    assert caught.value.reason == "SERVICE_UNAVAILABLE"


async def test_a_message_beyond_the_limit_is_refused_by_name(channel: grpc.aio.Channel) -> None:
    with pytest.raises(errors.ResourceExhausted) as caught:
        await TrialStub(channel).change_one(b"x" * (8 * 1024 * 1024 + 1))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


async def test_a_plain_channel_gets_our_errors_with_the_context_manager(
    address: str, sampler: ServiceCredentials
) -> None:
    async with grpc.aio.insecure_channel(address) as plain:
        body = request(error="AlreadyExists", reason="TAKEN", message="taken")
        with pytest.raises(errors.AlreadyExists, match="taken"), raising_biosegment_errors(address):
            await TrialStub(plain).get_one(body, metadata=sampler.on_behalf_of("ann"))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_plain_code_becomes_an_error_that_keeps_its_text(code: grpc.StatusCode) -> None:
    error = from_rpc_error(
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="why it failed"),
        "host:1",
    )
    expected = {
        grpc.StatusCode.CANCELLED: errors.Unavailable,
        grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
        grpc.StatusCode.UNKNOWN: errors.Internal,
        grpc.StatusCode.DATA_LOSS: errors.Internal,
    }.get(code) or errors.BY_GRPC_CODE[code.name]
    assert type(error) is expected
    assert "why it failed" in error.message or "host:1" in error.message


def test_json_has_the_code_the_reason_the_message_and_the_details() -> None:
    assert to_json(errors.Conflict("STALE_ETAG", "read it again", etag="7")) == {
        "code": "ABORTED",
        "reason": "STALE_ETAG",
        "message": "read it again",
        "details": {"etag": "7"},
    }
