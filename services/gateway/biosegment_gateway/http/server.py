"""The HTTP server, in the event loop of the process and under its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.rpc.server import is_loopback, split_address
from biosegment.rpc.tls import ServerTls
from biosegment_gateway.http.certificate import web_context
from biosegment_gateway.http.connection import IDLE_S, HttpConnection

_TICKS: Final = 20
"""Between two looks at slow connections, a tenth of a second each."""


class HttpServer:
    """Serves an application; `start`, then `run` until the process ends."""

    def __init__(
        self,
        listen: str,
        application: Starlette,
        *,
        max_connections: int,
        tls: ServerTls | None = None,
        proxies: str = "",
        allow_insecure_listen: bool = False,
        stopping: asyncio.Event | None = None,
    ) -> None:
        """Check the address; nothing is opened yet.

        Args:
            listen: `host:port`; port 0 takes a free one.
            application: What is served.
            max_connections: At a time; above it those that wait for a request make room.
            tls: What it shows; nothing is encrypted when None.
            proxies: Addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` count, with commas.
            allow_insecure_listen: Accept a host beyond loopback (the port is guarded by other means).
            stopping: Set when the server begins to stop, for answers that would go on for ever.

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
        self._stopping = stopping or asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                application,
                http=type("_Connection", (HttpConnection,), {"max_connections": max_connections}),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                # Whom the library trusts by itself is everybody on this machine.
                proxy_headers=bool(proxies),
                forwarded_allow_ips=[each.strip() for each in proxies.split(",")],
                ws="none",
                ssl_context_factory=(lambda config, default: web_context(tls.certificate)) if tls else None,
                timeout_keep_alive=round(IDLE_S),
                timeout_graceful_shutdown=3,
            )
        )
        # Its lines hold whole URLs, and those of viewers hold tokens; `Access` writes a line without them.
        logging.getLogger("uvicorn.access").disabled = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen, and return the address with the port that was really taken.

        Raises:
            FailedPrecondition: PORT_IN_USE, or CANNOT_LISTEN for any other reason.
        """
        host, _ = split_address(self._listen)
        bound = _bind(self._listen)
        address = f"[{host}]:{bound.getsockname()[1]}" if ":" in host else f"{host}:{bound.getsockname()[1]}"
        self._task = asyncio.create_task(self._server.serve([bound]))
        await self._server.listening.wait()
        return address

    async def run(self) -> None:
        """Serve until cancelled, then let running requests end for three seconds."""
        if self._task is None:
            return
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Take no new requests, let running ones end."""
        self._stopping.set()
        if self._task is not None:
            self._server.should_exit = True
            await self._task


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        """What the library does ten times a second; here also: end the connections of those who were too slow."""
        if counter % _TICKS == 0:
            present = time.monotonic()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, HttpConnection):
                    connection.end_overdue(present)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process, which has another server to stop."""
        yield


def _bind(listen: str) -> socket.socket:
    host, port = split_address(listen)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
            bound.setblocking(False)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise FailedPrecondition(
                "PORT_IN_USE",
                f"cannot listen on {listen}: another process uses the port; stop it or choose another port",
            ) from error
        raise FailedPrecondition(
            "CANNOT_LISTEN", f"cannot listen on {listen}: {error.strerror or error}"
        ) from error
    return bound
