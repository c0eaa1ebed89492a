from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.auth import SERVICES, Kind, Principal, PrincipalSigner, PrincipalVerifier, generate_key
from biosegment.errors import Unauthenticated
from biosegment.rpc import current_principal, current_request_id
from biosegment.rpc.call import bearer
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.rpc.interceptor import bearer_token
from biosegment.rpc.server import RpcServer
from tests.rpc.trial_service import NAME, TrialService, TrialStub, request

ANN = Principal(Kind.USER, "ann")


async def _call_with(address: str, metadata: tuple[tuple[str, str], ...]) -> bytes:
    async with connect(address) as channel:
        return await TrialStub(channel).get_one(b"{}", metadata=metadata)


async def _refusal(address: str, metadata: tuple[tuple[str, str], ...]) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await _call_with(address, metadata)
    return caught.value.reason


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "x"])
async def test_a_call_without_a_token_is_refused(address: str, header: str | None) -> None:
    metadata = () if header is None else (("authorization", header),)
    assert await _refusal(address, metadata) == "NO_TOKEN"


@pytest.mark.parametrize("token", ["x", "a.b.c", "bsg_1_2"])
async def test_something_that_is_not_a_principal_is_refused(address: str, token: str) -> None:
    assert await _refusal(address, bearer(token)) == "BAD_PRINCIPAL"


async def test_an_expired_principal_is_refused(address: str, keys: Path) -> None:
    signer = PrincipalSigner("gateway", keys / "gateway.key")
    claims: dict[str, object] = {"sub": "ann", "kind": "user", "iat": 1, "exp": 2}
    assert await _refusal(address, bearer(signer.sign_claims(claims, "datastore"))) == "BAD_PRINCIPAL"


async def test_a_principal_signed_with_another_key_is_refused(address: str, tmp_path: Path) -> None:
    generate_key("gateway", tmp_path)
    forger = PrincipalSigner("gateway", tmp_path / "gateway.key")
    assert await _refusal(address, bearer(forger.sign(ANN, "datastore"))) == "BAD_PRINCIPAL"


async def test_a_principal_for_another_service_is_refused(address: str, keys: Path) -> None:
    signer = PrincipalSigner("gateway", keys / "gateway.key")
    assert await _refusal(address, bearer(signer.sign(ANN, "trainer"))) == "BAD_PRINCIPAL"


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "gateway"])
async def test_only_the_gateway_vouches_for_a_user(address: str, keys: Path, service: str) -> None:
    signer = PrincipalSigner(service, keys / f"{service}.key")
    assert await _refusal(address, bearer(signer.sign(ANN, "datastore"))) == "BAD_PRINCIPAL"


async def test_streams_are_refused_too(address: str) -> None:
    async with connect(address) as channel:
        with pytest.raises(Unauthenticated):
            async for _ in TrialStub(channel).watch_many(b"{}"):
                pass


async def test_health_needs_no_token(address: str) -> None:
    async with connect(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", NAME, "liveness"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_may_be_made_in_the_name_of_another_principal(
    channel: grpc.aio.Channel, gateway: ServiceCredentials
) -> None:
    get_one = TrialStub(channel).get_one
    assert (await get_one(b"{}")).startswith(b"service:sampler ")
    assert (await get_one(b"{}", metadata=gateway.metadata(ANN))).startswith(b"user:ann ")


async def test_streams_that_run_at_once_keep_their_own_principals(
    channel: grpc.aio.Channel, gateway: ServiceCredentials
) -> None:
    async def watch(user: str) -> list[bytes]:
        stream = TrialStub(channel).watch_many(
            request(before=4), metadata=gateway.metadata(Principal(Kind.USER, user))
        )
        return [answer.split()[0] async for answer in stream]

    users = [f"user{number}" for number in range(20)]
    answers = await asyncio.gather(*(watch(user) for user in users))
    assert answers == [[f"user:{user}".encode()] * 5 for user in users]


def test_outside_of_a_call_there_is_no_principal() -> None:
    with pytest.raises(Unauthenticated):
        current_principal()
    assert current_request_id() == ""


async def test_a_request_id_is_kept_and_a_strange_one_replaced(channel: grpc.aio.Channel) -> None:
    get_one = TrialStub(channel).get_one
    assert (await get_one(b"{}", metadata=(("x-request-id", "abc-1"),))).split()[1] == b"abc-1"
    strange = (await get_one(b"{}", metadata=(("x-request-id", 'a" b'),))).split()[1]
    assert len(strange) == 26


def test_service_credentials_sign_once_per_principal(keys: Path) -> None:
    credentials = ServiceCredentials(PrincipalSigner("gateway", keys / "gateway.key"), "trainer", "ann")
    verifier = PrincipalVerifier.from_folder("trainer", keys)
    assert credentials() == credentials()
    assert verifier.verify(credentials()) == Principal(Kind.SERVICE, "gateway", on_behalf_of="ann")
    assert verifier.verify(credentials.token(ANN)) == ANN
    token = bearer_token(dict(credentials.on_behalf_of("bob")))
    assert verifier.verify(token).user == "bob"


async def test_a_server_may_recognise_callers_in_its_own_way(trial: TrialService) -> None:
    async def authenticate(metadata: Mapping[str, str]) -> Principal:
        if bearer_token(metadata) != "bsg_id_secret":
            raise Unauthenticated("BAD_TOKEN", "no such token; make one with `biosegment token create`")
        return ANN

    server = RpcServer("127.0.0.1:0", authenticate)
    server.add_generic(trial, NAME)
    address = await server.start()
    try:
        assert (await _call_with(address, bearer("bsg_id_secret"))).startswith(b"user:ann")
        assert await _refusal(address, bearer("bsg_id_guess")) == "BAD_TOKEN"
    finally:
        await server.stop(0)
