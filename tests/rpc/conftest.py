from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from biosegment.auth import SERVICES, PrincipalSigner, PrincipalVerifier, generate_key
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.server import RpcServer
from tests.rpc.trial_service import NAME, TrialService


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key pair of every service."""
    folder = tmp_path_factory.mktemp("keys")
    for service in SERVICES:
        generate_key(service, folder)
    return folder


@pytest.fixture
def verifier(keys: Path) -> PrincipalVerifier:
    return PrincipalVerifier.from_folder("datastore", keys)


@pytest.fixture
def gateway(keys: Path) -> ServiceCredentials:
    """The gateway, which may vouch for users, towards the datastore."""
    return ServiceCredentials(PrincipalSigner("gateway", keys / "gateway.key"), "datastore")


@pytest.fixture
def sampler(keys: Path) -> ServiceCredentials:
    return ServiceCredentials(PrincipalSigner("sampler", keys / "sampler.key"), "datastore")


@pytest.fixture
async def trial() -> TrialService:
    return TrialService()


@pytest.fixture
async def address(trial: TrialService, verifier: PrincipalVerifier) -> AsyncIterator[str]:
    """A running server of the trial service, as the datastore."""
    server = RpcServer("127.0.0.1:0", verifier)
    server.add_generic(trial, NAME)
    yield await server.start()
    await server.stop(0)


@pytest.fixture
async def channel(address: str, sampler: ServiceCredentials) -> AsyncIterator[grpc.aio.Channel]:
    policy = CallPolicy(first_pause_s=0.01, last_pause_s=0.05)
    async with connect(address, credentials=sampler, policy=policy) as channel:
        yield channel
