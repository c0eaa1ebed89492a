from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from biosegment.auth import PrincipalSigner
from biosegment.errors import (
    Conflict,
    DeadlineExceeded,
    Internal,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from biosegment.rpc.call import bearer
from biosegment.rpc.channel import ServiceCredentials
from tests.rpc.gateway.conftest import DATASTORE, SAMPLER, TRAINER, Upstreams
from tests.rpc.trial_service import request

# A method that is taken for a stream, and one that is known to be one-to-one.
ONE = pytest.mark.parametrize("one", [DATASTORE + "GetOne", SAMPLER + "GetPool"])
CHANGE = pytest.mark.parametrize("change", [DATASTORE + "ChangeOne", SAMPLER + "UpdatePool"])


@pytest.mark.parametrize(
    ("prefix", "service"), [(DATASTORE, "datastore"), (SAMPLER, "sampler"), (TRAINER, "trainer")]
)
async def test_a_call_reaches_the_service_of_its_package_and_no_other(client, upstreams, prefix, service):
    await client.unary_unary(prefix + "GetOne")(request())
    assert {name: trial.calls["GetOne"] for name, trial in upstreams.trials.items()} == {
        name: int(name == service) for name in upstreams.trials
    }


@ONE
async def test_the_service_sees_the_user_and_the_request_id_but_never_the_api_token(client, admin_token, one):
    call = client.unary_unary(one)(request(), metadata=(("x-request-id", "trial-7"),))
    answer = (await call).decode()
    assert "user:admin" in answer
    assert "trial-7" in answer
    assert admin_token not in answer


async def test_streams_from_the_service_arrive_in_order_and_whole(client):
    answers = [a async for a in client.unary_stream(DATASTORE + "WatchMany")(request(before=30))]
    assert len(answers) == 31


async def test_streams_to_the_service_arrive_whole(client):
    bodies = [request(padding="x" * n) for n in (10, 100_000, 1_000_000)]

    async def send() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    total = await client.stream_unary(DATASTORE + "SendAll")(send())
    assert int(total) == sum(map(len, bodies))


async def test_a_conversation_goes_back_and_forth(client):
    call = client.stream_stream(DATASTORE + "Talk")()
    for _ in range(5):
        await call.write(request())
        assert b"user:admin" in await call.read()
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


@CHANGE
async def test_an_error_comes_with_reason_message_and_metadata(client, change):
    body = request(error="Conflict", reason="ETAG_MISMATCH", message="too slow by 3", metadata={"etag": "7"})
    with pytest.raises(Conflict) as caught:
        await client.unary_unary(change)(body)
    assert (caught.value.reason, caught.value.message, caught.value.metadata) == (
        "ETAG_MISMATCH",
        "too slow by 3",
        {"etag": "7"},
    )


@ONE
async def test_the_status_on_the_wire_is_the_very_one_that_the_service_sent(
    raw, upstreams: Upstreams, admin_token, keys, one
):
    body = request(error="NotFound", reason="NO_SUCH_THING", message="nichts – 何もない")
    seen = []
    service = "datastore" if "datastore" in one else "sampler"
    own = ServiceCredentials(PrincipalSigner("gateway", keys / "gateway.key"), service)
    async with grpc.aio.insecure_channel(upstreams.addresses[service]) as direct:
        for channel, token in ((raw, admin_token), (direct, own())):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(one)(body, metadata=bearer(token))
            error = caught.value
            details = [v for k, v in error.trailing_metadata() if k == "grpc-status-details-bin"]
            seen.append((error.code(), error.details(), details))
    assert seen[0] == seen[1]
    assert len(seen[0][2]) == 1


async def test_an_error_in_the_middle_of_a_stream_comes_after_what_was_sent_before(client):
    body = request(before=3, error="ResourceExhausted", reason="ENOUGH", message="no more")
    answers = aiter(client.unary_stream(DATASTORE + "WatchMany")(body))
    for _ in range(3):
        await anext(answers)
    with pytest.raises(ResourceExhausted, match="no more"):
        await anext(answers)


async def test_an_error_ends_a_stream_of_the_client_that_would_go_on(client):
    async def send() -> AsyncIterator[bytes]:
        yield request(error="NotFound", reason="NOWHERE", message="no place for this")
        await asyncio.sleep(60)
        yield request()

    started = time.monotonic()
    with pytest.raises(NotFound, match="no place"):
        await client.stream_unary(DATASTORE + "SendAll")(send())
    assert time.monotonic() - started < 20


@ONE
async def test_a_bug_in_a_service_stays_hidden(client, one):
    with pytest.raises(Internal) as caught:
        await client.unary_unary(one)(request(bug="secret detail"))
    assert "secret detail" not in caught.value.message


@ONE
async def test_the_deadline_of_the_client_ends_the_call_in_the_service(client, upstreams: Upstreams, one):
    trial, within_s = upstreams.trials["datastore" if "datastore" in one else "sampler"], 0.3
    while not trial.running.is_set():  # on a busy machine the deadline may come before the call does
        with pytest.raises(DeadlineExceeded):
            await client.unary_unary(one)(request(sleep_s=30), timeout=within_s)
        within_s *= 2
    await _ended(trial)


@pytest.mark.parametrize("shape", ["unary", "known unary", "stream"])
async def test_cancelling_reaches_the_service(client, upstreams: Upstreams, shape):
    trial = upstreams.trials["sampler" if shape == "known unary" else "datastore"]
    if shape != "stream":
        one = SAMPLER + "GetPool" if shape == "known unary" else DATASTORE + "GetOne"
        task = asyncio.ensure_future(client.unary_unary(one)(request(sleep_s=30)))
    else:
        call = client.unary_stream(DATASTORE + "WatchMany")(request(sleep_s=30))
        task = asyncio.ensure_future(anext(aiter(call)))
    await trial.running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _ended(trial)


async def test_a_slow_reader_holds_up_the_service_instead_of_filling_the_gateway(
    client, upstreams: Upstreams
):
    trial = upstreams.trials["datastore"]
    call = client.unary_stream(DATASTORE + "WatchMany")(request(before=400, padding_bytes=512 * 1024))
    answers = aiter(call)
    await anext(answers)
    sent = -1
    while sent != trial.calls["sent"]:  # until nothing moves any more
        sent = trial.calls["sent"]
        await asyncio.sleep(0.5)
    # What the windows of two connections hold, which grow with their speed; not the 200 MB of the stream.
    assert sent < 150
    assert len([answer async for answer in answers]) == 400


@pytest.mark.parametrize("method", ["GetOne", "GetPool"])
async def test_a_service_that_is_away_is_named(client, upstreams: Upstreams, method):
    await upstreams.servers["sampler"].stop(0)
    with pytest.raises(Unavailable, match="the sampler cannot be reached") as caught:
        await client.unary_unary(SAMPLER + method)(request())
    assert caught.value.metadata["service"] == "sampler"
    await client.unary_unary(DATASTORE + "GetOne")(request())


async def test_a_service_that_stops_during_a_stream_is_named(client, upstreams: Upstreams):
    call = client.unary_stream(TRAINER + "WatchMany")(request(before=1, sleep_s=30))
    answers = aiter(call)
    await anext(answers)
    await upstreams.servers["trainer"].stop(0)
    with pytest.raises(Unavailable, match="trainer"):
        await anext(answers)


async def test_what_workers_tell_the_trainer_is_not_forwarded(client, upstreams: Upstreams):
    method = "/biosegment.api.trainer.v1alpha1.WorkerService/GetOne"
    with pytest.raises(Unimplemented):
        await client.unary_unary(method)(request())
    assert not upstreams.trials["trainer"].calls


@pytest.mark.parametrize(
    "method",
    [
        "/biosegment.api.nowhere.v1alpha1.Service/GetOne",
        "/biosegment.internal.Service/GetOne",
        "/biosegment.api.job.v1alpha1.JobService/GetOne",
        "/biosegment.api.gateway.v1alpha1.Service/GetOne",
    ],
)
async def test_methods_of_no_service_are_refused(client, method):
    with pytest.raises(Unimplemented):
        await client.unary_unary(method)(request())


@ONE
async def test_many_calls_at_the_same_time_all_succeed(client, one):
    call = client.unary_unary(one)
    answers = await asyncio.gather(*(call(request()) for _ in range(500)))
    assert len(answers) == 500


async def _ended(trial) -> None:
    async with asyncio.timeout(30):
        while not trial.calls["ended"]:
            await asyncio.sleep(0.02)
