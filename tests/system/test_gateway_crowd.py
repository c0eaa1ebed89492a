"""A thousand connections that say nothing, and a gateway that is killed: others are served, and little is lost."""

from __future__ import annotations

import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.client import Client
from tests.system.platform import Platform, running, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

CROWD = 1000
MOST_MEMORY = 100 << 20
"""That the gateway may grow by, with a thousand connections on each port."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "in").mkdir()
    with running(folder, import_root=folder / "in") as platform:
        yield platform


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with platform.connect() as client:
        yield client


def _place(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("//")[2].rpartition(":")
    return host, int(port)


BEGINNINGS = [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01"]
"""What each fourth of the crowd says before it falls silent."""


def test_a_thousand_silent_connections_keep_nobody_out(platform: Platform, client: Client) -> None:
    connection = client.connection
    process = platform.process("gateway")
    client.projects.create("before", classes=["a"])
    memory = process.memory_info().rss
    with ExitStack() as crowd:
        for url in (connection.http_url, connection.address):
            for number in range(CROWD):
                line = crowd.enter_context(socket.create_connection(_place(url), timeout=60))
                line.sendall(BEGINNINGS[number % len(BEGINNINGS)])
        with urllib.request.urlopen(f"{connection.http_url}/healthz", timeout=60) as answer:
            assert answer.status == 200
        with grpc.insecure_channel(connection.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answered = stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert answered.status == health_pb2.HealthCheckResponse.SERVING
        with platform.connect() as late:
            assert late.projects.get("projects/before").name == "projects/before"
        assert process.memory_info().rss - memory < MOST_MEMORY
        # Those who say nothing are let go, and with them what they held.
        until(lambda: len(process.net_connections()) < CROWD, 180, "most of the crowd is gone")
    assert platform.process("gateway").pid == process.pid


def test_a_gateway_that_is_killed_loses_the_events_of_a_second_at_most(
    platform: Platform, client: Client
) -> None:
    made: list[tuple[float, str]] = []
    began = time.monotonic()
    while time.monotonic() - began < 3.0:
        name = f"users/u{len(made)}"
        client.platform.create_user(name.removeprefix("users/"))
        made.append((time.monotonic(), name))
    killed = time.monotonic()
    platform.kill("gateway")

    def recorded() -> set[str]:
        return {event.resource for event in client.platform.audit_events(action="CreateUser")}

    until(lambda: _answers(client), 120, "the gateway is back")
    kept = recorded()
    old = {name for at, name in made if killed - at > 1.0}
    assert len(old) > 3
    assert old <= kept
    # What was done is there, whether it is recorded or not.
    users = {user.name for user in client.platform.users()}
    assert {name for _, name in made} <= users


def test_a_gateway_that_is_killed_loses_only_the_latest_events_and_nothing_that_was_done(
    platform: Platform, client: Client
) -> None:
    made: list[str] = []
    written: set[str] = set()
    with closing(sqlite3.connect(f"file:{_database(platform)}?mode=ro", uri=True, timeout=60)) as database:

        def some_are_written() -> bool:
            made.append(f"users/v{len(made)}")
            client.platform.create_user(made[-1].removeprefix("users/"))
            rows = database.execute("SELECT resource FROM audit_events WHERE resource LIKE 'users/v%'")
            written.update(resource for (resource,) in rows)
            return len(written) > 3

        # Nobody reads the log meanwhile, which would have it written.
        until(some_are_written, 60, "events are written")
    platform.kill("gateway")
    until(lambda: _answers(client), 120, "the gateway is back")
    events = client.platform.audit_events(action="CreateUser")
    kept = {event.resource for event in events if event.resource.startswith("users/v")}
    assert written <= kept
    assert kept == set(made[: len(kept)]), "those that were lost are the last ones"
    # What was done is there, whether it is recorded or not.
    assert set(made) <= {user.name for user in client.platform.users()}


def _database(platform: Platform) -> Path:
    return Path(platform.data_dir, "db", "gateway.db")


def _answers(client: Client) -> bool:
    try:
        return client.platform.self().is_admin
    except Exception:
        return False


def test_a_database_on_this_machine_refuses_to_change_the_log(platform: Platform, client: Client) -> None:
    assert list(client.platform.audit_events())
    with sqlite3.connect(_database(platform), timeout=60) as database:
        for change in ("UPDATE audit_events SET user_id = 'x'", "DELETE FROM audit_events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(change)
