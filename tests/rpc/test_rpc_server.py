from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.auth import PrincipalVerifier
from biosegment.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.server import RpcServer, ServerLimits, run_until_signal, split_address
from tests.rpc.trial_service import NAME, TrialService, TrialStub, request


async def test_the_address_names_the_port_that_was_taken(address: str) -> None:
    host, port = split_address(address)
    assert host == "127.0.0.1"
    with socket.create_connection((host, port), timeout=5):
        pass


async def test_a_port_in_use_is_refused_by_name(address: str, verifier: PrincipalVerifier) -> None:
    with pytest.raises(FailedPrecondition, match=address) as caught:
        await RpcServer(address, verifier).start()
    assert caught.value.reason == "PORT_IN_USE"


async def test_an_address_of_another_machine_cannot_be_listened_on(verifier: PrincipalVerifier) -> None:
    server = RpcServer("192.0.2.1:0", verifier, allow_insecure_listen=True)
    with pytest.raises(FailedPrecondition) as caught:
        await server.start()
    assert caught.value.reason == "CANNOT_LISTEN"


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "example.org:1", "192.168.1.5:50051"])
def test_listening_beyond_loopback_needs_permission(listen: str, verifier: PrincipalVerifier) -> None:
    with pytest.raises(InvalidArgument, match="ALLOW_INSECURE_LISTEN"):
        RpcServer(listen, verifier)
    RpcServer(listen, verifier, allow_insecure_listen=True)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:5", "localhost:1", "[::1]:1"])
def test_loopback_needs_no_permission(listen: str, verifier: PrincipalVerifier) -> None:
    RpcServer(listen, verifier)


@pytest.mark.parametrize("listen", ["", "50051", ":1", "host:", "host:x", "host:70000"])
def test_a_wrong_address_is_refused(listen: str, verifier: PrincipalVerifier) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RpcServer(listen, verifier)
    assert caught.value.reason == "BAD_LISTEN_ADDRESS"


async def test_stopping_lets_a_running_call_end_and_refuses_new_ones(
    trial: TrialService, verifier: PrincipalVerifier, sampler: ServiceCredentials
) -> None:
    server = RpcServer("127.0.0.1:0", verifier)
    server.add_generic(trial, NAME)
    address = await server.start()
    async with connect(address, credentials=sampler, policy=CallPolicy(attempts=1)) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=NAME))
        statuses = health.__aiter__()
        assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.SERVING
        running = asyncio.ensure_future(TrialStub(channel).change_one(request(sleep_s=0.3)))
        await trial.running.wait()
        stopping = asyncio.create_task(server.stop(5))
        assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
        assert (await running).startswith(b"service:sampler")
        await stopping
        await server.wait()
        with pytest.raises(Unavailable):
            await TrialStub(channel).change_one(b"{}")


async def test_a_stream_that_outlasts_the_grace_is_ended(
    trial: TrialService, verifier: PrincipalVerifier, sampler: ServiceCredentials
) -> None:
    server = RpcServer("127.0.0.1:0", verifier)
    server.add_generic(trial, NAME)
    address = await server.start()
    async with connect(address, credentials=sampler, policy=CallPolicy(attempts=1)) as channel:
        answers = TrialStub(channel).watch_many(request(before=1, sleep_s=3600)).__aiter__()
        await anext(answers)
        await server.stop(0.1)
        with pytest.raises(Unavailable):
            await anext(answers)


async def test_a_unary_call_may_not_take_longer_than_the_limit_but_a_stream_may(
    trial: TrialService, verifier: PrincipalVerifier, sampler: ServiceCredentials
) -> None:
    server = RpcServer("127.0.0.1:0", verifier, ServerLimits(max_unary_s=0.05))
    server.add_generic(trial, NAME)
    address = await server.start()
    try:
        async with connect(address, credentials=sampler) as channel:
            with pytest.raises(DeadlineExceeded) as caught:
                await TrialStub(channel).get_one(request(sleep_s=60))
            assert caught.value.reason == "TOO_SLOW"
            stream = TrialStub(channel).watch_many(request(sleep_s=0.15))
            assert len([answer async for answer in stream]) == 1
    finally:
        await server.stop(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_in_order(keys: Path, number: signal.Signals) -> None:
    # A process of its own: a signal that were not handled would end the tests.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.rpc.serving_child", str(keys), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        address = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        assert split_address(address)[0] == "127.0.0.1"
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
            process.send_signal(number)
            rest = await asyncio.wait_for(process.stdout.read(), 30)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert b"cancelled" in rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_background_work_that_fails_ends_the_process_with_its_error(
    verifier: PrincipalVerifier,
) -> None:
    server = RpcServer("127.0.0.1:0", verifier)
    await server.start()

    async def done() -> None:
        return

    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise Unavailable("DATABASE_UNAVAILABLE", "gone")

    with pytest.raises(Unavailable, match="gone"):
        await asyncio.wait_for(run_until_signal(server, 0, done(), fail()), 10)
    await asyncio.wait_for(server.wait(), 1)


async def test_readiness_can_be_withdrawn_while_the_process_lives(verifier: PrincipalVerifier) -> None:
    server = RpcServer("127.0.0.1:0", verifier)
    address = await server.start()
    try:
        await server.set_serving("", False)
        async with connect(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            ready = await stub.Check(health_pb2.HealthCheckRequest(service=""))
            alive = await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))
        assert ready.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert alive.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(0)
