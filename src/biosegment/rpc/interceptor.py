"""What happens around every RPC on the server: logging, error mapping, authentication, a limit of time.

One scope holds all of it, so that the four RPC shapes only differ in how they run the handler inside of it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, aclosing, asynccontextmanager
from typing import Any, Final, Never, Protocol

import grpc
import structlog

from biosegment.auth import Principal, PrincipalVerifier
from biosegment.errors import BiosegmentError, DeadlineExceeded, Internal, InvalidArgument, Unauthenticated
from biosegment.ids import new_id
from biosegment.rpc.call import (
    AUTHORIZATION,
    REQUEST_ID,
    principal_variable,
    request_id_variable,
    valid_request_id,
)
from biosegment.rpc.errors import from_rpc_error, to_status

Authenticate = Callable[[Mapping[str, str]], Awaitable[Principal]]
"""Takes the call's metadata (keys in lower case), returns the caller or raises Unauthenticated."""


RequirePeer = Callable[[Principal, Any], None]
_Read = Callable[[Any], Any]
_Write = Callable[[Any], bytes]


class Gate(Protocol):
    """Stands before every call that needs authentication."""

    def admitted(self, principal: Principal) -> AbstractContextManager[None]:
        """Surrounds the call of an authenticated caller; raises what it ends with where it may not begin."""

    def refused_call(self, error: Unauthenticated, token: str, context: Any) -> None:
        """Take note of a call whose token lets nobody in; '' where it has none."""


HEALTH_SERVICE: Final = "grpc.health.v1.Health"
_log = structlog.get_logger("biosegment.rpc")


def bearer_token(metadata: Mapping[str, str]) -> str:
    """Return the token of `authorization: Bearer <token>`; Unauthenticated NO_TOKEN when there is none."""
    scheme, _, token = metadata.get(AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "NO_TOKEN", "the call carries no token; send metadata 'authorization: Bearer <token>'"
        )
    return token.strip()


def authenticate_with(verifier: PrincipalVerifier) -> Authenticate:
    """Authentication between services: the token is a signed principal."""

    async def authenticate(metadata: Mapping[str, str]) -> Principal:
        return verifier.verify(bearer_token(metadata))

    return authenticate


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        authenticate: Recognises callers; health checks need none.
        max_unary_s: Longest time of a unary call.
        gate: What else stands before calls.
        require_peer: Whether the other end of the connection may speak for the caller; raises where not.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        max_unary_s: float,
        gate: Gate | None = None,
        require_peer: RequirePeer | None = None,
    ) -> None:
        self._authenticate = authenticate
        self._max_unary_s = max_unary_s
        self._gate = gate
        self._require_peer = require_peer

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of this method, wrapped; None when there is none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        scope = _Scope(handler_call_details.method, self._max_unary_s, self._gate, self._require_peer)
        if not scope.is_health:
            await scope.authenticate(self._authenticate, handler_call_details.invocation_metadata)
            if scope.is_refused:
                # Of this kind no message is waited for, which somebody without a token may never send.
                return grpc.stream_stream_rpc_method_handler(scope.streaming(_nothing, None, None))
        read, write = handler.request_deserializer, handler.response_serializer
        # Requests are read by the scope: a message that is none is then answered as what it is.
        codec = {"response_serializer": _unless_bytes(write)}
        if handler.request_streaming and handler.response_streaming:
            streamed = scope.streaming(handler.stream_stream, _each(read), write)
            return grpc.stream_stream_rpc_method_handler(streamed, **codec)
        if handler.request_streaming:
            single = scope.single(handler.stream_unary, _each(read), write, limited=False)
            return grpc.stream_unary_rpc_method_handler(single, **codec)
        if handler.response_streaming:
            streamed = scope.streaming(handler.unary_stream, _one(read), write)
            return grpc.unary_stream_rpc_method_handler(streamed, **codec)
        single = scope.single(handler.unary_unary, _one(read), write, limited=True)
        return grpc.unary_unary_rpc_method_handler(single, **codec)


async def _nothing(request: Any, context: Any) -> None:
    """The handler of calls that end before it."""


def _unless_bytes(serialize: _Write | None) -> _Write | None:
    """A serializer that lets a handler answer with a message that is already serialised."""
    if serialize is None:
        return None
    return lambda message: message if isinstance(message, bytes) else serialize(message)


def _one(deserialize: _Read | None) -> _Read | None:
    """A reader of one request that says what is wrong with it."""
    if deserialize is None:
        return None

    def read(message: bytes) -> Any:
        try:
            return deserialize(message)
        except Exception as error:  # DecodeError's place differs between protobuf's implementations
            raise InvalidArgument("BAD_MESSAGE", "the request is no valid protobuf message") from error

    return read


