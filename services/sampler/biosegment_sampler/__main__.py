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
from biosegment.parent import end_with_supervisor
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.rpc.server import RpcServer, run_until_signal
from biosegment.rpc.tls import mutual_tls, towards
from biosegment_sampler.agreement import AgreementService
from biosegment_sampler.board import Boards
from biosegment_sampler.datastore_client import DatastoreClient
from biosegment_sampler.desk import Desk
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.holding import HoldingService
from biosegment_sampler.leasing import LeasingService
from biosegment_sampler.premise import Premises
from biosegment_sampler.proposal import Proposer
from biosegment_sampler.report import ReportService
from biosegment_sampler.review import ReviewService
from biosegment_sampler.scores_zarr import ZarrScoreMaps
from biosegment_sampler.service import PoolService
from biosegment_sampler.servicer import SERVICE_NAME, SamplerServicer
from biosegment_sampler.settings import SamplerSettings
from biosegment_sampler.sql import SqlLedger
from biosegment_sampler.standing import StandingProposals
from biosegment_sampler.trainer_client import TrainerClient
from biosegment_sampler.training import TrainingLoop
from biosegment_sampler.watching import WatchingService


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
    tls = mutual_tls(settings)
    to_datastore = connect(
        settings.datastore_address,
        credentials=ServiceCredentials(signer, "datastore"),
        tls=towards(tls, "datastore"),
    )
    to_trainer = connect(
        settings.trainer_address, credentials=trainer_credentials, tls=towards(tls, "trainer")
    )
    database = Database.open(settings.database_url)
    ledger, datastore = SqlLedger(database), DatastoreClient(to_datastore)
    trainer = TrainerClient(to_trainer, trainer_credentials)
    feed = AnnotationFeed(ledger, datastore)
    proposer = Proposer(ledger, ZarrScoreMaps(settings))
    directory, boards = VolumeDirectory(datastore), Boards(ledger, settings.cache_bytes)
    proposals = StandingProposals(proposer, boards, settings.cache_bytes)
    loop = TrainingLoop(ledger, datastore, trainer, feed, proposer, directory, clock, settings.score_pixels)
    authorizer = Authorizer(DatastoreMemberships(to_datastore))
    pools = PoolService(ledger, directory, boards, feed, loop, authorizer, clock)
    desk = Desk(pools, feed, authorizer, signer, clock)
    servicer = SamplerServicer(
        pools,
        LeasingService(ledger, directory, boards, proposals, Premises(ledger, pools), desk),
        HoldingService(ledger, datastore, desk),
        ReviewService(ledger, directory, desk),
        AgreementService(ledger, directory, datastore, desk),
        ReportService(ledger, datastore, trainer, feed, pools, authorizer, clock),
        WatchingService(ledger, desk),
    )
    server = RpcServer(
        settings.listen,
        PrincipalVerifier.from_folder("sampler", settings.public_keys_dir),
        tls=tls,
        health_listen=settings.health_listen,
        allow_insecure_listen=settings.allow_insecure_listen,
    )
    server.add(sampler_pb2_grpc.add_SamplerServiceServicer_to_server, servicer, SERVICE_NAME)
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
    end_with_supervisor()
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
