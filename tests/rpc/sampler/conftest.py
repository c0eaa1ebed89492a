from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from biosegment_sampler.__main__ import Application, build
from biosegment_sampler.settings import SamplerSettings
from biosegment_sampler.sql import SqlLedger

from biosegment.api.datastore.v1alpha1 import annotation_pb2_grpc, datastore_pb2_grpc
from biosegment.api.job.v1alpha1 import job_pb2_grpc
from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.api.trainer.v1alpha1 import trainer_pb2_grpc
from biosegment.auth import Kind, Principal, PrincipalSigner, PrincipalVerifier
from biosegment.database import Database, migrate
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.rpc.geometry import region_from_proto
from biosegment.rpc.server import RpcServer
from tests.rpc.sampler.foreign import PROJECT, ForeignDatastore, ForeignTrainer, Records
from tests.servers.postgres import postgres


@dataclass
class Platform:
    """A real sampler between a foreign datastore and a foreign trainer."""

    application: Application
    settings: SamplerSettings
    address: str
    records: Records
    trainer: ForeignTrainer
    credentials: ServiceCredentials
    stub: Any
    clock: list[float]

    def as_user(self, user: str, *, admin: bool = False, name: str = "") -> tuple[tuple[str, str], ...]:
        return self.credentials.metadata(Principal(Kind.USER, user, is_admin=admin, display_name=name))

    async def ask(self, caller: str, method: str, /, **fields: Any) -> Any:
        """Call a method by its name, in the project where it takes a parent."""
        request_type = getattr(pb, f"{method}Request")
        if "parent" in request_type.DESCRIPTOR.fields_by_name:
            fields.setdefault("parent", PROJECT)
        return await getattr(self.stub, method)(request_type(**fields), metadata=self.as_user(caller))

    async def claim(self, user: str, **fields: Any) -> pb.ClaimSamplesResponse:
        request = pb.ClaimSamplesRequest(parent=PROJECT, **fields)
        answer: pb.ClaimSamplesResponse = await self.stub.ClaimSamples(request, metadata=self.as_user(user))
        return answer

    async def pool(self) -> pb.Pool:
        request = pb.GetPoolRequest(name=f"{PROJECT}/pool")
        answer = await self.stub.GetPool(request, metadata=self.as_user("mia"))
        pool: pb.Pool = answer.pool
        return pool

    async def update(self, *paths: str, **fields: Any) -> pb.Pool:
        request = pb.UpdatePoolRequest(pool=pb.Pool(name=f"{PROJECT}/pool", **fields))
        request.update_mask.paths.extend(paths)
        answer = await self.stub.UpdatePool(request, metadata=self.as_user("mia"))
        pool: pb.Pool = answer.pool
        return pool

    async def step(self) -> None:
        await self.application.loop.step("p1")

    def answer(self, user: str, sample: pb.Sample, counts: dict[int, int] | None = None) -> str:
        """Annotate a leased sample."""
        return self.records.commit(
            user,
            region_from_proto(sample.region),
            counts or {1: 16384},
            volume=sample.volume.rpartition("/")[2],
            token=sample.lease.token,
        )


@pytest.fixture
def records(tmp_path: Path, keys: Path) -> Records:
    return Records(
        tmp_path / "objects", PrincipalVerifier.from_folder("datastore", keys), {"v1": (40, 256, 384)}
    )


@pytest.fixture
async def foreign(records: Records, keys: Path) -> AsyncIterator[tuple[str, str, ForeignTrainer]]:
    datastore, trainer = ForeignDatastore(records), ForeignTrainer(records)
    first = RpcServer("127.0.0.1:0", PrincipalVerifier.from_folder("datastore", keys))
    first.add(datastore_pb2_grpc.add_DatastoreServiceServicer_to_server, datastore, "datastore")
    first.add(annotation_pb2_grpc.add_AnnotationServiceServicer_to_server, datastore, "annotation")
    second = RpcServer("127.0.0.1:0", PrincipalVerifier.from_folder("trainer", keys))
    second.add(job_pb2_grpc.add_JobServiceServicer_to_server, trainer, "job")
    second.add(trainer_pb2_grpc.add_TrainerServiceServicer_to_server, trainer, "trainer")
    yield await first.start(), await second.start(), trainer
    await first.stop(0)
    await second.stop(0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlLedger]:
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    else:
        server = postgres()
        url = server.__enter__().replace("postgresql://", "postgresql+psycopg://")
    await asyncio.to_thread(migrate, url, "biosegment_sampler")
    database = Database.open(url)
    yield SqlLedger(database)
    await database.close()
    if request.param != "sqlite":
        server.__exit__(None, None, None)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims wait for the ranking of new scores, however slow the machine is."""
    monkeypatch.setattr("biosegment_sampler.standing.PATIENCE_S", 60.0)


Start = Callable[[], Any]


@pytest.fixture
def start(foreign: tuple[str, str, ForeignTrainer], records: Records, keys: Path, tmp_path: Path) -> Start:
    """Starts a sampler on the same database each time, as a restart does."""
    datastore_address, trainer_address, trainer = foreign
    settings = SamplerSettings(
        object_store_url=f"file://{tmp_path / 'objects'}",
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'sampler.sqlite'}",
        signing_key_file=keys / "sampler.key",
        public_keys_dir=keys,
        datastore_address=datastore_address,
        trainer_address=trainer_address,
        poll_interval_s=0.05,
    )
    shift = [0.0]

    @asynccontextmanager
    async def started() -> AsyncIterator[Platform]:
        application = await build(settings, lambda: time.time() + shift[0])
        address = await application.server.start()
        credentials = ServiceCredentials(PrincipalSigner("gateway", keys / "gateway.key"), "sampler")
        channel = connect(address, credentials=credentials)
        try:
            stub = sampler_pb2_grpc.SamplerServiceStub(channel)
            yield Platform(application, settings, address, records, trainer, credentials, stub, shift)
        finally:
            await channel.close()
            await application.server.stop(0)
            await application.close()

    return started


@pytest.fixture
async def platform(start: Start) -> AsyncIterator[Platform]:
    async with start() as platform:
        yield platform


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.02)
