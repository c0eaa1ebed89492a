"""A service of bytes for trying the transport: one method of each shape, told by its JSON request what to do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

from biosegment import errors
from biosegment.rpc import current_principal, current_request_id

NAME = "biosegment.trial.TrialService"


def request(**what: Any) -> bytes:
    return json.dumps(what).encode()


class TrialStub:
    """What protoc would make for the trial service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.get_one: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{NAME}/GetOne")
        self.change_one: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{NAME}/ChangeOne"
        )
        self.nothing: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{NAME}/Nothing")
        self.watch_many: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            f"/{NAME}/WatchMany"
        )
        self.send_all: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
            f"/{NAME}/SendAll"
        )
        self.talk: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{NAME}/Talk")


class TrialService(grpc.GenericRpcHandler):
    """Knows `GetOne`, `ChangeOne`, `WatchMany`, `SendAll` and `Talk`; counts the calls of each."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.running = asyncio.Event()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.rpartition("/")[2]
        match method:
            case "GetOne" | "ChangeOne":
                return grpc.unary_unary_rpc_method_handler(self._one(method))
            case "WatchMany":
                return grpc.unary_stream_rpc_method_handler(self._watch_many)
            case "SendAll":
                return grpc.stream_unary_rpc_method_handler(self._send_all)
            case "Talk":
                return grpc.stream_stream_rpc_method_handler(self._talk)
        return None

    def _one(self, method: str) -> Any:
        async def one(body: bytes, context: Any) -> bytes:
            self.calls[method] += 1
            await self._obey(body, self.calls[method])
            return self._answer()

        return one

    async def _watch_many(self, body: bytes, context: Any) -> AsyncIterator[bytes]:
        self.calls["WatchMany"] += 1
        for _ in range(json.loads(body).get("before", 0)):
            yield self._answer()
            await asyncio.sleep(0.005)
        await self._obey(body, self.calls["WatchMany"])
        yield self._answer()

    async def _send_all(self, bodies: AsyncIterator[bytes], context: Any) -> bytes:
        total = 0
        async for body in bodies:
            await self._obey(body, 1)
            total += len(body)
        return str(total).encode()

    async def _talk(self, bodies: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for body in bodies:
            await self._obey(body, 1)
            yield self._answer()

    async def _obey(self, body: bytes, call: int) -> None:
        what = json.loads(body)
        self.running.set()
        await asyncio.sleep(what.get("sleep_s", 0))
        if "bug" in what:
            raise ZeroDivisionError(what["bug"])
        if "error" in what and call <= what.get("times", 1_000_000):
            kind = getattr(errors, what["error"])
            raise kind(what["reason"], what["message"], **what.get("metadata", {}))
        await asyncio.sleep(what.get("then_sleep_s", 0))

    def _answer(self) -> bytes:
        return f"{current_principal()} {current_request_id()}".encode()
