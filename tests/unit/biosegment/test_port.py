from __future__ import annotations

import socket
from pathlib import Path

import pytest

from biosegment.port import listen_anywhere

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_ports_are_free_and_below_those_that_the_system_gives_to_anybody():
    with listen_anywhere() as one, listen_anywhere() as other:
        ports = [each.getsockname()[1] for each in (one, other)]
        assert len(set(ports)) == 2
        with socket.create_connection(("127.0.0.1", ports[0]), timeout=60):
            pass
        if EPHEMERAL.exists():
            assert max(ports) < int(EPHEMERAL.read_text().split()[0])


def test_a_machine_without_a_free_port_says_so(monkeypatch):
    with listen_anywhere() as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda ports, count: [port] * count)
        with pytest.raises(OSError, match="none of 100 ports"):
            listen_anywhere()
