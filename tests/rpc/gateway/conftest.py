from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from biosegment_gateway.gateway import Gateway, open_gateway
from biosegment_gateway.settings import GatewaySettings

from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import add_DatastoreServiceServicer_to_server
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.api.job.v1alpha1.job_pb2_grpc import add_JobServiceServicer_to_server
from biosegment.api.trainer.v1alpha1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server
from biosegment.auth import Authorizer, Permission, Principal, PrincipalVerifier, Role
from biosegment.database import Database
from biosegment.jobs import JobKind, JobService, JobSignal, SqlJobs
from biosegment.jobs.servicer import JOB_SERVICE, JobServicer
from biosegment.jobs.tables import create_job_tables_v1, extend_job_tables_v2, extend_job_tables_v3
from biosegment.rpc.channel import CallPolicy, connect
from biosegment.rpc.server import RpcServer
from tests.rpc.gateway.shelf import ShelfDatastore, ShelfSampler, ShelfTrainer
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
    datastore: ShelfDatastore
    sampler: ShelfSampler
    trainer: ShelfTrainer
    jobs: dict[str, SqlJobs]


class _Nobody:
    """Only administrators may do something, and they need no membership."""

    async def role(self, user: str, project_id: str) -> Role | None:
        return None


async def _as_it_is(principal: Principal, project_id: str, spec: bytes) -> bytes:
    return spec


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[dict[str, SqlJobs]]:
    """The job rows of the datastore and of the trainer."""
    found, databases = {}, []
    for name in ("datastore", "trainer"):
        engine = sa.create_engine(f"sqlite:///{tmp_path}/{name}.sqlite")
        with engine.begin() as connection:
            operations = Operations(MigrationContext.configure(connection))
            create_job_tables_v1(operations)
            extend_job_tables_v2(operations)
            extend_job_tables_v3(operations)
        engine.dispose()
        databases.append(Database.open(f"sqlite+aiosqlite:///{tmp_path}/{name}.sqlite"))
        found[name] = SqlJobs(databases[-1], name, JobSignal())
    yield found
    for database in databases:
        await database.close()


@pytest.fixture
async def upstreams(keys: Path, jobs: dict[str, SqlJobs]) -> AsyncIterator[Upstreams]:
    servers, trials, addresses = {}, {}, {}
    datastore, sampler, trainer = ShelfDatastore(), ShelfSampler(), ShelfTrainer()
    kinds = {
        "datastore": {"import_volume": JobKind(Permission.VOLUME_WRITE, _as_it_is)},
        "trainer": {"train": JobKind(Permission.MODEL_WRITE, _as_it_is)},
    }
    for name in ("datastore", "sampler", "trainer"):
        trials[name] = UpstreamTrial()
        servers[name] = RpcServer("127.0.0.1:0", PrincipalVerifier.from_folder(name, keys))
        servers[name].add_generic(trials[name], f"biosegment.api.{name}.v1alpha1.Trial")
        if name in jobs:
            service = JobService(jobs[name], Authorizer(_Nobody()), kinds[name])
            servers[name].add(add_JobServiceServicer_to_server, JobServicer(service), JOB_SERVICE)
    servers["datastore"].add(add_DatastoreServiceServicer_to_server, datastore, DATASTORE.strip("/"))
    servers["sampler"].add_generic(sampler.handler, SAMPLER.strip("/"))
    servers["trainer"].add(add_TrainerServiceServicer_to_server, trainer, TRAINER.strip("/"))
    for name, server in servers.items():
        addresses[name] = await server.start()
    yield Upstreams(servers, trials, addresses, datastore, sampler, trainer, jobs)
    for server in servers.values():
        await server.stop(0)


def settings_in(folder: Path, keys: Path) -> MakeSettings:
    """Settings of a gateway on free ports, with a database and an object store in `folder`."""

    def make(addresses: dict[str, str], **others: Any) -> GatewaySettings:
        return GatewaySettings(
            object_store_url=f"file://{folder}/objects",
            database_url=f"sqlite+aiosqlite:///{folder}/gateway.sqlite",
            signing_key_file=keys / "gateway.key",
            public_keys_dir=keys,
            admin_token_file=str(folder / "admin-token"),
            **{f"{name}_address": address for name, address in addresses.items()},
            **others,
        )

    return make


@pytest.fixture
def make_settings(keys: Path, tmp_path: Path) -> MakeSettings:
    """As `settings_in`, in tmp_path."""
    return settings_in(tmp_path, keys)


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
    # A password costs a tenth of a second of all cores, which other tests may be using.
    async with httpx.AsyncClient(base_url=f"http://{running.http_address}", timeout=60) as client:
        yield client


@pytest.fixture
def make_user(client: grpc.aio.Channel) -> Callable[[str], Awaitable[str]]:
    """Makes a user and returns an API token of theirs."""
    stub = IdentityServiceStub(client)

    async def make(user_id: str) -> str:
        await stub.CreateUser(identity_pb2.CreateUserRequest(user_id=user_id))
        answer = await stub.CreateToken(identity_pb2.CreateTokenRequest(parent=f"users/{user_id}"))
        return str(answer.secret)

    return make
