"""Everything that makes up a running gateway, built from its settings."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog
from starlette.applications import Starlette

from biosegment.api.identity.v1alpha1.identity_pb2_grpc import add_IdentityServiceServicer_to_server
from biosegment.api.platform.v1alpha1.platform_pb2_grpc import add_PlatformServiceServicer_to_server
from biosegment.auth import PrincipalSigner
from biosegment.database import Database, migrate
from biosegment.errors import BiosegmentError, FailedPrecondition
from biosegment.ids import new_id
from biosegment.rpc.server import RpcServer, ServerLimits, is_loopback, split_address
from biosegment.rpc.tls import Certificate, ServerTls, mutual_tls
from biosegment.storage.objects import open_objects
from biosegment_gateway import job_servicer, servicer
from biosegment_gateway.accounts.admin_token import ensure_admin
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.accounts.identity import IdentityService
from biosegment_gateway.accounts.people import People, open_people
from biosegment_gateway.admission import Admission
from biosegment_gateway.audit import Audit
from biosegment_gateway.audit_sql import SqlEvents
from biosegment_gateway.datastore_client import DatastoreClient
from biosegment_gateway.forwarding import PassThrough
from biosegment_gateway.http.about import About
from biosegment_gateway.http.application import Endpoint, make_application
from biosegment_gateway.http.audit_log import AuditLog
from biosegment_gateway.http.dashboard import DashboardEndpoint
from biosegment_gateway.http.downloads import Downloads
from biosegment_gateway.http.events import Events
from biosegment_gateway.http.json_call import JsonCalls
from biosegment_gateway.http.monailabel import MonaiLabelEndpoint
from biosegment_gateway.http.monailabel_door import MonaiLabelDoor
from biosegment_gateway.http.oidc import OidcEndpoint
from biosegment_gateway.http.openapi import OpenApi
from biosegment_gateway.http.server import HttpServer
from biosegment_gateway.http.sign_in import SignInEndpoint
from biosegment_gateway.http.uploads import Uploads
from biosegment_gateway.http.viewing import open_viewing
from biosegment_gateway.job import JobList
from biosegment_gateway.job_client import JobClient
from biosegment_gateway.job_watch import JobWatch
from biosegment_gateway.local_call import LocalCalls
from biosegment_gateway.monailabel.api import open_monailabel
from biosegment_gateway.peer import Proxies, parse_networks
from biosegment_gateway.settings import GatewaySettings
from biosegment_gateway.upstream import Upstream

_FLUSH_EVERY_S: Final = 0.25
_PAUSE_AFTER_FAILURE_S: Final = 2.5
_FORGET_EVERY_S: Final = 3600.0
_MAX_UNARY_S: Final = 60.0
_MAX_IDLE_S: Final = 600.0
_MAX_AGE_S: Final = 3600.0

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
        keep_events: How long events of the audit log are kept; None for ever.
        application: What the HTTP server serves.
    """

    rpc: RpcServer
    http: HttpServer
    grpc_address: str
    http_address: str
    audit: Audit
    authentication: Authentication
    keep_events: timedelta | None
    application: Starlette

    async def forget_events(self) -> None:
        """Remove events of the audit log whose time is over, for ever."""
        while self.keep_events is not None:
            try:
                await self.audit.forget(self.keep_events)
            except BiosegmentError as error:
                _log.warning("forget_events_failed", reason=error.reason, message=error.message)
            await asyncio.sleep(_FORGET_EVERY_S)

    async def write_behind(self) -> None:
        """Write audit rows and the last use of tokens, for ever; no call waits for them."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            try:
                await self.audit.flush()
                await self.authentication.flush()
            except BiosegmentError as error:
                _log.warning("write_behind_failed", reason=error.reason, message=error.message)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)


@asynccontextmanager
async def open_gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Start a gateway; at the end close what it opened. Stop `rpc` and `http` before that."""
    await asyncio.to_thread(migrate, settings.database_url, "biosegment_gateway")
    async with AsyncExitStack() as stack:
        database = Database.open(settings.database_url)
        stack.push_async_callback(database.close)
        objects = await asyncio.to_thread(open_objects, settings)
        stack.push_async_callback(objects.close)
        people = open_people(settings, database, stack)
        accounts, authentication = people.accounts, people.authentication
        audit = Audit(SqlEvents(database))
        stack.push_async_callback(_last_flush, audit, authentication)
        await ensure_admin(accounts, authentication, settings.admin_token_file)

        upstreams = _upstreams(settings)
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.close)
        keepers = [upstreams[name] for name in job_servicer.KEEPERS]
        jobs, watch = JobList([JobClient(keeper) for keeper in keepers]), JobWatch(keepers)
        datastore = DatastoreClient(upstreams["datastore"], settings.object_store_url)
        platform = servicer.PlatformServicer(list(upstreams.values()), settings.listen)

        proxies = Proxies(parse_networks(settings.trusted_proxies))
        admission = _admission(settings, audit, proxies)
        service = IdentityService(accounts, authentication, audit, people.sign_in)
        identity = servicer.IdentityServicer(service, audit, proxies)
        rpc, calls = _rpc_server(settings, authentication, admission), LocalCalls(_MAX_UNARY_S)
        servers: tuple[RpcServer | LocalCalls, ...] = (rpc, calls)
        for server in servers:
            server.add(add_IdentityServiceServicer_to_server, identity, servicer.IDENTITY)
            server.add(add_PlatformServiceServicer_to_server, platform, servicer.PLATFORM)
            server.add_generic(job_servicer.merged_handler(jobs, watch), job_servicer.SERVICE)
            server.add_generic(
                PassThrough(upstreams, {job_servicer.SERVICE: job_servicer.route_job}, audit, proxies)
            )
        stopping = asyncio.Event()
        viewing = open_viewing(settings, stack, datastore, objects, accounts, admission)
        monailabel = await stack.enter_async_context(open_monailabel(settings, database, upstreams))
        door = MonaiLabelDoor(
            accounts,
            monailabel.links,
            is_open=_is_open(settings),
            root_project=settings.monailabel_project,
            origins=settings.origins,
        )
        endpoint = MonaiLabelEndpoint(monailabel, people.sign_in, audit)
        sign_in = SignInEndpoint(people.sign_in, settings.public_url)
        endpoints: tuple[Endpoint, ...] = (
            DashboardEndpoint(),
            About(),
            AuditLog(service),
            sign_in,
            *_provider_endpoints(people, audit, settings.public_url),
            JsonCalls(calls),
            Events(calls, settings.max_event_streams, stopping),
            Uploads(calls),
            Downloads(calls),
            *viewing,
            endpoint,
        )
        endpoints = (*endpoints, OpenApi(endpoints))
        application = make_application(
            authentication, admission, door, endpoints, audit, settings.max_http_requests, settings.origins
        )
        http = _http_server(settings, application, stopping)
        http_address = await http.start()
        stack.push_async_callback(http.stop)
        grpc_address = await rpc.start()
        stack.push_async_callback(rpc.stop, 0)
        platform.own_address = grpc_address
        sign_in.grpc_port = split_address(grpc_address)[1]
        _log.info("gateway_listening", grpc=grpc_address, http=http_address)
        if settings.address_file:
            _write_addresses(Path(settings.address_file), grpc_address, http_address)
        keep = timedelta(days=settings.audit_keep_days) or None
        yield Gateway(rpc, http, grpc_address, http_address, audit, authentication, keep, application)


