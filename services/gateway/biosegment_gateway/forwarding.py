"""The generic pass-through: calls of every shape, as bytes, to the service that they are for.

A new RPC of a service needs nothing here; one-to-one calls that the generated API knows take a shorter way. The
user's API token is replaced by a signed principal; time limit, other metadata, cancellation, messages, status and
trailing metadata go through unchanged. Messages are handed on one at a time, so that a slow reader holds up the
writer and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Never

import grpc

from biosegment.auth import Principal
from biosegment.errors import BiosegmentError, Unimplemented
from biosegment.failpoint import failpoint
from biosegment.rpc import current_principal, current_request_id
from biosegment.rpc.call import AUTHORIZATION, REQUEST_ID
from biosegment.rpc.runtime import keep_status
from biosegment_gateway.audit import Audit, Recording, is_change
from biosegment_gateway.contract import INTERNAL_SERVICES, is_unary, public_methods
from biosegment_gateway.peer import Proxies
from biosegment_gateway.resource import find_resource
from biosegment_gateway.upstream import Upstream

MessageRouter = Callable[[str, bytes], str]
"""Takes the method's name and the first message, returns the name of the service; raises what is wrong with it."""

_PREFIX: Final = "/biosegment."
_API: Final = "biosegment.api."
_DETAILS: Final = "grpc-status-details-bin"
_OWN_METADATA: Final = frozenset({AUTHORIZATION, REQUEST_ID, "user-agent", "content-type", "te", "host"})


