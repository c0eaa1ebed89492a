"""Channels to other services: identity, time limits, retries and errors are taken care of.

    credentials = ServiceCredentials(signer, "datastore")
    channel = connect(settings.datastore_address, credentials=credentials)
    stub = VolumeServiceStub(channel)
    await stub.GetVolume(request)                                            # as this service
    await stub.GetVolume(request, metadata=credentials.metadata(principal))  # as somebody who asked us

Calls raise `biosegment.errors`; `Get...`, `List...` and the like, and requests with a `request_id`, are tried
again when the service is away for a moment; whatever was refused for coming too often is sent again when the server
says so, as long as the call may last. Close the channel with `await channel.close()`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

import grpc

from biosegment.auth import PRINCIPAL_LIFETIME_S, Kind, Principal, PrincipalSigner
from biosegment.errors import BiosegmentError, DeadlineExceeded, Unavailable
from biosegment.rpc.call import AUTHORIZATION, MAX_MESSAGE_BYTES, REQUEST_ID, bearer, request_id_variable
from biosegment.rpc.errors import CALL_CANCELLED, SERVICE_UNAVAILABLE, from_rpc_error, retry_after_s
from biosegment.rpc.runtime import keep_grpc, keep_status
from biosegment.rpc.tls import ChannelTls, secure_channel

Credentials = Callable[[], str]
"""Returns the bearer token of the next call."""

Idempotent = Callable[[str, Any], bool]
"""Takes the full method (`/package.Service/Method`) and the request; True when calling twice does no harm."""

_TURNED_AWAY: Final = ("RATE_LIMITED", "TOO_MANY_AT_ONCE")
_IDEMPOTENT_PREFIXES: Final = ("Get", "List", "Watch", "Read", "Check", "BatchGet", "Search", "Segment")


CONNECTION_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Otherwise channels to one address share a connection, and a new one waits out the pauses of an older one.
    ("grpc.use_local_subchannel_pool", 1),
    # A service that was away is found again within the retries of one call: these pauses are shorter.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # In spite of its name the time that one attempt has: a handshake across a country takes its time.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Whoever makes a call decides about retries.
    ("grpc.enable_retries", 0),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)
"""How channels between the parts of the platform connect."""


def is_idempotent(method: str, request: Any) -> bool:
    """Reading methods, by the first word of their name, and writes that carry a `request_id`."""
    return method.rpartition("/")[2].startswith(_IDEMPOTENT_PREFIXES) or bool(
        getattr(request, "request_id", "")
    )


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How a channel behaves.

    Attributes:
        timeout_s: Of unary calls and of streams towards the server, unless a call says otherwise.
        stream_timeout_s: Of streams from the server; None for no limit (keepalive still finds dead peers).
        attempts: Of idempotent calls when the service is unavailable.
        answered_attempts: Likewise, when the service answers that something behind it is.
        first_pause_s: Before the second attempt; doubles up to `last_pause_s`, with jitter.
        last_pause_s: Longest pause.
        max_concurrent_calls: Unary calls in flight; above about a thousand on one connection gRPC loses some.
        idempotent: Which calls may be repeated.
    """

    timeout_s: float = 60.0
    stream_timeout_s: float | None = None
    attempts: int = 5
    answered_attempts: int = 12
    first_pause_s: float = 0.1
    last_pause_s: float = 1.0
    max_concurrent_calls: int = 128
    idempotent: Idempotent = is_idempotent