def _admission(settings: GatewaySettings, audit: Audit, proxies: Proxies) -> Admission:
    return Admission(
        settings.user_requests_per_s,
        settings.user_request_burst,
        settings.user_requests_at_once,
        audit,
        proxies,
    )


def _rpc_server(settings: GatewaySettings, authentication: Authentication, admission: Admission) -> RpcServer:
    return RpcServer(
        settings.listen,
        authentication.of_metadata,
        ServerLimits(
            max_unary_s=_MAX_UNARY_S,
            max_concurrent_rpcs=settings.max_requests,
            max_idle_s=_MAX_IDLE_S,
            max_age_s=_MAX_AGE_S,
        ),
        gate=admission,
        tls=_public_tls(settings),
        health_listen=settings.health_listen,
        allow_insecure_listen=settings.allow_insecure_listen,
    )


def _provider_endpoints(people: People, audit: Audit, public_url: str) -> list[OidcEndpoint]:
    if people.provider is None:
        return []
    return [OidcEndpoint(people.provider, people.sessions, audit, public_url)]


def _is_open(settings: GatewaySettings) -> bool:
    """Whether MONAI Label clients need not sign in; FailedPrecondition OPEN_TO_OTHERS where others can ask too."""
    if settings.monailabel_auth == "on":
        return False
    host, _ = split_address(settings.http_listen)
    if not is_loopback(host):
        raise FailedPrecondition(
            "OPEN_TO_OTHERS",
            f"MONAILABEL_AUTH=off lets everybody in who reaches {settings.http_listen}; listen on 127.0.0.1, "
            "or leave it on",
        )
    return True


def _http_server(settings: GatewaySettings, application: Starlette, stopping: asyncio.Event) -> HttpServer:
    return HttpServer(
        settings.http_listen,
        application,
        max_connections=settings.max_http_connections,
        tls=_public_tls(settings),
        proxies=settings.trusted_proxies,
        stopping=stopping,
        allow_insecure_listen=settings.allow_insecure_listen,
    )


def _public_tls(settings: GatewaySettings) -> ServerTls | None:
    files = settings.tls_certificate_file, settings.tls_key_file
    return ServerTls(Certificate(files[0], files[1])) if files[0] and files[1] else None


def _upstreams(settings: GatewaySettings) -> dict[str, Upstream]:
    signer = PrincipalSigner("gateway", settings.signing_key_file)
    addresses = {
        "datastore": settings.datastore_address,
        "sampler": settings.sampler_address,
        "trainer": settings.trainer_address,
    }
    tls = mutual_tls(settings)
    return {name: Upstream(name, address, signer, tls) for name, address in addresses.items()}


async def _last_flush(audit: Audit, authentication: Authentication) -> None:
    await audit.flush()
    await authentication.flush()


def _write_addresses(path: Path, grpc_address: str, http_address: str) -> None:
    staged = path.with_name(f".{path.name}.{new_id()}")
    staged.write_text(json.dumps({"grpc": grpc_address, "http": http_address}) + "\n")
    os.replace(staged, path)
