from __future__ import annotations

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from biosegment.auth import PrincipalVerifier
from biosegment.errors import DeadlineExceeded, Unavailable
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect, is_idempotent
from biosegment.rpc.server import RpcServer
from tests.rpc.trial_service import NAME, TrialService, TrialStub, request
from tests.servers.port import free_port


def _away(times: int, before: int = 0) -> bytes:
    return request(error="Unavailable", reason="BUSY", message="busy", times=times, before=before)


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("/a.B/GetVolume", None, True),
        ("/a.B/ListVolumes", None, True),
        ("/a.B/WatchJob", None, True),
        ("/a.B/CommitAnnotation", SimpleNamespace(request_id="1"), True),
        ("/a.B/CommitAnnotation", SimpleNamespace(request_id=""), False),
        ("/a.Get/DeleteVolume", SimpleNamespace(), False),
    ],
)
def test_reading_and_numbered_writing_may_be_repeated(method: str, body: object, expected: bool) -> None:
    assert is_idempotent(method, body) is expected


async def test_a_reading_call_is_tried_again_until_it_succeeds(
    channel: grpc.aio.Channel, trial: TrialService
) -> None:
    assert (await TrialStub(channel).get_one(_away(times=3))).startswith(b"service:sampler")
    assert trial.calls["GetOne"] == 4


async def test_attempts_are_limited(channel: grpc.aio.Channel, trial: TrialService) -> None:
    with pytest.raises(Unavailable, match="busy"):
        await TrialStub(channel).get_one(_away(times=100))
    assert trial.calls["GetOne"] == CallPolicy().attempts


async def test_who_says_why_it_cannot_is_asked_less_often_than_who_does_not_answer(
    address: str, sampler: ServiceCredentials, trial: TrialService
) -> None:
    policy = CallPolicy(attempts=40, first_pause_s=0.001, last_pause_s=0.001)
    async with connect(address, credentials=sampler, policy=policy) as channel:
        with pytest.raises(Unavailable, match="busy"):
            await TrialStub(channel).get_one(_away(times=100))
    assert trial.calls["GetOne"] == policy.answered_attempts < policy.attempts


async def test_a_call_that_was_refused_before_its_time_was_up_says_why(
    address: str, sampler: ServiceCredentials, trial: TrialService
) -> None:
    body = request(error="Unavailable", reason="BUSY", message="busy", times=1, then_sleep_s=30)
    async with connect(address, credentials=sampler, policy=CallPolicy(timeout_s=3.0)) as channel:
        with pytest.raises(Unavailable, match="busy"):
            await TrialStub(channel).get_one(body)
    assert trial.calls["GetOne"] == 2


async def test_a_changing_call_is_tried_once(channel: grpc.aio.Channel, trial: TrialService) -> None:
    with pytest.raises(Unavailable, match="busy"):
        await TrialStub(channel).change_one(_away(times=1))
    assert trial.calls["ChangeOne"] == 1


async def test_a_caller_may_say_which_calls_may_be_repeated(
    address: str, sampler: ServiceCredentials, trial: TrialService
) -> None:
    policy = CallPolicy(first_pause_s=0.01, idempotent=lambda method, body: method.endswith("/ChangeOne"))
    async with connect(address, credentials=sampler, policy=policy) as channel:
        await TrialStub(channel).change_one(_away(times=2))
    assert trial.calls["ChangeOne"] == 3


async def test_a_stream_begins_anew_while_nothing_has_arrived(
    channel: grpc.aio.Channel, trial: TrialService
) -> None:
    answers = [answer async for answer in TrialStub(channel).watch_many(_away(times=2))]
    assert len(answers) == 1
    assert trial.calls["WatchMany"] == 3


async def test_a_stream_is_not_repeated_after_its_first_message(
    channel: grpc.aio.Channel, trial: TrialService
) -> None:
    answers = TrialStub(channel).watch_many(_away(times=1, before=2)).__aiter__()
    received = [await anext(answers), await anext(answers)]
    with pytest.raises(Unavailable):
        await anext(answers)
    assert len(received) == 2
    assert trial.calls["WatchMany"] == 1


async def test_cancelling_a_stream_ends_it(channel: grpc.aio.Channel) -> None:
    call = TrialStub(channel).watch_many(request(before=1, sleep_s=3600))
    answers = call.__aiter__()
    await anext(answers)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await anext(answers)


async def test_a_call_waits_no_longer_than_it_was_told_retries_included(channel: grpc.aio.Channel) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(DeadlineExceeded) as caught:
        await TrialStub(channel).get_one(request(sleep_s=3600), timeout=0.2)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert loop.time() - started < 30


async def test_the_channel_has_a_time_limit_of_its_own(address: str, sampler: ServiceCredentials) -> None:
    policy = CallPolicy(timeout_s=0.1, stream_timeout_s=0.1)
    async with connect(address, credentials=sampler, policy=policy) as channel:
        with pytest.raises(DeadlineExceeded):
            await TrialStub(channel).get_one(request(sleep_s=3600))
        with pytest.raises(DeadlineExceeded):
            async for _ in TrialStub(channel).watch_many(request(sleep_s=3600)):
                pass


async def test_a_restarted_server_is_found_again_within_one_call(
    verifier: PrincipalVerifier, sampler: ServiceCredentials
) -> None:
    address = f"127.0.0.1:{free_port()}"
    first = await _serve_at(address, verifier)
    async with connect(address, credentials=sampler, policy=CallPolicy(attempts=20)) as channel:
        get_one = TrialStub(channel).get_one
        await get_one(b"{}")
        await first.stop(0)
        waiting = asyncio.ensure_future(get_one(b"{}"))
        await asyncio.sleep(0.3)
        second = await _serve_at(address, verifier)
        assert (await waiting).startswith(b"service:sampler")
        await second.stop(0)


async def test_a_service_that_was_away_for_long_is_found_again_within_one_call(
    verifier: PrincipalVerifier, sampler: ServiceCredentials
) -> None:
    place = f"127.0.0.1:{free_port()}"
    async with connect(place, credentials=sampler) as channel:
        with pytest.raises(Unavailable):
            await TrialStub(channel).get_one(b"{}")
        await asyncio.sleep(3)  # its pauses between attempts to connect are now as long as they get
        server = await _serve_at(place, verifier)
        assert (await TrialStub(channel).get_one(b"{}")).startswith(b"service:sampler")
        await server.stop(0)


async def test_a_new_channel_does_not_wait_out_the_pauses_of_an_older_one(
    verifier: PrincipalVerifier, sampler: ServiceCredentials
) -> None:
    place = f"127.0.0.1:{free_port()}"
    async with connect(place, credentials=sampler) as older:
        with pytest.raises(Unavailable):
            await TrialStub(older).get_one(b"{}")
        server = await _serve_at(place, verifier)
        async with connect(place, credentials=sampler, policy=CallPolicy(attempts=1)) as newer:
            assert (await TrialStub(newer).get_one(b"{}")).startswith(b"service:sampler")
        await server.stop(0)


async def _serve_at(address: str, verifier: PrincipalVerifier) -> RpcServer:
    server = RpcServer(address, verifier)
    server.add_generic(TrialService(), NAME)
    await server.start()
    return server


async def test_hundreds_of_calls_at_once_all_come_back(
    channel: grpc.aio.Channel, trial: TrialService
) -> None:
    get_one = TrialStub(channel).get_one

    async def call() -> bytes:
        return await get_one(b"{}")

    answers = await asyncio.gather(*(call() for _ in range(400)))
    assert len(answers) == 400
    assert trial.calls["GetOne"] == 400
