"""The services behind the gateway, as it reaches them over gRPC."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.auth import Principal, PrincipalSigner
from biosegment.errors import BiosegmentError, Unavailable
from biosegment.rpc.channel import CONNECTION_OPTIONS, CallPolicy, ServiceCredentials, connect
from biosegment.rpc.server import VERSION_KEY
from biosegment.rpc.tls import MutualTls, secure_channel

# Above about a thousand calls on one connection gRPC loses some; the gateway takes 2048 at a time.
_CONNECTIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Health:
    """What a service says of itself; `serving` is None when it says nothing, and `version` is '' then."""

    serving: bool | None
    version: str


class Upstream:
    """One service: connections for forwarding raw calls, and a channel for the gateway's own ones."""

    def __init__(
        self, name: str, address: str, signer: PrincipalSigner, tls: MutualTls | None = None
    ) -> None:
        towards = tls.towards(name) if tls else None
        self.name = name
        self.address = address
        self._credentials = ServiceCredentials(signer, name)
        self._connections = [
            secure_channel(address, towards, options=CONNECTION_OPTIONS) for _ in range(_CONNECTIONS)
        ]
        self._turn = itertools.cycle(self._connections)
        self.channel = connect(
            address, credentials=self._credentials, policy=CallPolicy(attempts=2), tls=towards
        )

    def metadata(self, principal: Principal) -> tuple[tuple[str, str], ...]:
        """Metadata with which the gateway vouches for a user towards this service; signed once in minutes."""
        return self._credentials.metadata(principal)

    def call(self, method: str) -> Any:
        """A callable for a method of any shape, in bytes."""
        return next(self._turn).stream_stream(method)

    def unary_call(self, method: str) -> Any:
        """A callable for a method of one request and one response, in bytes; cheaper than `call`."""
        return next(self._turn).unary_unary(method)

    def stream_call(self, method: str) -> Any:
        """A callable for a method of one request and many responses, in bytes."""
        return next(self._turn).unary_stream(method)

    async def health(self, timeout_s: float = 3.0) -> Health:
        """Ask the service how it is, for at most `timeout_s` seconds."""
        stub = health_pb2_grpc.HealthStub(self._connections[0])
        call = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        try:
            answer = await call
            version = next((value for key, value in await call.trailing_metadata() if key == VERSION_KEY), "")
        except grpc.aio.AioRpcError:
            return Health(None, "")
        return Health(answer.status == health_pb2.HealthCheckResponse.SERVING, str(version))

    def unavailable(self, details: str = "") -> Unavailable:
        """The error that says that this service is away."""
        extra = f" ({details})" if details else ""
        return Unavailable(
            "SERVICE_UNAVAILABLE",
            f"the {self.name} cannot be reached; is it running? Try again in a moment{extra}",
            service=self.name,
        )

    def named(self, error: BiosegmentError) -> BiosegmentError:
        """An error of `channel`, with the service's name where there was only an address."""
        if isinstance(error, Unavailable) and error.reason == "SERVICE_UNAVAILABLE":
            return self.unavailable()
        return error

    async def close(self) -> None:
        """Close all connections; calls under way are cancelled."""
        for channel in (*self._connections, self.channel):
            await channel.close()
