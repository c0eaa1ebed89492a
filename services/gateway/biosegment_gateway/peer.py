"""From where a call comes: the address of the connection, or what a proxy that is trusted says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import Scope

FORWARDED_FOR: Final = "x-forwarded-for"

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[_Network, ...]:
    """Addresses and networks, `10.0.0.7, 192.168.0.0/16`; ValueError says which one is none."""
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


def http_peer(scope: Scope) -> str:
    """`host:port` of whom an HTTP request comes from, `host` where the port is not known; '' when nothing is."""
    client = scope.get("client")
    if not client:
        return ""
    host, port = client
    return _joined(host, port) if port else str(host)


def host_of(peer: str) -> str:
    """The host in `host:port`, or in `host` alone."""
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    return peer.partition(":")[0] if peer.count(":") == 1 else peer


class Proxies:
    """Which hops of a call may be believed.

    Args:
        networks: Of the proxies whose `x-forwarded-for` counts.
    """

    def __init__(self, networks: Sequence[_Network] = ()) -> None:
        self._networks = tuple(networks)

    def grpc_peer(self, context: Any) -> str:
        """`host:port` of whom a gRPC call comes from, or `host` alone as a trusted proxy says it."""
        host, port = _split(context.peer())
        if not self._networks or not self._trusts(host):
            return _joined(host, port) if port else host
        said = [value for key, value in context.invocation_metadata() or () if key == FORWARDED_FOR]
        return self._client(host, ",".join(said))

    def _client(self, host: str, forwarded_for: str) -> str:
        # Each proxy appends whom it heard: read from the end, as far as those that are trusted.
        for hop in reversed([hop.strip() for hop in forwarded_for.split(",")]):
            if not _is_address(hop):
                return host
            host = hop
            if not self._trusts(host):
                return host
        return host

    def _trusts(self, host: str) -> bool:
        if not _is_address(host):
            return False
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)


def _split(peer: str) -> tuple[str, int]:
    """Host and port of gRPC's `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`; other kinds have no port."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind in ("ipv4", "ipv6") and port.isdecimal():
        return host.removeprefix("[").removesuffix("]"), int(port)
    return peer, 0


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
