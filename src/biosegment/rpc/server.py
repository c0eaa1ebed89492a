"""The gRPC server of a service process.

In a composition root:

    server = RpcServer(settings.listen, PrincipalVerifier.from_folder("datastore", settings.public_keys_dir))
    server.add(add_VolumeServiceServicer_to_server, servicer, "biosegment.api.datastore.v1.VolumeService")
    address = await server.start()
    await run_until_signal(server, settings.shutdown_grace_s)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import biosegment
from biosegment.auth import PrincipalVerifier
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.rpc.call import MAX_MESSAGE_BYTES
from biosegment.rpc.interceptor import Authenticate, Gate, ServerInterceptor, authenticate_with
from biosegment.rpc.runtime import keep_grpc
from biosegment.rpc.tls import MutualTls, ServerTls, require_peer

LIVENESS: Final = "liveness"
"""Health check name that says that the process lives; '' and services' names: it wants calls."""

VERSION_KEY: Final = "x-biosegment-version"
"""Trailing metadata of health checks: the version of the software that answers."""

_log = structlog.get_logger("biosegment.rpc")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one client may ask of a server.

    Attributes:
        max_message_bytes: Of one message, in both directions.
        max_unary_s: A unary call that takes longer ends with DeadlineExceeded; streams may last.
        max_concurrent_rpcs: Above it calls end with ResourceExhausted; None for no limit.
        max_idle_s: A connection without calls is closed after so long; None for never.
        max_age_s: A connection takes no new calls after so long, so that clients find new replicas; None for never.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_unary_s: float = 60.0
    max_concurrent_rpcs: int | None = 2048
    max_idle_s: float | None = None
    max_age_s: float | None = None


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    """The usual health service, which also says the version."""

    async def Check(self, request: Any, context: Any) -> Any:
        context.set_trailing_metadata(((VERSION_KEY, biosegment.__version__),))
        return await super().Check(request, context)


