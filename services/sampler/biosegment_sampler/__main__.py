"""The sampler's process: everything is built here."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from biosegment import telemetry
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.auth import Authorizer, PrincipalSigner, PrincipalVerifier
from biosegment.database import Database, migrate
from biosegment.errors import BiosegmentError
from biosegment.memberships import DatastoreMemberships
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.rpc.server import RpcServer, run_until_signal
from biosegment_sampler.datastore_client import DatastoreClient
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.leasing import LeasingService
from biosegment_sampler.proposal import Proposer
from biosegment_sampler.scores_zarr import ZarrScoreMaps
from biosegment_sampler.service import PoolService
from biosegment_sampler.servicer import SERVICE_NAME, SamplerServicer
from biosegment_sampler.settings import SamplerSettings
from biosegment_sampler.sql import SqlLedger
from biosegment_sampler.trainer_client import TrainerClient
from biosegment_sampler.training import TrainingLoop


@dataclass(frozen=True, slots=True)
class Application:
    """A built sampler: serve with `server`, run `loop`, then `close`."""

    server: RpcServer
    loop: TrainingLoop
    database: Database
    channels: tuple[grpc.aio.Channel, ...]

    async def close(self) -> None:
        """Close connections."""
        for channel in self.channels:
            await channel.close()
        await self.database.close()


async def build(settings: SamplerSettings, clock: Callable[[], float] = time.time) -> Application:
    """Migrate the database and put the parts together; nothing listens yet."""
    await asyncio.to_thread(migrate, settings.database_url, "biosegment_sampler")
    signer = PrincipalSigner("sampler", settings.signing_key_file)
    trainer_credentials = ServiceCredentials(signer, "trainer")
    to_datastore = connect(settings.datastore_address, credentials=ServiceCredentials(signer, "datastore"))
    to_trainer = connect(settings.trainer_address, credentials=trainer_credentials)
    database = Database.open(settings.database_url)
    ledger, datastore = SqlLedger(database), DatastoreClient(to_datastore)
    trainer = TrainerClient(to_trainer, trainer_credentials)
    feed = AnnotationFeed(ledger, datastore)
    loop = TrainingLoop(ledger, datastore, trainer, feed, clock, settings.score_pixels)
    authorizer = Authorizer(DatastoreMemberships(to_datastore))
    pools = PoolService(ledger, datastore, feed, loop, authorizer, clock)
    proposer = Proposer(ledger, ZarrScoreMaps(settings))
    leasing = LeasingService(ledger, datastore, pools, feed, proposer, authorizer, signer, clock)
    server = RpcServer(
        settings.listen,
        PrincipalVerifier.from_folder("sampler", settings.public_keys_dir),
        allow_insecure_listen=settings.allow_insecure_listen,
    )
    server.add(
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server, SamplerServicer(pools, leasing), SERVICE_NAME
    )
    return Application(server, loop, database, (to_datastore, to_trainer))


async def run(settings: SamplerSettings) -> None:
    """Serve until a signal."""
    application = await build(settings)
    try:
        await application.server.start()
        await run_until_signal(
            application.server,
            settings.shutdown_grace_s,
            application.loop.run(settings.poll_interval_s),
        )
    finally:
        await application.close()


def main() -> int:
    """Entry point of `python -m biosegment_sampler`; returns the exit status."""
    try:
        settings = SamplerSettings.load("sampler")
        telemetry.configure("sampler", settings.log_level, settings.log_format)
        asyncio.run(run(settings))
    except BiosegmentError as error:
        print(f"biosegment sampler: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