class ServiceCredentials:
    """Tokens in which one service vouches for itself or for those who asked it, towards one other service."""

    def __init__(self, signer: PrincipalSigner, audience: str, on_behalf_of: str = "") -> None:
        self._signer = signer
        self._audience = audience
        self._own = Principal(Kind.SERVICE, signer.issuer, on_behalf_of=on_behalf_of)
        self._tokens: OrderedDict[Principal, tuple[float, str]] = OrderedDict()

    def __call__(self) -> str:
        """Return a token of the service itself."""
        return self.token(self._own)

    def token(self, principal: Principal) -> str:
        """Return a token for `principal`, signed at most once in four minutes."""
        now = time.monotonic()
        renew_at, token = self._tokens.get(principal, (0.0, ""))
        if now >= renew_at:
            token = self._signer.sign(principal, self._audience)
            self._tokens[principal] = (now + 0.8 * PRINCIPAL_LIFETIME_S, token)
            if len(self._tokens) > 1024:
                self._tokens.popitem(last=False)
        return token

    def metadata(self, principal: Principal) -> tuple[tuple[str, str], ...]:
        """Metadata for one call in the name of `principal`, for whom this service may vouch."""
        return bearer(self.token(principal))

    def on_behalf_of(self, user: str) -> tuple[tuple[str, str], ...]:
        """Metadata for one call of this service that a user caused; for records, it grants nothing."""
        return self.metadata(Principal(Kind.SERVICE, self._signer.issuer, on_behalf_of=user))


def connect(
    address: str,
    *,
    credentials: Credentials | None = None,
    policy: CallPolicy | None = None,
    tls: ChannelTls | None = None,
) -> grpc.aio.Channel:
    """Make a channel; connects with the first call.

    Args:
        address: `host:port` or any gRPC target, `dns:///trainer:50051`; calls go round all its addresses.
        credentials: Asked for a token for each call that brings no `authorization` metadata of its own.
        policy: Limits and retries.
        tls: Whom to trust; nothing is encrypted when None.

    Raises:
        FailedPrecondition: BAD_CERTIFICATE.
    """
    keep_grpc()
    caller = _Caller(address, credentials, policy or CallPolicy())
    return secure_channel(
        address,
        tls,
        options=CONNECTION_OPTIONS,
        interceptors=[_UnaryUnary(caller), _UnaryStream(caller), _StreamUnary(caller), _StreamStream(caller)],
    )


