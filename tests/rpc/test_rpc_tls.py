"""Encrypted channels with real certificates: of a public server, and between services."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.auth import Kind, Principal, PrincipalSigner, PrincipalVerifier
from biosegment.client.transport import transport
from biosegment.errors import FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.server import RpcServer
from biosegment.rpc.tls import Certificate, ChannelTls, MutualTls, ServerTls
from tests.rpc.trial_service import NAME, TrialService, TrialStub, request
from tests.servers.authority import Authority, touch
from tests.servers.port import free_port


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def public(authority: Authority, trial: TrialService, verifier: PrincipalVerifier):
    """The address of a server whose certificate is for `localhost`."""
    certificate = authority.certificate("localhost", "127.0.0.1")
    server = RpcServer("127.0.0.1:0", verifier, tls=ServerTls(certificate))
    server.add_generic(trial, NAME)
    yield await server.start()
    await server.stop(0)


@pytest.fixture
async def inside(authority: Authority, trial: TrialService, verifier: PrincipalVerifier):
    """The address of the datastore, as the other services reach it."""
    server = RpcServer("127.0.0.1:0", verifier, tls=authority.service("datastore"))
    server.add_generic(trial, NAME)
    yield await server.start()
    await server.stop(0)


async def _ask(address: str, tls: ChannelTls | None, credentials: Any, timeout_s: float = 20.0) -> bytes:
    policy = CallPolicy(attempts=2, first_pause_s=0.01, last_pause_s=0.01)
    async with connect(address, credentials=credentials, policy=policy, tls=tls) as channel:
        return await TrialStub(channel).get_one(request(), timeout=timeout_s)


async def test_a_client_that_trusts_the_authority_is_served(public, authority, sampler, monkeypatch):
    monkeypatch.setenv("BIOSEGMENT_CA_FILE", str(authority.file))
    for address in (f"https://{public}", f"https://localhost:{public.rpartition(':')[2]}"):
        target, tls = transport(address)
        assert (await _ask(target, tls, sampler)).startswith(b"service:sampler ")


async def test_what_cannot_be_trusted_is_said_at_once_and_with_advice(public, authority, sampler, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    cases = {
        "BIOSEGMENT_CA_FILE": ChannelTls(Authority(other).file),
        "name that it was made for": ChannelTls(authority.file, peer_name="lab.example.org"),
        "its time is over": ChannelTls(),
    }
    for advice, tls in cases.items():
        with pytest.raises(FailedPrecondition, match=advice) as caught:
            await _ask(public, tls, sampler)
        assert caught.value.reason == "TLS_FAILED"
        assert public in caught.value.message


async def test_who_encrypts_where_nobody_does_is_told(address, authority, sampler):
    with pytest.raises(FailedPrecondition, match="without https://"):
        await _ask(address, ChannelTls(authority.file), sampler)


async def test_who_does_not_encrypt_gets_no_answer_and_is_told_of_it(public, sampler):
    with pytest.raises(Unavailable, match="https://"):
        await _ask(public, None, sampler)


async def test_a_renewed_certificate_is_shown_to_new_connections(public, authority):
    async def serial() -> str:
        port = int(public.rpartition(":")[2])
        context = ssl.create_default_context(cafile=authority.file)
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return found

    first = await serial()
    assert await serial() == first
    certificate = authority.certificate("localhost", "127.0.0.1")
    touch(certificate)
    second = await serial()
    assert second != first
    certificate.key_file.write_text("half written")
    touch(certificate, 2)
    assert await serial() == second, "what is no certificate changes nothing"


async def test_services_show_each_other_who_they_are(inside, authority, sampler):
    tls = authority.service("sampler").towards("datastore")
    assert (await _ask(inside, tls, sampler)).startswith(b"service:sampler ")


async def test_a_service_is_not_taken_for_another(inside, authority, sampler, keys):
    # The server: a sampler that answers at the datastore's address.
    with pytest.raises(FailedPrecondition, match="that of another name"):
        await _ask(inside, authority.service("sampler").towards("trainer"), sampler)
    # The client: the trainer with a token of the sampler, and of a user, whom only the gateway brings.
    from_trainer = authority.service("trainer").towards("datastore")
    signer = PrincipalSigner("gateway", keys / "gateway.key")
    user = ServiceCredentials(signer, "datastore").token(Principal(Kind.USER, "ann"))
    for credentials in (sampler, lambda: user):
        with pytest.raises(Unauthenticated, match="certificate names") as caught:
            await _ask(inside, from_trainer, credentials)
        assert caught.value.reason == "WRONG_PEER"
    assert b"user:ann" in await _ask(inside, authority.service("gateway").towards("datastore"), lambda: user)


async def test_without_a_certificate_of_the_authority_nobody_is_inside(inside, authority, sampler, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    foreign = MutualTls(Authority(other).certificate("sampler"), authority.file)
    for tls in (None, ChannelTls(authority.file, peer_name="datastore"), foreign.towards("datastore")):
        with pytest.raises((Unavailable, FailedPrecondition)):
            await _ask(inside, tls, sampler)


async def test_workers_on_other_machines_speak_for_their_jobs_alone(authority, keys, trial, sampler):
    server = RpcServer(
        "127.0.0.1:0", PrincipalVerifier.from_folder("trainer", keys), tls=authority.service("trainer")
    )
    server.add_generic(trial, NAME)
    address = await server.start()
    tls = authority.service("ray-worker").towards("trainer")
    signer = PrincipalSigner("trainer", keys / "trainer.key")
    job = signer.sign(Principal(Kind.JOB, "trainer-1"), "trainer")
    assert b"job:trainer-1" in await _ask(address, tls, lambda: job)
    with pytest.raises(Unauthenticated):
        await _ask(address, tls, lambda: signer.sign(signer.principal, "trainer"))
    await server.stop(0)


async def test_probes_that_know_no_certificates_have_a_port_of_their_own(authority, trial, verifier):
    place = f"127.0.0.1:{free_port()}"
    server = RpcServer("127.0.0.1:0", verifier, tls=authority.service("datastore"), health_listen=place)
    server.add_generic(trial, NAME)
    await server.start()
    async with grpc.aio.insecure_channel(place) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "liveness", NAME):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(NAME, False)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=NAME))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await TrialStub(channel).get_one(request())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop(0)


def test_certificates_that_are_none_are_named(authority, tmp_path):
    good, other = authority.certificate("a"), authority.certificate("b")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    for certificate, what in (
        (Certificate(tmp_path / "missing.pem", good.key_file), "missing.pem: No such file"),
        (Certificate(nonsense, good.key_file), "must hold a certificate"),
        (Certificate(good.certificate_file, nonsense), "must hold a certificate"),
        (Certificate(good.certificate_file, other.key_file), "is not that of"),
    ):
        with pytest.raises(FailedPrecondition, match=what) as caught:
            ServerTls(certificate).credentials()
        assert caught.value.reason == "BAD_CERTIFICATE"
    for path in (nonsense, tmp_path / "missing.pem"):
        with pytest.raises(FailedPrecondition):
            ChannelTls(path).credentials()


def test_an_encrypted_server_may_listen_everywhere(authority, verifier):
    RpcServer("0.0.0.0:1", verifier, tls=ServerTls(authority.certificate("a")))
    with pytest.raises(InvalidArgument, match="or certificates"):
        RpcServer("0.0.0.0:1", verifier)


@pytest.mark.parametrize(
    ("address", "target", "encrypted"),
    [
        ("host:1", "host:1", False),
        ("dns:///host:1", "dns:///host:1", False),
        ("http://host:1", "host:1", False),
        ("https://host:1", "host:1", True),
        ("https://host:1/", "host:1", True),
        ("https://host", "host:443", True),
        ("https://[::1]", "[::1]:443", True),
        ("https://[::1]:7310", "[::1]:7310", True),
    ],
)
def test_addresses_say_whether_they_are_encrypted(address, target, encrypted):
    found, tls = transport(address)
    assert (found, tls is not None) == (target, encrypted)


@pytest.mark.parametrize("address", ["https://", "https://host:1/path", "https://user@host:1"])
def test_addresses_that_are_none_are_refused(address):
    with pytest.raises(InvalidArgument, match="https://host:port"):
        transport(address)