class PassThrough(grpc.GenericRpcHandler):
    """Handles every method below `biosegment.` that nobody registered before.

    Args:
        upstreams: By name; calls of package `biosegment.api.{name}` go to that service.
        by_message: By full service name, for services whose calls go where their first message says.
        audit: Records calls that may change something.
        proxies: Whose word counts on where a call comes from.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        by_message: Mapping[str, MessageRouter],
        audit: Audit,
        proxies: Proxies,
    ) -> None:
        self._upstreams = upstreams
        self._by_message = by_message
        self._audit = audit
        self._proxies = proxies

    def service(self, handler_call_details: Any) -> Any:
        """Return a handler that forwards, or refuses after authentication; None for foreign methods."""
        method: str = handler_call_details.method
        if not method.startswith(_PREFIX):
            return None

        if _is_unary(method):

            async def forward_one(request: bytes, context: Any) -> bytes:
                return await self._forward_one(method, request, context)

            return grpc.unary_unary_rpc_method_handler(forward_one)
        if _is_server_stream(method):

            async def forward_many(request: bytes, context: Any) -> None:
                await self._forward_many(method, request, context)

            return grpc.unary_stream_rpc_method_handler(forward_many)

        async def forward(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._forward(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(forward)

    async def _forward(self, method: str, requests: AsyncIterator[bytes], context: Any) -> None:
        principal = current_principal()
        if not is_change(method):
            upstream, requests = await self._route(method, requests)
            await _relay(upstream, method, principal, requests, context, None)
            return
        async with self._recording(method, principal, context) as recording:
            upstream, requests = await self._route(method, requests)
            await _relay(upstream, method, principal, requests, context, recording)

    async def _forward_one(self, method: str, request: bytes, context: Any) -> bytes:
        principal = current_principal()
        if not is_change(method):
            return await _relay_one(self._choose(method, request), method, principal, request, context, None)
        async with self._recording(method, principal, context) as recording:
            recording.resource = find_resource(request)
            upstream = self._choose(method, request)
            return await _relay_one(upstream, method, principal, request, context, recording)

    async def _forward_many(self, method: str, request: bytes, context: Any) -> None:
        principal = current_principal()
        if not is_change(method):
            await _relay_many(self._choose(method, request), method, principal, request, context, None)
            return
        async with self._recording(method, principal, context) as recording:
            recording.resource = find_resource(request)
            upstream = self._choose(method, request)
            await _relay_many(upstream, method, principal, request, context, recording)

    def _recording(
        self, method: str, principal: Principal, context: Any
    ) -> AbstractAsyncContextManager[Recording]:
        return self._audit.recording(method, principal, self._proxies.grpc_peer(context))

    async def _route(
        self, method: str, requests: AsyncIterator[bytes]
    ) -> tuple[Upstream, AsyncIterator[bytes]]:
        if method[1:].partition("/")[0] in self._by_message:
            first = await anext(requests, b"")
            return self._choose(method, first), _chain(first, requests)
        return self._choose(method, b""), requests

    def _choose(self, method: str, first: bytes) -> Upstream:
        service, _, name = method[1:].partition("/")
        if service in self._by_message:
            return self._upstreams[self._by_message[service](name, first)]
        package = service.removeprefix(_API).partition(".")[0] if service.startswith(_API) else ""
        upstream = self._upstreams.get(package)
        if upstream is None or service in INTERNAL_SERVICES:
            raise Unimplemented("METHOD_NOT_SERVED", f"the gateway serves no method {method[1:]}")
        return upstream


def _is_unary(method: str) -> bool:
    """Whether a method is known to have one request and one response; unknown ones are taken for streams."""
    known = public_methods().get(method)
    return known is not None and is_unary(known)


def _is_server_stream(method: str) -> bool:
    """Whether a method is known to have one request and many responses."""
    known = public_methods().get(method)
    return known is not None and not known.client_streaming and known.server_streaming


async def _relay_one(
    upstream: Upstream,
    method: str,
    principal: Principal,
    request: bytes,
    context: Any,
    recording: Recording | None,
) -> bytes:
    if recording is not None:
        failpoint("gateway.call.before_forward")
    call = upstream.unary_call(method)(
        request, timeout=context.time_remaining(), metadata=_metadata(upstream, principal, context)
    )
    try:
        response: bytes = await call
        if recording is not None:
            failpoint("gateway.call.before_answer")
        if recording is not None and not recording.resource:
            recording.resource = find_resource(response)
        trailing = _public(await call.trailing_metadata())
        if trailing:
            context.set_trailing_metadata(trailing)
        return response
    except grpc.aio.AioRpcError as error:
        await _fail(upstream, error, context, recording)
    finally:
        call.cancel()


async def _relay(
    upstream: Upstream,
    method: str,
    principal: Principal,
    requests: AsyncIterator[bytes],
    context: Any,
    recording: Recording | None,
) -> None:
    if recording is not None:
        requests = _watched(requests, recording)
    call = keep_status(
        upstream.call(method)(
            requests, timeout=context.time_remaining(), metadata=_metadata(upstream, principal, context)
        )
    )
    await _relay_responses(upstream, call, context, recording)


async def _relay_many(
    upstream: Upstream,
    method: str,
    principal: Principal,
    request: bytes,
    context: Any,
    recording: Recording | None,
) -> None:
    if recording is not None:
        failpoint("gateway.call.before_forward")
    call = upstream.stream_call(method)(
        request, timeout=context.time_remaining(), metadata=_metadata(upstream, principal, context)
    )
    await _relay_responses(upstream, call, context, recording)


async def _relay_responses(upstream: Upstream, call: Any, context: Any, recording: Recording | None) -> None:
    try:
        async for response in call:
            if recording is not None and not recording.resource:
                recording.resource = find_resource(response)
            await context.write(response)
        trailing = _public(await call.trailing_metadata())
        if trailing:
            context.set_trailing_metadata(trailing)
    except grpc.aio.AioRpcError as error:
        await _fail(upstream, error, context, recording)
    finally:
        call.cancel()


async def _fail(
    upstream: Upstream, error: grpc.aio.AioRpcError, context: Any, recording: Recording | None
) -> Never:
    """End the call as the service ended it; say which service when it was gRPC that gave up."""
    trailing = error.trailing_metadata() or ()
    is_ours = any(key == _DETAILS for key, _ in trailing)
    # A service that stops cancels its calls; had the client done so, this would not run any more.
    if not is_ours and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        away: BiosegmentError = upstream.unavailable(error.details() or "")
        raise away from error
    if recording is not None:
        recording.outcome = error.code().name
    await context.abort(error.code(), error.details() or "", _public(trailing))
    raise AssertionError("abort returned")


def _metadata(upstream: Upstream, principal: Principal, context: Any) -> tuple[tuple[str, str | bytes], ...]:
    others = tuple(
        (key, value)
        for key, value in context.invocation_metadata() or ()
        if key not in _OWN_METADATA and not key.startswith("grpc-")
    )
    return (*others, *upstream.metadata(principal), (REQUEST_ID, current_request_id()))


def _public(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(
        (key, value) for key, value in metadata or () if key == _DETAILS or not key.startswith("grpc-")
    )


async def _watched(requests: AsyncIterator[bytes], recording: Recording) -> AsyncIterator[bytes]:
    is_first = True
    async for request in requests:
        if is_first:
            recording.resource = find_resource(request)
            is_first = False
        yield request


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for request in rest:
        yield request
