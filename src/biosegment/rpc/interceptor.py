"""What happens around every RPC on the server: logging, error mapping, authentication, a limit of time.

One scope holds all of it, so that the four RPC shapes only differ in how they run the handler inside of it.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Never

import grpc
import structlog

from biosegment.auth import Principal, PrincipalVerifier
from biosegment.errors import BiosegmentError, DeadlineExceeded, Internal, Unauthenticated
from biosegment.ids import new_id
from biosegment.rpc.call import AUTHORIZATION, REQUEST_ID, principal_variable, request_id_variable
from biosegment.rpc.errors import from_rpc_error, to_status

Authenticate = Callable[[Mapping[str, str]], Awaitable[Principal]]
"""Takes the call's metadata (keys in lower case), returns the caller or raises Unauthenticated."""

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
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
    """Wraps every handler of a server."""

    def __init__(self, authenticate: Authenticate, max_unary_s: float) -> None:
        self._authenticate = authenticate
        self._max_unary_s = max_unary_s

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of this method, wrapped; None when there is none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        scope = _Scope(handler_call_details.method, self._authenticate, self._max_unary_s)
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": _unless_bytes(handler.response_serializer),
        }
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(scope.streaming(handler.stream_stream), **codec)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                scope.single(handler.stream_unary, limited=False), **codec
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(scope.streaming(handler.unary_stream), **codec)
        return grpc.unary_unary_rpc_method_handler(scope.single(handler.unary_unary, limited=True), **codec)


def _unless_bytes(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """A serializer that lets a handler answer with a message that is already serialised."""
    if serialize is None:
        return None
    return lambda message: message if isinstance(message, bytes) else serialize(message)


class _Scope:
    def __init__(self, method: str, authenticate: Authenticate, max_unary_s: float) -> None:
        self._method = method.lstrip("/")
        self._is_health = self._method.startswith(f"{HEALTH_SERVICE}/")
        self._authenticate = authenticate
        self._max_unary_s = max_unary_s

    def single(self, handler: Any, limited: bool) -> Any:
        """Wrap a handler that returns one message."""

        async def call(request: Any, context: Any) -> Any:
            async with self._around(context), self._time_limit(limited):
                return await handler(request, context)

        return call

    def streaming(self, handler: Any) -> Any:
        """Wrap a handler that is an async generator, or a coroutine that calls `context.write`."""

        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._around(context), aclosing(handler(request, context)) as responses:
                async for response in responses:
                    yield response

        async def write(request: Any, context: Any) -> None:
            async with self._around(context):
                await handler(request, context)

        return generate if inspect.isasyncgenfunction(handler) else write

    @asynccontextmanager
    async def _around(self, context: Any) -> AsyncIterator[None]:
        metadata = {
            key.lower(): value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        request_id = metadata.get(REQUEST_ID, "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = new_id()
        request_id_variable.set(request_id)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, code, reason = time.perf_counter(), "OK", ""
        try:
            if not self._is_health:
                principal = await self._authenticate(metadata)
                principal_variable.set(principal)
                structlog.contextvars.bind_contextvars(principal=str(principal))
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
            self._log(code, reason, (time.perf_counter() - started) * 1000)

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
        log = _log.debug if self._is_health else _log.info
        extra = {"reason": reason} if reason else {}
        log("rpc", method=self._method, code=code, ms=round(ms, 2), **extra)


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
