"""Calls that come in over HTTP, answered by the very handlers that answer gRPC.

Permission, audit, forwarding with the signed principal and errors are those of the public port; only who calls is found
out elsewhere. The handlers see a context with what they use of gRPC's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Never

import grpc

from biosegment.auth import Principal
from biosegment.errors import DeadlineExceeded, Internal, Unavailable, Unimplemented
from biosegment.rpc.call import principal_variable, request_id_variable
from biosegment.rpc.errors import from_rpc_error

_END: Final = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the HTTP server found out.

    Attributes:
        principal: Authenticated.
        peer: Address for the audit log.
        request_id: Under which the call is logged here and in the services.
    """

    principal: Principal
    peer: str
    request_id: str


class LocalCalls:
    """Takes handlers as `RpcServer` does, before the first call.

    Args:
        max_unary_s: A call that takes longer ends with DeadlineExceeded.
    """

    def __init__(self, max_unary_s: float) -> None:
        self._max_unary_s = max_unary_s
        self._handlers: list[grpc.GenericRpcHandler] = []

    def add(self, servicer_adder: Callable[[Any, Any], None], servicer: object, service_name: str) -> None:
        """Answer by a servicer; see `RpcServer.add`."""
        servicer_adder(servicer, self)

    def add_generic(self, handler: grpc.GenericRpcHandler, *service_names: str) -> None:
        """Answer by a handler that recognises methods by name, after those that were added before."""
        self._handlers.append(handler)

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """What generated code calls."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """What generated code also calls, with the same handlers."""

    async def unary(self, method: str, request: bytes, caller: Caller) -> bytes:
        """Call a method of one request and one response.

        Args:
            method: `/package.Service/Method`.
            request: Serialised.
            caller: Who calls.

        Raises:
            DeadlineExceeded: TOO_SLOW.
            BiosegmentError: What the method raises.
        """
        handler = self._find(method)
        _introduce(caller)
        context = _Context(caller, self._max_unary_s)
        try:
            async with asyncio.timeout(self._max_unary_s) as limit:
                answer = await handler.unary_unary(_read(handler, request), context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                "TOO_SLOW",
                f"{method[1:]} took longer than the {self._max_unary_s:g} s that one call may take",
            ) from error
        return _written(handler, answer)

    async def send(self, method: str, requests: AsyncIterator[bytes], caller: Caller) -> bytes:
        """Call a method of many requests and one response; there is no limit of time."""
        handler = self._find(method)
        _introduce(caller)
        answers: list[bytes] = []

        async def write(answer: bytes) -> None:
            answers.append(answer)

        await handler.stream_stream(requests, _Context(caller, None, write))
        if len(answers) != 1:
            raise Internal("WRONG_NUMBER_OF_ANSWERS", f"{method[1:]} answered {len(answers)} times, not once")
        return answers[0]

    async def stream(self, method: str, request: bytes, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Call a method of one request and many responses; closing the iterator ends the call.

        A slow reader holds up the writer: one response waits at most.
        """
        handler = self._find(method)
        _introduce(caller)
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(1)
        context = _Context(caller, None, queue.put)
        task = asyncio.create_task(_run_stream(handler, _read(handler, request), context, queue))
        try:
            while (response := await queue.get()) is not _END:
                if isinstance(response, Exception):
                    raise response
                yield response
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _find(self, method: str) -> Any:
        details = SimpleNamespace(method=method, invocation_metadata=())
        for handler in self._handlers:
            if (found := handler.service(details)) is not None:
                return found
        raise Unimplemented("METHOD_NOT_SERVED", f"the gateway serves no method {method[1:]}")


class _Context:
    """As much of `grpc.aio.ServicerContext` as handlers of the gateway use."""

    def __init__(
        self,
        caller: Caller,
        timeout_s: float | None,
        write: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        self._caller = caller
        self._ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        self._write = write

    def peer(self) -> str:
        return self._caller.peer

    def time_remaining(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Nobody reads it over HTTP."""

    async def write(self, response: bytes) -> None:
        assert self._write is not None
        await self._write(response)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        trailing = grpc.aio.Metadata(*trailing_metadata)
        raise from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details))


def _introduce(caller: Caller) -> None:
    principal_variable.set(caller.principal)
    request_id_variable.set(caller.request_id)


async def _run_stream(
    handler: Any, request: Any, context: _Context, queue: asyncio.Queue[bytes | Exception | None]
) -> None:
    last: Exception | None = _END
    try:
        answer = handler.unary_stream(request, context)
        if hasattr(answer, "__aiter__"):
            async with aclosing(answer) as responses:
                async for response in responses:
                    await context.write(_written(handler, response))
        else:
            await answer  # writes to the context
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        last = Unavailable("CALL_CANCELLED", "the service ended the call before it was complete; try again")
    except Exception as error:
        last = error
    await queue.put(last)


def _read(handler: Any, request: bytes) -> Any:
    return handler.request_deserializer(request) if handler.request_deserializer else request


def _written(handler: Any, answer: Any) -> bytes:
    written: bytes = answer if isinstance(answer, bytes) else handler.response_serializer(answer)
    return written
