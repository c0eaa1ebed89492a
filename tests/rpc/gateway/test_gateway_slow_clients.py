"""Clients of the HTTP port that are slow, never end, or are many."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from biosegment_gateway.audit import Recording
from biosegment_gateway.gateway import open_gateway
from biosegment_gateway.http import connection, pace, server

from tests.rpc.gateway.wire import WAIT_S, wire

CALL = "/api/IdentityService/GetSelf"
SLOW = 0.3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """The same limits, but short ones."""
    monkeypatch.setattr(server, "_TICKS", 1)
    # Longer, since an honest client has to be faster than that on a busy machine too.
    monkeypatch.setattr(connection, "IDLE_S", 2.0)
    monkeypatch.setattr(connection, "READING_S", SLOW)
    monkeypatch.setattr(connection, "CLOSING_S", SLOW)
    monkeypatch.setattr(pace, "BODY_PAUSE_S", SLOW)
    monkeypatch.setattr(pace, "BODY_GRACE_S", SLOW)


def _head(token: str, *lines: str, method: str = "POST", path: str = CALL) -> bytes:
    fixed = (f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *lines)
    return ("\r\n".join(fixed) + "\r\n\r\n").encode()


async def _answers(address: str) -> bool:
    while True:
        async with wire(address) as line:
            await line.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                return (await line.reply()).status == 200


async def test_who_connects_and_says_nothing_is_let_go(running):
    async with wire(running.http_address) as line:
        assert await line.ended() == b""


async def test_a_head_that_trickles_is_not_waited_for(running):
    async with wire(running.http_address) as line:
        async with asyncio.timeout(WAIT_S):
            await line.send(b"GET /healthz HTTP/1.1\r\n")
            ended = asyncio.create_task(line.ended())
            while not ended.done():
                await line.send(b"X-More: 1\r\n")
                await asyncio.wait({ended}, timeout=0.02)
        assert b"200" not in await ended


async def test_who_asked_once_may_not_trickle_afterwards(running):
    async with wire(running.http_address) as line:
        await line.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await line.reply()).status == 200
        ended = asyncio.create_task(line.ended())
        async with asyncio.timeout(WAIT_S):
            await line.send(b"GET /healthz HTTP/1.1\r\n")
            while not ended.done():
                await line.send(b"X-More: 1\r\n")
                await asyncio.wait({ended}, timeout=0.02)


async def test_a_body_that_stands_still_is_answered(running, admin_token):
    async with wire(running.http_address) as line:
        await line.send(_head(admin_token, "Content-Type: application/json", "Content-Length: 100") + b"{")
        reply = await line.reply()
        assert (reply.status, reply.json["reason"]) == (408, "BODY_TOO_SLOW")
        assert reply.headers["connection"] == "close"
        assert await line.ended() == b""


async def test_a_body_that_trickles_is_answered(running, admin_token):
    async with wire(running.http_address) as line:
        await line.send(_head(admin_token, "Content-Type: application/json", "Content-Length: 100000"))
        replied = asyncio.create_task(line.reply())
        async with asyncio.timeout(WAIT_S):
            while not replied.done():
                await line.send(b" ")
                await asyncio.wait({replied}, timeout=0.02)
        assert (replied.result().status, replied.result().json["reason"]) == (408, "BODY_TOO_SLOW")


async def test_a_body_without_an_end_is_refused_for_its_size(running, admin_token, monkeypatch):
    monkeypatch.setattr(pace, "BODY_PAUSE_S", 600.0)
    monkeypatch.setattr(pace, "BODY_GRACE_S", 600.0)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with wire(running.http_address) as line:
        await line.send(_head(admin_token, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        replied = asyncio.create_task(line.reply())
        async with asyncio.timeout(WAIT_S):
            while not replied.done():
                await line.send(chunk)
                await asyncio.sleep(0)
        assert (replied.result().status, replied.result().json["reason"]) == (413, "BODY_TOO_LARGE")
        await line.ended()


async def test_who_goes_on_sending_after_the_answer_is_let_go(running):
    async with wire(running.http_address) as line:
        await line.send(b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await line.reply()).status >= 400
        ended = asyncio.create_task(line.ended())
        async with asyncio.timeout(WAIT_S):
            while not ended.done():
                await line.send(b"1\r\n \r\n")
                await asyncio.wait({ended}, timeout=0.02)


async def test_who_does_not_read_the_answer_is_let_go(running, admin_token):
    for number in range(20_000):
        running.audit.note(Recording("test/Fill", resource=f"{number:0300}"), "")
    async with wire(running.http_address) as line:
        await line.send(_head(admin_token, method="GET", path="/audit/events.jsonl"))
        async with asyncio.timeout(WAIT_S):
            while not running.http._server.server_state.connections:
                await asyncio.sleep(0.01)
            # Nothing is read here, until the server has given the connection up.
            while running.http._server.server_state.connections:
                await asyncio.sleep(0.05)
        assert not running.http._server.server_state.tasks or await _no_tasks(running)


async def _no_tasks(running) -> bool:
    async with asyncio.timeout(WAIT_S):
        while running.http._server.server_state.tasks:
            await asyncio.sleep(0.01)
    return True


async def test_idle_connections_make_room_for_others(upstreams, make_settings, monkeypatch):
    monkeypatch.setattr(connection, "IDLE_S", 600.0)
    settings = make_settings(upstreams.addresses, max_http_connections=32)
    async with open_gateway(settings) as gateway, contextlib.AsyncExitStack() as lines:
        idle = [await lines.enter_async_context(wire(gateway.http_address)) for _ in range(100)]
        assert await _answers(gateway.http_address)
        assert len(gateway.http._server.server_state.connections) <= 32
        await idle[0].ended()  # who waited longest


async def test_too_many_requests_at_a_time_are_sent_away_but_health_is_told(
    upstreams, make_settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(pace, "BODY_PAUSE_S", 600.0)
    monkeypatch.setattr(pace, "BODY_GRACE_S", 600.0)
    settings = make_settings(upstreams.addresses, max_http_requests=2)
    async with open_gateway(settings) as gateway, contextlib.AsyncExitStack() as lines:
        token = (tmp_path / "admin-token").read_text().strip()
        for _ in range(2):
            line = await lines.enter_async_context(wire(gateway.http_address))
            await line.send(_head(token, "Content-Type: application/json", "Content-Length: 100"))
        async with asyncio.timeout(WAIT_S):
            while len(gateway.http._server.server_state.tasks) < 2:
                await asyncio.sleep(0.01)
        async with wire(gateway.http_address) as late:
            await late.send(_head(token, "Content-Length: 0"))
            reply = await late.reply()
            assert (reply.status, reply.json["reason"]) == (503, "TOO_MANY_REQUESTS_AT_ONCE")
            assert reply.headers["retry-after"] == "1"
        assert await _answers(gateway.http_address)


NONSENSE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 100_000 + b"\r\n",
    b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n" * 100_000,
    bytes(range(256)) * 1000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n",
]


async def test_what_is_no_request_is_refused_and_the_next_one_answered(running, caplog):
    for data in NONSENSE:
        async with wire(running.http_address) as line:
            await line.send(data)
            said = await line.ended()
        first = said.partition(b"\r\n")[0]
        assert not said or first.startswith(b"HTTP/1.1 "), (data[:50], said[:100])
        assert b" 500 " not in first, data[:50]
        assert await _answers(running.http_address)
        wrong = [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
        assert not wrong, data[:50]