def _each(deserialize: _Read | None) -> _Read | None:
    read = _one(deserialize)
    if read is None:
        return None

    async def read_all(messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for message in messages:
            yield read(message)

    return read_all


class _Scope:
    def __init__(
        self, method: str, max_unary_s: float, gate: Gate | None, require_peer: RequirePeer | None
    ) -> None:
        self._method = method.lstrip("/")
        self.is_health = self._method.startswith(f"{HEALTH_SERVICE}/")
        self._max_unary_s = max_unary_s
        self._gate = gate
        self._require_peer = require_peer
        self._principal: Principal | None = None
        self._refusal: Exception | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the call will end before its handler."""
        return self._refusal is not None

    async def authenticate(self, authenticate: Authenticate, metadata: Any) -> None:
        """Find out who calls; what is wrong is raised when the call is answered."""
        try:
            self._principal = await authenticate(_text_of(metadata))
        except Exception as error:
            self._refusal = error

    def single(self, handler: Any, read: _Read | None, write: _Write | None, limited: bool) -> Any:
        """Wrap a handler that returns one message."""

        async def call(request: Any, context: Any) -> Any:
            async with self._around(context), self._time_limit(limited):
                response = await handler(read(request) if read else request, context)
                return _written(response, write)

        return call

    def streaming(self, handler: Any, read: _Read | None, write: _Write | None) -> Any:
        """Wrap a handler that is an async generator, or a coroutine that calls `context.write`."""

        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._around(context):
                async with aclosing(handler(read(request) if read else request, context)) as responses:
                    async for response in responses:
                        yield _written(response, write)

        async def call(request: Any, context: Any) -> None:
            async with self._around(context):
                await handler(read(request) if read else request, context)

        return generate if inspect.isasyncgenfunction(handler) else call

    @asynccontextmanager
    async def _around(self, context: Any) -> AsyncIterator[None]:
        metadata = _text_of(context.invocation_metadata())
        request_id = valid_request_id(metadata.get(REQUEST_ID, ""))
        request_id_variable.set(request_id)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, code, reason = time.perf_counter(), "OK", ""
        try:
            with ExitStack() as admitted:
                if not self.is_health:
                    principal = self._caller(metadata, context)
                    principal_variable.set(principal)
                    structlog.contextvars.bind_contextvars(principal=str(principal))
                    if self._gate is not None:
                        admitted.enter_context(self._gate.admitted(principal))
                yield
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except GeneratorExit:
            code = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = _code_name(context)
            raise
        except Exception as cause:
            error = _as_biosegment_error(cause, self._method)
            code, reason = error.grpc_code, error.reason
            await _abort(context, error)
        finally:
            # After the answer, which need not wait for it.
            ms = (time.perf_counter() - started) * 1000
            asyncio.get_running_loop().call_soon(self._log, code, reason, ms)

    def _caller(self, metadata: Mapping[str, str], context: Any) -> Principal:
        if self._refusal is not None:
            if self._gate is not None and isinstance(self._refusal, Unauthenticated):
                token = metadata.get(AUTHORIZATION, "").partition(" ")[2]
                self._gate.refused_call(self._refusal, token, context)
            raise self._refusal
        assert self._principal is not None
        if self._require_peer is not None:
            self._require_peer(self._principal, context)
        return self._principal

    @asynccontextmanager
    async def _time_limit(self, limited: bool) -> AsyncIterator[None]:
        if not limited:
            yield
            return
        try:
            async with asyncio.timeout(self._max_unary_s) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                "TOO_SLOW",
                f"{self._method} took longer than the {self._max_unary_s:g} s that one call may take",
            ) from error

    def _log(self, code: str, reason: str, ms: float) -> None:
        log = _log.debug if self.is_health else _log.info
        extra = {"reason": reason} if reason else {}
        log("rpc", method=self._method, code=code, ms=round(ms, 2), **extra)


def _text_of(metadata: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in metadata or () if isinstance(value, str)}


def _written(response: Any, write: _Write | None) -> Any:
    # Within the scope, so that an answer that cannot be sent is a mistake of ours with a line in the log.
    return response if write is None or isinstance(response, bytes) else write(response)


def _as_biosegment_error(cause: Exception, method: str) -> BiosegmentError:
    if isinstance(cause, Internal):
        _log.error("rpc_internal", method=method, reason=cause.reason, exc_info=cause)
        return cause
    if isinstance(cause, BiosegmentError):
        return cause
    if isinstance(cause, grpc.RpcError):
        # A call to another service, over a channel that does not rebuild errors.
        return from_rpc_error(cause)
    error_id = new_id()
    _log.error("rpc_failed", method=method, error_id=error_id, exc_info=cause)
    return Internal(
        "INTERNAL", f"internal error; its details are in the log under {error_id}", error_id=error_id
    )


async def _abort(context: Any, error: BiosegmentError) -> Never:
    await context.abort_with_status(to_status(error))
    raise AssertionError("abort returned")


def _code_name(context: Any) -> str:
    code = context.code()
    if isinstance(code, int):
        return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
