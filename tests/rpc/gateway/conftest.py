from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from biosegment_gateway.gateway import Gateway, open_gateway
from biosegment_gateway.settings import GatewaySettings

from biosegment.auth import PrincipalVerifier
from biosegment.rpc.channel import CallPolicy, connect
from biosegment.rpc.server import RpcServer
from tests.rpc.gateway.upstream_trial import UpstreamTrial

DATASTORE = "/biosegment.api.datastore.v1alpha1.DatastoreService/"
SAMPLER = "/biosegment.api.sampler.v1alpha1.SamplerService/"
TRAINER = "/biosegment.api.trainer.v1alpha1.TrainerService/"

MakeSettings = Callable[..., GatewaySettings]


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Real servers behind the gateway, each with a service of bytes that does as it is told."""

    servers: dict[str, RpcServer]
    trials: dict[str, UpstreamTrial]
    addresses: dict[str, str]


@pytest.fixture
async def upstreams(keys: Path) -> AsyncIterator[Upstreams]:
    servers, trials, addresses = {}, {}, {}
    for name in ("datastore", "sampler", "trainer"):
        trials[name] = UpstreamTrial()
        servers[name] = RpcServer("127.0.0.1:0", PrincipalVerifier.from_folder(name, keys))
        servers[name].add_generic(trials[name], f"biosegment.api.{name}.v1alpha1.Trial")
        addresses[name] = await servers[name].start()
    yield Upstreams(servers, trials, addresses)
    for server in servers.values():
        await server.stop(0)


@pytest.fixture
def make_settings(keys: Path, tmp_path: Path) -> MakeSettings:
    """Settings of a gateway on free ports, with a database and an object store in tmp_path."""

    def make(addresses: dict[str, str], **others: Any) -> GatewaySettings:
        return GatewaySettings(
            object_store_url=f"file://{tmp_path}/objects",
            database_url=f"sqlite+aiosqlite:///{tmp_path}/gateway.sqlite",
            signing_key_file=keys / "gateway.key",
            public_keys_dir=keys,
            admin_token_file=str(tmp_path / "admin-token"),
            **{f"{name}_address": address for name, address in addresses.items()},
            **others,
        )

    return make


@pytest.fixture
async def running(upstreams: Upstreams, make_settings: MakeSettings) -> AsyncIterator[Gateway]:
    async with open_gateway(make_settings(upstreams.addresses)) as gateway:
        yield gateway


@pytest.fixture
def admin_token(running: Gateway, tmp_path: Path) -> str:
    return (tmp_path / "admin-token").read_text().strip()


@pytest.fixture
async def client(running: Gateway, admin_token: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the gateway as the administrator; tries nothing twice."""
    async with connect(
        running.grpc_address, credentials=lambda: admin_token, policy=CallPolicy(attempts=1)
    ) as channel:
        yield channel


@pytest.fixture
async def raw(running: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of plain gRPC to the gateway."""
    async with grpc.aio.insecure_channel(running.grpc_address) as channel:
        yield channel


@pytest.fixture
async def web(running: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the gateway, without a token."""
    async with httpx.AsyncClient(base_url=f"http://{running.http_address}") as client:
        yield client
