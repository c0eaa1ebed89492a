"""Everything that makes up a running gateway, built from its settings."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from starlette.applications import Starlette

# The pass-through looks the shapes of methods up in what is imported.
from biosegment.api.datastore.v1alpha1 import annotation_pb2 as _annotation  # noqa: F401
from biosegment.api.datastore.v1alpha1 import instance_pb2 as _instance  # noqa: F401
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import add_IdentityServiceServicer_to_server
from biosegment.api.platform.v1alpha1.platform_pb2_grpc import add_PlatformServiceServicer_to_server
from biosegment.api.sampler.v1alpha1 import sampler_pb2 as _sampler  # noqa: F401
from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as _segmentation  # noqa: F401
from biosegment.auth import PrincipalSigner
from biosegment.database import Database, migrate
from biosegment.errors import BiosegmentError
from biosegment.ids import new_id
from biosegment.rpc.server import RpcServer, ServerLimits
from biosegment.storage.objects import open_objects
from biosegment_gateway import job_servicer, servicer
from biosegment_gateway.admin_token import ensure_admin
from biosegment_gateway.audit import Audit
from biosegment_gateway.authentication import Authentication
from biosegment_gateway.datastore_client import DatastoreClient
from biosegment_gateway.forwarding import PassThrough
from biosegment_gateway.http.api import Api
from biosegment_gateway.http.application import make_application
from biosegment_gateway.http.server import HttpServer
from biosegment_gateway.http.zarr import ZarrEndpoint
from biosegment_gateway.identity import IdentityService
from biosegment_gateway.job import JobList
from biosegment_gateway.job_client import JobClient
from biosegment_gateway.settings import GatewaySettings
from biosegment_gateway.sql import SqlAccounts, SqlEvents
from biosegment_gateway.trainer_client import TrainerClient
from biosegment_gateway.upstream import Upstream
from biosegment_gateway.zarr import CachedLocations, ZarrReader

_FLUSH_EVERY_S: Final = 0.5
_MAX_UNARY_S: Final = 60.0

_log = structlog.get_logger("biosegment_gateway")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens.

    Attributes:
        rpc: Its gRPC server.
        http: Its HTTP server.
        grpc_address: host:port that was taken.
        http_address: host:port that was taken.
        audit: Flushed by `write_behind` and at the end.
        authentication: Of both servers.
    """

    rpc: RpcServer
    http: HttpServer
    grpc_address: str
    http_address: str
    audit: Audit
    authentication: Authentication

    async def write_behind(self) -> None:
        """Write audit rows and the last use of tokens, for ever; no call waits for them."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            try:
                await self.audit.flush()
                await self.authentication.flush()
            except BiosegmentError as error:
                _log.warning("write_behind_failed", reason=error.reason, message=error.message)
                await asyncio.sleep(5 * _FLUSH_EVERY_S)


@asynccontextmanager
async def open_gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Start a gateway; at the end close what it opened. Stop `rpc` and `http` before that."""
    await asyncio.to_thread(migrate, settings.database_url, "biosegment_gateway")
    async with AsyncExitStack() as stack:
        database = Database.open(settings.database_url)
        stack.push_async_callback(database.close)
        objects = await asyncio.to_thread(open_objects, settings)
        stack.push_async_callback(objects.close)
        accounts = SqlAccounts(database)
        authentication = Authentication(accounts)
        audit = Audit(SqlEvents(database))
        stack.push_async_callback(_last_flush, audit, authentication)
        await ensure_admin(accounts, authentication, settings.admin_token_file)

        upstreams = _upstreams(settings)
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.close)
        jobs = JobList([JobClient(upstreams[name]) for name in job_servicer.KEEPERS])
        datastore = DatastoreClient(upstreams["datastore"], settings.object_store_url)
        platform = servicer.PlatformServicer(list(upstreams.values()), settings.listen)

        identity = servicer.IdentityServicer(IdentityService(accounts, authentication, audit), audit)
        rpc = _rpc_server(settings, authentication)
        rpc.add(add_IdentityServiceServicer_to_server, identity, servicer.IDENTITY)
        rpc.add(add_PlatformServiceServicer_to_server, platform, servicer.PLATFORM)
        rpc.add_generic(job_servicer.list_handler(jobs), job_servicer.SERVICE)
        rpc.add_generic(PassThrough(upstreams, {job_servicer.SERVICE: job_servicer.route_job}, audit))
        api = Api(datastore, TrainerClient(upstreams["trainer"]), jobs, platform)
        zarr = ZarrEndpoint(ZarrReader(CachedLocations(datastore), objects, datastore))
        http = _http_server(settings, make_application(authentication, api, zarr, settings.origins))
        http_address = await http.start()
        stack.push_async_callback(http.stop)
        grpc_address = await rpc.start()
        stack.push_async_callback(rpc.stop, 0)
        platform.own_address = grpc_address
        _log.info("gateway_listening", grpc=grpc_address, http=http_address)
        if settings.address_file:
            _write_addresses(Path(settings.address_file), grpc_address, http_address)
        yield Gateway(rpc, http, grpc_address, http_address, audit, authentication)


def _rpc_server(settings: GatewaySettings, authentication: Authentication) -> RpcServer:
    return RpcServer(
        settings.listen,
        authentication.of_metadata,
        ServerLimits(max_unary_s=_MAX_UNARY_S, max_concurrent_rpcs=settings.max_requests),
        allow_insecure_listen=settings.allow_insecure_listen,
    )


def _http_server(settings: GatewaySettings, application: Starlette) -> HttpServer:
    return HttpServer(
        settings.http_listen,
        application,
        max_requests=settings.max_http_requests,
        allow_insecure_listen=settings.allow_insecure_listen,
    )


def _upstreams(settings: GatewaySettings) -> dict[str, Upstream]:
    signer = PrincipalSigner("gateway", settings.signing_key_file)
    addresses = {
        "datastore": settings.datastore_address,
        "sampler": settings.sampler_address,
        "trainer": settings.trainer_address,
    }
    return {name: Upstream(name, address, signer) for name, address in addresses.items()}


async def _last_flush(audit: Audit, authentication: Authentication) -> None:
    await audit.flush()
    await authentication.flush()


def _write_addresses(path: Path, grpc_address: str, http_address: str) -> None:
    staged = path.with_name(f".{path.name}.{new_id()}")
    staged.write_text(json.dumps({"grpc": grpc_address, "http": http_address}) + "\n")
    os.replace(staged, path)