class _Caller:
    """What the four interceptors share; gRPC sorts interceptors by class, one shape each."""

    def __init__(self, address: str, credentials: Credentials | None, policy: CallPolicy) -> None:
        self._address = address
        self._credentials = credentials
        self.policy = policy
        self._slots = asyncio.Semaphore(policy.max_concurrent_calls)

    def details(self, given: Any, timeout_s: float | None) -> Any:
        """Complete the details of one attempt: who calls, in which request, for how long at most."""
        metadata = [(key.lower(), value) for key, value in given.metadata or ()]
        names = {key for key, _ in metadata}
        if self._credentials is not None and AUTHORIZATION not in names:
            metadata.extend(bearer(self._credentials()))
        request_id = request_id_variable.get()
        if request_id and REQUEST_ID not in names:
            metadata.append((REQUEST_ID, request_id))
        return grpc.aio.ClientCallDetails(
            given.method, timeout_s, grpc.aio.Metadata(*metadata), given.credentials, given.wait_for_ready
        )

    def stream_details(self, given: Any, default_s: float | None) -> Any:
        return self.details(given, default_s if given.timeout is None else given.timeout)

    def error(self, error: grpc.RpcError) -> BiosegmentError:
        return from_rpc_error(error, self._address)

    async def unary(self, continuation: Any, given: Any, request: Any) -> Any:
        # Attempts share the time of the call: `timeout` is what the caller waits at most.
        deadline = time.monotonic() + (self.policy.timeout_s if given.timeout is None else given.timeout)
        attempt, said = 0, None
        async with self._slots:
            while True:
                try:
                    details = self.details(given, max(0.0, deadline - time.monotonic()))
                    return await (await continuation(details, request))
                except grpc.aio.AioRpcError as error:
                    failure = self.error(error)
                    if isinstance(failure, DeadlineExceeded) and said is not None:
                        raise said from error  # it says why it took too long
                    pause_s = _turn_s(failure)
                    if pause_s is None:
                        attempt += 1
                        pause_s = self.pause_s(attempt)
                        if not self.may_retry(failure, attempt, given, request):
                            raise failure from error
                    if time.monotonic() + pause_s >= deadline:
                        raise failure from error
                    said = failure
                await asyncio.sleep(pause_s)

    def may_retry(self, failure: BiosegmentError, attempt: int, given: Any, request: Any) -> bool:
        if not isinstance(failure, Unavailable) or failure.reason == CALL_CANCELLED:
            return False
        attempts = self.policy.attempts
        if failure.reason != SERVICE_UNAVAILABLE:
            attempts = min(attempts, self.policy.answered_attempts)
        return attempt < attempts and self.policy.idempotent(_text(given.method), request)

    def pause_s(self, attempt: int) -> float:
        longest = min(self.policy.first_pause_s * 2 ** (attempt - 1), self.policy.last_pause_s)
        return float(longest * random.uniform(0.5, 1.0))


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._caller.unary(continuation, client_call_details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        caller = self._caller

        async def begin() -> Any:
            return await continuation(
                caller.stream_details(client_call_details, caller.policy.stream_timeout_s), request
            )

        def may_retry(failure: BiosegmentError, attempt: int) -> bool:
            return caller.may_retry(failure, attempt, client_call_details, request)

        return _StreamedResponses(caller, await begin(), begin, may_retry)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        details = self._caller.stream_details(client_call_details, self._caller.policy.timeout_s)
        return _SingleResponse(keep_status(await continuation(details, request_iterator)), self._caller)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        details = self._caller.stream_details(client_call_details, self._caller.policy.stream_timeout_s)
        # Never repeated: the requests are gone.
        return _StreamedResponses(self._caller, keep_status(await continuation(details, request_iterator)))


class _StreamedResponses:
    """A call with streamed responses that raises our errors, and begins anew while nothing has arrived."""

    def __init__(
        self,
        caller: _Caller,
        call: Any,
        begin: Callable[[], Awaitable[Any]] | None = None,
        may_retry: Callable[[BiosegmentError, int], bool] = lambda failure, attempt: False,
    ) -> None:
        self._caller = caller
        self._call = call
        self._begin = begin
        self._may_retry = may_retry
        self._cancelled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def cancel(self) -> bool:
        self._cancelled = True
        return bool(self._call.cancel())

    async def __aiter__(self) -> AsyncIterator[Any]:
        attempt, begun, waited_s = 0, False, 0.0
        while True:
            try:
                async for response in self._call:
                    begun = True
                    yield response
                return
            except grpc.aio.AioRpcError as error:
                failure = self._caller.error(error)
                if begun or self._cancelled or self._begin is None:
                    raise failure from error
                pause_s = _turn_s(failure)
                if pause_s is None:
                    attempt += 1
                    pause_s = self._caller.pause_s(attempt)
                    if not self._may_retry(failure, attempt):
                        raise failure from error
                waited_s += pause_s
                if waited_s > self._caller.policy.timeout_s:
                    raise failure from error
            finally:
                self._call.cancel()
            await asyncio.sleep(pause_s)
            self._call = await self._begin()


# gRPC wraps everything else in a class of its own, which would go on holding the first attempt.
grpc.aio.UnaryStreamCall.register(_StreamedResponses)
grpc.aio.StreamStreamCall.register(_StreamedResponses)


class _SingleResponse:
    """A stream-unary call whose result is awaited by whoever holds it, after having written to it perhaps."""

    def __init__(self, call: Any, caller: _Caller) -> None:
        self._call = call
        self._caller = caller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._call.__await__())
        except grpc.aio.AioRpcError as error:
            raise self._caller.error(error) from error


def _turn_s(error: BiosegmentError) -> float | None:
    """When it is this caller's turn again, after a server that refused the call before it did anything.

    So any call may be repeated, not only those that do no harm twice. With jitter, since others wait as well.
    """
    if error.reason not in _TURNED_AWAY:
        return None
    pause_s = retry_after_s(error)
    return None if pause_s is None else pause_s * random.uniform(1.0, 1.3)


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
