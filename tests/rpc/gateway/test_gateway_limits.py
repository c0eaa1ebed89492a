"""How often and how much one user may ask of the gateway; its encrypted ports; whose pages may read."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from biosegment_gateway.gateway import open_gateway
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from biosegment.api.identity.v1alpha1 import identity_pb2 as pb
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.client import AsyncClient, Connection
from biosegment.errors import ResourceExhausted
from biosegment.rpc.call import bearer
from tests.rpc.gateway.conftest import SAMPLER
from tests.rpc.trial_service import request
from tests.servers.authority import Authority, touch

SELF = "/api/IdentityService/GetSelf"


@pytest.fixture
async def limited(upstreams, make_settings) -> AsyncIterator:
    """A gateway where a user has two requests, and then waits for long."""
    settings = make_settings(upstreams.addresses, user_requests_per_s=0.01, user_request_burst=2)
    async with open_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def token(tmp_path) -> str:
    return (tmp_path / "admin-token").read_text().strip()


@contextlib.asynccontextmanager
async def _web(gateway, token: str = "", **options):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(
        base_url=f"http://{gateway.http_address}", headers=headers, **options
    ) as client:
        yield client


async def test_both_ports_count_together_and_say_when_to_come_again(limited, token):
    async with _web(limited, token) as web, grpc.aio.insecure_channel(limited.grpc_address) as channel:
        stub = IdentityServiceStub(channel)
        assert (await web.post(SELF, json={})).status_code == 200
        await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(token))
        answer = await web.post(SELF, json={})
        assert (answer.status_code, answer.json()["reason"]) == (429, "RATE_LIMITED")
        assert 1 <= int(answer.headers["retry-after"]) <= 100
        assert float(answer.json()["details"]["retry_after_s"]) > 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(token))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_and_the_page_are_never_limited(limited, token):
    async with _web(limited, token) as web, grpc.aio.insecure_channel(limited.grpc_address) as channel:
        for _ in range(5):
            await web.post(SELF, json={})
        for path in ("/healthz", "/"):
            assert (await web.get(path)).status_code == 200
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), metadata=bearer(token)
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_sdk_waits_for_its_turn(upstreams, make_settings, tmp_path):
    settings = make_settings(upstreams.addresses, user_requests_per_s=20.0, user_request_burst=1)
    async with open_gateway(settings) as gateway:
        token = (tmp_path / "admin-token").read_text().strip()
        async with AsyncClient(Connection(gateway.grpc_address, token)) as client:
            users = await asyncio.gather(*(client.platform.create_user(f"u{n}") for n in range(8)))
            assert {user.name for user in users} == {f"users/u{n}" for n in range(8)}
            refused = [e async for e in client.platform.audit_events() if e.outcome != "OK"]
    assert refused == [], "what was sent away was never begun"


async def test_calls_of_one_user_at_a_time_are_limited_and_their_end_makes_room(
    upstreams, make_settings, tmp_path
):
    async with open_gateway(make_settings(upstreams.addresses, user_requests_at_once=2)) as gateway:
        token = (tmp_path / "admin-token").read_text().strip()
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            call: Any = channel.unary_unary(SAMPLER + "GetPool")
            running = [call(request(sleep_s=60), metadata=bearer(token)) for _ in range(2)]
            trial = upstreams.trials["sampler"]
            async with asyncio.timeout(30):
                while trial.calls["GetOne"] < 2:
                    await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError, match="which is the limit"):
                await call(request(), metadata=bearer(token))
            for each in running:
                each.cancel()
            async with AsyncClient(Connection(gateway.grpc_address, token)) as client:
                assert (await client.platform.self()).name == "users/admin"


async def test_a_user_who_asks_too_much_does_not_hold_up_others(limited, token, make_user_of):
    ann = await make_user_of(limited, token, "ann")
    async with grpc.aio.insecure_channel(limited.grpc_address) as channel:
        stub = IdentityServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(token))
        assert (await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(ann))).user.name == "users/ann"


@pytest.fixture
def make_user_of():
    async def make(gateway, token: str, user: str) -> str:
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            stub = IdentityServiceStub(channel)
            await stub.CreateUser(pb.CreateUserRequest(user_id=user), metadata=bearer(token))
            made = await stub.CreateToken(
                pb.CreateTokenRequest(parent=f"users/{user}"), metadata=bearer(token)
            )
        return str(made.secret)

    return make


@pytest.fixture
async def encrypted(upstreams, make_settings, tmp_path):
    authority = Authority(tmp_path)
    certificate = authority.certificate("localhost", "127.0.0.1", file="public")
    settings = make_settings(
        upstreams.addresses,
        tls_certificate_file=certificate.certificate_file,
        tls_key_file=certificate.key_file,
        listen="0.0.0.0:0",
        http_listen="0.0.0.0:0",
    )
    async with open_gateway(settings) as gateway:
        yield (
            authority,
            *(
                f"127.0.0.1:{address.rpartition(':')[2]}"
                for address in (gateway.grpc_address, gateway.http_address)
            ),
        )


async def test_both_ports_are_encrypted_and_may_then_be_reached_by_others(encrypted, token, monkeypatch):
    authority, rpc, http = encrypted
    monkeypatch.setenv("BIOSEGMENT_CA_FILE", str(authority.file))
    async with AsyncClient(Connection(f"https://{rpc}", token)) as client:
        assert (await client.platform.self()).name == "users/admin"
    context = ssl.create_default_context(cafile=authority.file)
    async with httpx.AsyncClient(base_url=f"https://{http}", verify=context, timeout=60) as web:
        answer = await web.get("/")
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        login = await web.post("/auth/login", json={"token": token})
        assert "secure" in login.headers["set-cookie"].lower()
    async with httpx.AsyncClient(base_url=f"http://{http}", timeout=60) as plain:
        with pytest.raises(httpx.TransportError):
            await plain.get("/")


async def test_old_versions_of_tls_are_refused(encrypted):
    _, _, http = encrypted
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, _, port = http.rpartition(":")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(host, int(port), ssl=context)


async def test_a_renewed_certificate_is_shown_by_the_http_port(encrypted, monkeypatch):
    from biosegment_gateway.http import certificate as module

    authority, _, http = encrypted
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)
    context = ssl.create_default_context(cafile=authority.file)

    async def serial() -> str:
        host, _, port = http.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return str(found)

    first = await serial()
    renewed = authority.certificate("localhost", "127.0.0.1", file="public")
    touch(renewed)
    async with asyncio.timeout(30):
        while await serial() == first:  # the look before the change may count for a second
            await asyncio.sleep(0.05)
    second = await serial()
    renewed.certificate_file.write_text("half written")
    touch(renewed, 2)
    assert await serial() == second


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls_certificate_file": "/tmp/a"},
        {"tls_key_file": "/tmp/a"},
        {"mtls_ca_file": "/tmp/a"},
        {"mtls_certificate_file": "/tmp/a", "mtls_key_file": "/tmp/a"},
        {"trusted_proxies": "10.0.0.1/8"},
        {"trusted_proxies": "proxy.lab"},
        {"user_requests_per_s": -1},
        {"user_request_burst": 0},
    ],
    ids=str,
)
def test_settings_that_contradict_themselves_are_refused(make_settings, wrong):
    addresses = dict.fromkeys(("datastore", "sampler", "trainer"), "nowhere:1")
    with pytest.raises(ValidationError):
        make_settings(addresses, **wrong)


HOSTILE = [
    "https://evil.example",
    "https://lab.example.evil.example",
    "https://evil-lab.example",
    "http://lab.example",
    "https://lab.example:8443",
    "https://LAB.example",
    "https://lab.example/",
    "https://lab.example,https://evil.example",
    "null",
    "*",
    "file://",
]


async def test_only_pages_of_named_origins_may_read_and_never_with_the_cookie(
    upstreams, make_settings, tmp_path
):
    ours = "https://lab.example"
    async with open_gateway(make_settings(upstreams.addresses, allowed_origins=ours)) as gateway:
        token = (tmp_path / "admin-token").read_text().strip()
        async with _web(gateway) as web:
            await web.post("/auth/login", json={"token": token})
            for origin in (ours, *HOSTILE):
                asked = {
                    "access-control-request-method": "POST",
                    "access-control-request-headers": "authorization",
                }
                preflight = await web.options(SELF, headers={"origin": origin, **asked})
                plain = await web.get("/version", headers={"origin": origin})
                for answer in (preflight, plain):
                    allowed = answer.headers.get("access-control-allow-origin")
                    assert allowed == (ours if origin == ours else None), origin
                    assert "access-control-allow-credentials" not in answer.headers
                    assert "Origin" in answer.headers.get("vary", "") or origin != ours
            # Nor may they do anything with it, whatever they may read.
            for origin in (ours, *HOSTILE):
                answer = await web.post(SELF, json={}, headers={"origin": origin})
                assert (answer.status_code, answer.json()["reason"]) == (403, "CROSS_SITE"), origin


async def test_a_refused_caller_is_told_by_the_sdk_in_the_words_of_the_gateway(limited, token):
    async with grpc.aio.insecure_channel(limited.grpc_address) as channel:
        from biosegment.rpc.errors import from_rpc_error

        stub = IdentityServiceStub(channel)
        for _ in range(2):
            await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(token))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(token))
    error = from_rpc_error(caught.value)
    assert isinstance(error, ResourceExhausted)
    assert "'admin'" in error.message
    assert "nothing was done" in error.message
