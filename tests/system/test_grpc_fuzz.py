"""Every method of the public port, with messages that no honest client sends: each is answered, never by INTERNAL."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from biosegment_gateway.contract import public_methods

from biosegment.auth import SERVICES
from biosegment.client.resources import JobState
from biosegment.rpc.call import bearer
from biosegment.rpc.runtime import keep_status
from tests.system.message_maker import MessageMaker
from tests.system.platform import Platform, running
from tests.system.tissue import SAMPLE_SHAPE, Bench, set_up, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SEED = 20_261_130
ROUNDS = 48
AT_ONCE = 6
BUDGET_S = 300.0
"""Rounds that do not fit into it are left out; some must."""
LEAST_ROUNDS = 6
CALL_S = 6.0
RESPONSES = 5
"""Of a stream; then the caller leaves."""
OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
HARMLESS = re.compile("Delete|Revoke|UpdateUser|SetPassword|EndSession|RemoveMember|SetMember")
"""Methods that could take the ground from under the others."""


@dataclass(slots=True)
class Tally:
    """What came of the calls."""

    codes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scene:
    platform: Platform
    bench: Bench
    names: dict[str, list[str]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("fuzz")
    tissue = write_tissue(folder / "in")
    # No job may compute for long: there is one CPU for them, and here nobody waits for any.
    settings = {"BIOSEGMENT_TRAINER__RAY_CPUS": "1"}
    with (
        running(folder, import_root=folder / "in", environment=settings) as platform,
        platform.connect() as client,
    ):
        bench = set_up(client, tissue, "em", SAMPLE_SHAPE)
        annotation = bench.annotate_next(1)[0]
        sample = client.samples.claim(bench.project, 1).samples[0]
        jobs = [job.name for job in client.jobs.list(bench.project)]
        names = {
            "project": [bench.project],
            "volume": [bench.volume],
            "layer": [layer.name for layer in client.volumes.layers(bench.volume)],
            "annotation": [annotation.name],
            "sample": [sample.name],
            "lease": [sample.lease_token],
            "job": jobs,
            "user": ["admin", "users/admin"],
            "uri": [str(tissue.path)],
            "strategy": ["entropy", "stratified"],
        }
        yield Scene(platform, bench, names)


def test_no_message_on_any_method_is_our_mistake(scene: Scene) -> None:
    before = {service: scene.platform.process(service).pid for service in SERVICES}
    tally = asyncio.run(_fuzz(scene))
    logs = "\n".join(_errors(scene.platform, service) for service in SERVICES)
    assert not tally.failures, "\n".join(tally.failures[:40]) + "\n" + logs
    assert {service: scene.platform.process(service).pid for service in SERVICES} == before, "one died"
    assert tally.codes["INVALID_ARGUMENT"] > 100, tally.codes
    assert tally.codes["OK"] > 20, tally.codes
    # The loop still works.
    scene.bench.annotate_next(1)
    assert scene.bench.client.platform.self().is_admin


async def _fuzz(scene: Scene) -> Tally:
    methods, tally = sorted(public_methods().items()), Tally()
    maker = MessageMaker(random.Random(SEED), scene.names)
    connection = scene.bench.client.connection
    started = time.monotonic()
    async with grpc.aio.insecure_channel(connection.address) as channel:
        for number in range(ROUNDS):
            if number >= LEAST_ROUNDS and time.monotonic() - started > BUDGET_S:
                break
            requests = [(path, method, _request(maker, method, number)) for path, method in methods]
            for first in range(0, len(requests), AT_ONCE):
                together = requests[first : first + AT_ONCE]
                await asyncio.gather(*(_call(channel, connection.token, *each, tally) for each in together))
            _cancel_jobs(scene)
    print(f"{sum(tally.codes.values())} calls, {number + 1} rounds: {dict(tally.codes)}")
    return tally


def _request(maker: MessageMaker, method: Any, number: int) -> bytes:
    harmless = bool(HARMLESS.search(method.name))
    match number % 6:
        case 0:
            return maker.request(method.input_type, 0.0, harmless)
        case 1 | 2:
            return maker.request(method.input_type, 0.15, harmless)
        case 3:
            return maker.request(method.input_type, 0.7, harmless)
        case 4:
            # Of what exists a flipped byte is still a name that exists.
            return maker.damaged(maker.request(method.input_type, 0.0, harmless))
    return maker.noise()


async def _call(channel: Any, token: str, path: str, method: Any, request: bytes, tally: Tally) -> None:
    call = keep_status(channel.stream_stream(path)(metadata=bearer(token), timeout=CALL_S))
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for _ in range(3 if method.client_streaming else 1):
            await call.write(request)
        await call.done_writing()
    with contextlib.suppress(grpc.aio.AioRpcError):
        for _ in range(RESPONSES):
            if await call.read() is grpc.aio.EOF:
                break
        else:
            call.cancel()
    code, details = await call.code(), await call.details() or ""
    tally.codes[code.name] += 1
    if code in OURS or (code is grpc.StatusCode.UNAVAILABLE and "cannot be reached" in details):
        tally.failures.append(f"{code.name} {path} {details[:300]} <- {request[:400]!r}")


def _cancel_jobs(scene: Scene) -> None:
    client = scene.bench.client
    for state in (JobState.QUEUED, JobState.RUNNING):
        for job in client.jobs.list(scene.bench.project, state=state.value):
            with contextlib.suppress(Exception):
                client.jobs.cancel(job.name)


def _errors(platform: Platform, service: str) -> str:
    lines = [
        line
        for line in platform.log(service).splitlines()
        if '"level": "error"' in line or "rpc_failed" in line
    ]
    return f"--- {service}\n" + "\n".join(line[-3000:] for line in lines[-12:])