class RpcServer:
    """An asynchronous gRPC server with health, authentication, error mapping and one log line per call."""

    def __init__(
        self,
        listen: str,
        authentication: PrincipalVerifier | Authenticate,
        limits: ServerLimits | None = None,
        *,
        gate: Gate | None = None,
        tls: ServerTls | MutualTls | None = None,
        health_listen: str = "",
        allow_insecure_listen: bool = False,
    ) -> None:
        """Check the address; nothing is opened yet.

        Args:
            listen: `host:port`; port 0 takes a free one.
            authentication: How callers are recognised; the health service is open to everybody.
            limits: Defaults are right for a service.
            gate: What else stands before calls.
            tls: For the public, or among services, where the peer must be who vouches for the caller.
            health_listen: `host:port` that answers health checks alone, without TLS; none when ''.
            allow_insecure_listen: Accept a host beyond loopback (the port is guarded by other means).

        Raises:
            InvalidArgument: BAD_LISTEN_ADDRESS, or INSECURE_LISTEN when it is not loopback.
        """
        host, _ = split_address(listen)
        if tls is None and not allow_insecure_listen and not is_loopback(host):
            raise InvalidArgument(
                "INSECURE_LISTEN",
                f"refusing to listen on {listen}, which other machines can reach without encryption; use "
                "127.0.0.1, or certificates, or set ALLOW_INSECURE_LISTEN=true where the network guards the port",
            )
        self._listen = listen
        self._tls = tls.server if isinstance(tls, MutualTls) else tls
        self._require_peer = require_peer if isinstance(tls, MutualTls) else None
        self._health_listen = health_listen
        self._authenticate = (
            authenticate_with(authentication)
            if isinstance(authentication, PrincipalVerifier)
            else authentication
        )
        self._limits = limits or ServerLimits()
        self._gate = gate
        self._adders: list[Callable[[grpc.aio.Server], None]] = []
        self._service_names: list[str] = []
        self._health = _Health()
        self._server: grpc.aio.Server | None = None
        self._health_server: grpc.aio.Server | None = None

    def add(self, servicer_adder: Callable[[Any, Any], None], servicer: object, service_name: str) -> None:
        """Serve a servicer, before `start`.

        Args:
            servicer_adder: The generated `add_...Servicer_to_server`.
            servicer: The implementation.
            service_name: Full name, `biosegment.api.datastore.v1alpha1.VolumeService`, for health checks.
        """
        self._adders.append(lambda server: servicer_adder(servicer, server))
        self._service_names.append(service_name)

    def add_generic(self, handler: grpc.GenericRpcHandler, *service_names: str) -> None:
        """Serve methods that a handler recognises by name, such as a pass-through; before `start`."""
        self._adders.append(lambda server: server.add_generic_rpc_handlers((handler,)))
        self._service_names.extend(service_names)

    async def start(self) -> str:
        """Listen, and return the address with the port that was really taken.

        Raises:
            FailedPrecondition: PORT_IN_USE, or CANNOT_LISTEN for any other reason; BAD_CERTIFICATE.
        """
        keep_grpc()
        interceptor = ServerInterceptor(
            self._authenticate, self._limits.max_unary_s, self._gate, self._require_peer
        )
        server = grpc.aio.server(
            interceptors=[interceptor],
            options=_options(self._limits),
            maximum_concurrent_rpcs=self._limits.max_concurrent_rpcs,
        )
        for add in self._adders:
            add(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for name in ("", LIVENESS, *self._service_names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        host, _ = split_address(self._listen)
        port = await _open_port(server, self._listen, self._tls)
        await server.start()
        self._server = server
        if self._health_listen:
            self._health_server = grpc.aio.server(options=_options(self._limits))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._health_server)
            await _open_port(self._health_server, self._health_listen, None)
            await self._health_server.start()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        _log.info("listening", address=address, services=self._service_names)
        return address

    async def set_serving(self, service_name: str, serving: bool) -> None:
        """Say through the health service whether a service ('' for the whole process) wants calls."""
        kinds = health_pb2.HealthCheckResponse
        await self._health.set(service_name, kinds.SERVING if serving else kinds.NOT_SERVING)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Tell health checks first, take no new calls, let running ones end within `grace_s` seconds."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        if self._health_server is not None:
            await self._health_server.stop(None)


async def run_until_signal(
    server: RpcServer, grace_s: float = 10.0, *background: Coroutine[Any, Any, None]
) -> None:
    """Run a started server until SIGTERM or SIGINT, then stop it; a second signal kills the process as usual.

    Args:
        server: Already started.
        grace_s: Seconds that running calls get.
        background: Endless work of this process (a projector, a scheduler); cancelled at the end. When one
            fails, the server stops and its exception is raised, so that the process ends and is started anew.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    # What the start has made lives as long as the process; a full collection, which stops it, need not visit all of it.
    gc.collect()
    gc.freeze()

    def on_signal(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name, grace_s=grace_s)
        stopped.set()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    tasks = [asyncio.create_task(coroutine) for coroutine in background]
    waiting = [asyncio.create_task(stopped.wait()), asyncio.create_task(server.wait())]
    try:
        await _first_end_or_failure(waiting, tasks)
    finally:
        await server.stop(grace_s)
        for task in (*tasks, *waiting):
            task.cancel()
        results = await asyncio.gather(*tasks, *waiting, return_exceptions=True)
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    for result in results:
        if isinstance(result, Exception):
            raise result


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def _first_end_or_failure(waiting: list[asyncio.Task[Any]], tasks: list[asyncio.Task[Any]]) -> None:
    pending = {*waiting, *tasks}
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if any(task in waiting or task.cancelled() or task.exception() for task in done):
            return


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`; InvalidArgument BAD_LISTEN_ADDRESS when it is neither."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument("BAD_LISTEN_ADDRESS", f"address {address!r} is not of the form host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host name or address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


async def _open_port(server: grpc.aio.Server, listen: str, tls: ServerTls | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, tls.credentials())
    except RuntimeError as error:
        await server.stop(None)
        raise _cannot_listen(listen) from error
    except FailedPrecondition:
        await server.stop(None)
        raise


def _cannot_listen(listen: str) -> FailedPrecondition:
    """Ask the operating system why, since gRPC only says that it failed."""
    host, port = split_address(listen)
    reason = "unknown reason"
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            return FailedPrecondition(
                "PORT_IN_USE",
                f"cannot listen on {listen}: another process uses the port; stop it or choose another port",
            )
    return FailedPrecondition("CANNOT_LISTEN", f"cannot listen on {listen}: {reason}")


def _options(limits: ServerLimits) -> list[tuple[str, Any]]:
    spans = {
        "grpc.max_connection_idle_ms": limits.max_idle_s,
        "grpc.max_connection_age_ms": limits.max_age_s,
    }
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        # Otherwise two processes may share a port, and each gets half of the calls.
        ("grpc.so_reuseport", 0),
        # Who connects and says nothing is let go; the default is two minutes.
        ("grpc.server_handshake_timeout_ms", 15_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Clients ping every 30 s; the default of 5 minutes would disconnect them.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        *((name, round(span_s * 1000)) for name, span_s in spans.items() if span_s is not None),
    ]
