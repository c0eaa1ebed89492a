"""The four processes with certificates of a lab's own authority: among themselves and on both public ports."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from biosegment.auth import SERVICES
from biosegment.client import Client, connect
from biosegment.client.resources import JobState
from biosegment.errors import FailedPrecondition
from biosegment.rpc.tls import ChannelTls
from tests.servers.authority import Authority, touch
from tests.system.platform import Platform, running, until
from tests.system.tissue import SAMPLE_SHAPE, Bench, set_up, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Scene:
    platform: Platform
    bench: Bench
    authority: Authority

    @property
    def client(self) -> Client:
        return self.bench.client

    @property
    def connection(self) -> dict[str, str]:
        path = self.platform.data_dir / "run" / "connection.json"
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def addresses(self) -> dict[str, str]:
        return {status.service: status.address for status in self.client.platform.status()}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("encryption")
    certificates = folder / "certificates"
    certificates.mkdir()
    authority = Authority(certificates)
    public = authority.certificate("localhost", "127.0.0.1", file="public")
    environment = {
        "BIOSEGMENT_GATEWAY__TLS_CERTIFICATE_FILE": str(public.certificate_file),
        "BIOSEGMENT_GATEWAY__TLS_KEY_FILE": str(public.key_file),
    }
    for service in SERVICES:
        own = authority.service(service)
        environment |= {
            f"BIOSEGMENT_{service.upper()}__MTLS_CERTIFICATE_FILE": str(own.certificate.certificate_file),
            f"BIOSEGMENT_{service.upper()}__MTLS_KEY_FILE": str(own.certificate.key_file),
            f"BIOSEGMENT_{service.upper()}__MTLS_CA_FILE": str(own.ca_file),
        }
    tissue = write_tissue(folder / "in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOSEGMENT_CA_FILE", str(authority.file))
        with (
            running(folder, import_root=folder / "in", environment=environment) as platform,
            platform.connect() as client,
        ):
            yield Scene(platform, set_up(client, tissue, "em", SAMPLE_SHAPE), authority)


def test_everything_works_over_encrypted_connections(scene: Scene) -> None:
    until(
        lambda: {status.health for status in scene.client.platform.status()} == {"serving"},
        60,
        "every service answers the gateway",
    )
    scene.bench.annotate_next(2)
    # A worker of Ray reports to the trainer, which reads through the datastore; the sampler asks both.
    done = scene.bench.train()
    assert done.state is JobState.SUCCEEDED, done.error
    assert scene.client.samples.claim(scene.bench.project, 1).samples


METHODS = {
    "datastore": "/biosegment.api.datastore.v1alpha1.DatastoreService/ListProjects",
    "sampler": "/biosegment.api.sampler.v1alpha1.SamplerService/GetPool",
    "trainer": "/biosegment.api.trainer.v1alpha1.TrainerService/ListModels",
    "gateway": "/biosegment.api.datastore.v1alpha1.DatastoreService/ListProjects",
}
"""Of each service, one that exists: of others nobody is asked who they are."""


def test_no_port_speaks_plain_text_and_none_of_the_inside_takes_others(scene: Scene) -> None:
    outsider = scene.authority.certificate("outsider")
    for service, address in scene.addresses().items():
        method = METHODS[service]
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, service
        if service == "gateway":
            continue
        without = ChannelTls(scene.authority.file, peer_name=service)
        with (
            grpc.secure_channel(address, without.credentials(), options=without.options) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            channel.unary_unary(method)(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, service
        # Of the same authority, but nobody's: connected, and not believed.
        strange = ChannelTls(scene.authority.file, outsider, service)
        token = scene.client.connection.token
        with (
            grpc.secure_channel(address, strange.credentials(), options=strange.options) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            channel.unary_unary(method)(b"", timeout=20, metadata=[("authorization", f"Bearer {token}")])
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, service


def test_the_page_and_the_address_file_say_https(scene: Scene) -> None:
    found = scene.connection
    assert found["http"].startswith("https://")
    assert found["grpc"].startswith("https://")
    context = ssl.create_default_context(cafile=scene.authority.file)
    with urllib.request.urlopen(f"{found['http']}/", context=context, timeout=20) as answer:
        assert answer.headers["strict-transport-security"]
    assert f"web   {found['http']}/#token=" in scene.platform.output.read_text()


def test_a_client_without_the_authority_is_told_what_to_do(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOSEGMENT_CA_FILE", str(Authority(tmp_path).file))
    with connect(data_dir=scene.platform.data_dir) as client:
        with pytest.raises(FailedPrecondition, match="BIOSEGMENT_CA_FILE"):
            client.platform.self()


def test_a_renewed_certificate_needs_no_restart(scene: Scene) -> None:
    host, _, port = scene.connection["http"].removeprefix("https://").rpartition(":")

    def shown(port: int) -> str:
        return ssl.get_server_certificate((host, port), timeout=20)

    ports = [int(port), int(scene.connection["grpc"].rpartition(":")[2])]
    before = [shown(each) for each in ports]
    touch(scene.authority.certificate("localhost", "127.0.0.1", file="public"))
    until(lambda: all(shown(p) != old for p, old in zip(ports, before, strict=True)), 60, "renewed")
    assert scene.client.platform.self().is_admin
