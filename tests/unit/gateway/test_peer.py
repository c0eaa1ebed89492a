from __future__ import annotations

from types import SimpleNamespace

import pytest
from biosegment_gateway.peer import Proxies, http_peer, parse_networks

INSIDE = Proxies(parse_networks("10.0.0.0/8, 192.168.1.7, fd00::/8"))


def _call(peer, *forwarded):
    metadata = tuple(("x-forwarded-for", value) for value in forwarded)
    return SimpleNamespace(peer=lambda: peer, invocation_metadata=lambda: metadata)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("ipv4:203.0.113.5:4711", (), "203.0.113.5:4711"),
        ("ipv6:%5B2001:db8::1%5D:4711", (), "[2001:db8::1]:4711"),
        ("unix:", (), "unix:"),
        ("127.0.0.1:80", (), "127.0.0.1:80"),
        # Whoever is not trusted may say what they like.
        ("ipv4:203.0.113.5:1", ("198.51.100.1",), "203.0.113.5:1"),
        ("ipv4:10.0.0.2:1", ("198.51.100.1",), "198.51.100.1"),
        ("ipv6:%5Bfd00::2%5D:1", ("2001:db8::9",), "2001:db8::9"),
        ("ipv4:192.168.1.7:1", ("198.51.100.1",), "198.51.100.1"),
        ("ipv4:192.168.1.8:1", ("198.51.100.1",), "192.168.1.8:1"),
        # Behind two proxies; what the client itself put before is not believed.
        ("ipv4:10.0.0.2:1", ("1.1.1.1, 198.51.100.1, 10.9.9.9",), "198.51.100.1"),
        ("ipv4:10.0.0.2:1", ("1.1.1.1", "198.51.100.1", "10.9.9.9"), "198.51.100.1"),
        ("ipv4:10.0.0.2:1", ("nonsense, 10.9.9.9",), "10.9.9.9"),
        ("ipv4:10.0.0.2:1", ("",), "10.0.0.2"),
        ("ipv4:10.0.0.2:1", (), "10.0.0.2"),
        ("ipv4:10.0.0.2:1", ("x" * 10_000,), "10.0.0.2"),
    ],
)
def test_a_call_comes_from_the_first_address_that_is_not_trusted(peer, forwarded, expected):
    assert INSIDE.grpc_peer(_call(peer, *forwarded)) == expected


def test_without_proxies_nothing_that_is_said_counts():
    assert Proxies().grpc_peer(_call("ipv4:10.0.0.2:1", "198.51.100.1")) == "10.0.0.2:1"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy", "10.0.0.1/8", "10.0.0.1 10.0.0.2"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(ValueError, match=r"10|proxy"):
        parse_networks(text)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80), "[::1]:80"),
        (("10.0.0.1", 0), "10.0.0.1"),
        (None, ""),
    ],
)
def test_the_peer_of_a_request(client, expected):
    assert http_peer({"client": client}) == expected
