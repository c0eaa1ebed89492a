from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

import grpc
import pytest
from biosegment_gateway.gateway import open_gateway
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

import biosegment
from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.api.identity.v1alpha1 import identity_pb2 as pb
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.job.v1alpha1.job_pb2_grpc import JobServiceStub
from biosegment.api.platform.v1alpha1 import platform_pb2
from biosegment.api.platform.v1alpha1.platform_pb2_grpc import PlatformServiceStub
from biosegment.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from biosegment.rpc.call import bearer
from tests.rpc.gateway.conftest import DATASTORE, Upstreams
from tests.rpc.trial_service import request

METHODS = [
    f"{DATASTORE}GetOne",
    f"{DATASTORE}NoSuchMethod",
    "/biosegment.api.trainer.v1alpha1.WorkerService/ReportProgress",
    "/biosegment.api.nowhere.v1alpha1.Service/Get",
    *(
        f"/{service.full_name}/{method.name}"
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ),
    *(
        f"/{service.full_name}/{method.name}"
        for service in platform_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ),
    *(
        f"/{service.full_name}/{method.name}"
        for service in job_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ),
]


@pytest.fixture
def stub(client) -> IdentityServiceStub:
    return IdentityServiceStub(client)


NO_TOKENS = [
    (),
    (("authorization", ""),),
    (("authorization", "Bearer "),),
    (("authorization", "Basic YTpi"),),
    (("authorization", f"Bearer bsg_{'0' * 26}_{'0' * 64}"),),
]


@pytest.mark.parametrize(
    "metadata", NO_TOKENS, ids=["nothing", "empty", "no token", "other scheme", "made up"]
)
async def test_nothing_answers_without_a_token(raw, upstreams: Upstreams, metadata):
    answers = {}
    for method in METHODS:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.unary_unary(method)(b"", metadata=metadata)
        answers[method] = caught.value.code()
    assert answers == dict.fromkeys(METHODS, grpc.StatusCode.UNAUTHENTICATED)
    assert not any(trial.calls for trial in upstreams.trials.values())


async def test_a_principal_of_the_inside_is_no_way_in_from_outside(raw, gateway, sampler):
    for token in (gateway(), sampler()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.unary_unary(DATASTORE + "GetOne")(request(), metadata=bearer(token))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_needs_no_token_and_says_the_version(raw):
    call = health_pb2_grpc.HealthStub(raw).Check(health_pb2.HealthCheckRequest())
    assert (await call).status == health_pb2.HealthCheckResponse.SERVING
    assert ("x-biosegment-version", biosegment.__version__) in list(await call.trailing_metadata())


async def test_the_platform_says_how_each_service_is(client, upstreams: Upstreams):
    stub = PlatformServiceStub(client)
    await upstreams.servers["datastore"].set_serving("", False)
    await upstreams.servers["trainer"].stop(0)
    started = time.monotonic()
    services = {
        item.service: item for item in (await stub.GetStatus(platform_pb2.GetStatusRequest())).services
    }
    assert time.monotonic() - started < 10
    kinds = platform_pb2.ServiceStatus
    assert {name: item.health for name, item in services.items()} == {
        "gateway": kinds.HEALTH_SERVING,
        "datastore": kinds.HEALTH_NOT_SERVING,
        "sampler": kinds.HEALTH_SERVING,
        "trainer": kinds.HEALTH_UNREACHABLE,
    }
    assert services["sampler"].version == biosegment.__version__
    assert services["sampler"].address == upstreams.addresses["sampler"]
    assert not services["gateway"].address.endswith(":0")
    assert services["trainer"].version == ""


async def test_a_user_signs_in_with_a_token_and_is_themselves(client, stub, make_user):
    secret = await make_user("ann")
    answer = await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(secret))
    assert (answer.user.name, answer.user.is_admin) == ("users/ann", False)
    assert b"user:ann" in await client.unary_unary(DATASTORE + "GetOne")(request(), metadata=bearer(secret))


async def test_users_are_listed_page_by_page(stub, make_user):
    for name in ("zoe", "ann", "bob"):
        await make_user(name)
    seen, token = [], ""
    while True:
        page = await stub.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token))
        seen += [user.name for user in page.users]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["users/admin", "users/ann", "users/bob", "users/zoe"]


async def test_a_revoked_token_ends_at_once(stub, make_user):
    metadata = bearer(await make_user("ann"))
    await stub.GetSelf(pb.GetSelfRequest(), metadata=metadata)
    (token,) = (await stub.ListTokens(pb.ListTokensRequest(), metadata=metadata)).tokens
    assert token.HasField("last_use_time")
    await stub.RevokeToken(pb.RevokeTokenRequest(name=token.name), metadata=metadata)
    with pytest.raises(Unauthenticated) as caught:
        await stub.GetSelf(pb.GetSelfRequest(), metadata=metadata)
    assert caught.value.reason == "TOKEN_REVOKED"
    with pytest.raises(NotFound):
        await stub.RevokeToken(pb.RevokeTokenRequest(name=token.name))


async def test_a_token_lasts_as_long_as_it_was_asked_for(stub):
    # On a busy machine two calls may take longer than a second.
    for lifetime_ns in (10**9, 10**10, 6 * 10**10):
        soon = Timestamp()
        soon.FromNanoseconds(time.time_ns() + lifetime_ns)
        secret = (await stub.CreateToken(pb.CreateTokenRequest(token=pb.Token(expire_time=soon)))).secret
        with contextlib.suppress(Unauthenticated):
            await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(secret))
            break
    else:
        pytest.fail("a token of a minute was refused")
    await asyncio.sleep((soon.ToNanoseconds() - time.time_ns()) / 1e9 + 0.01)
    with pytest.raises(Unauthenticated) as caught:
        await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(secret))
    assert caught.value.reason == "TOKEN_EXPIRED"


async def test_users_handle_their_own_tokens_and_no_others(stub, make_user):
    ann, _ = bearer(await make_user("ann")), await make_user("bob")
    await stub.CreateToken(pb.CreateTokenRequest(), metadata=ann)
    (token,) = (await stub.ListTokens(pb.ListTokensRequest(parent="users/bob"))).tokens
    forbidden = [
        (stub.CreateToken, pb.CreateTokenRequest(parent="users/bob")),
        (stub.CreateToken, pb.CreateTokenRequest(parent="users/admin")),
        (stub.ListTokens, pb.ListTokensRequest(parent="users/bob")),
        (stub.RevokeToken, pb.RevokeTokenRequest(name=token.name)),
        (stub.CreateUser, pb.CreateUserRequest(user_id="friend", user=pb.User(is_admin=True))),
        (stub.ListUsers, pb.ListUsersRequest()),
        (stub.ListAuditEvents, pb.ListAuditEventsRequest()),
    ]
    for method, message in forbidden:
        with pytest.raises(PermissionDenied):
            await method(message, metadata=ann)


@pytest.mark.parametrize(
    ("method", "message", "error", "reason"),
    [
        ("CreateUser", pb.CreateUserRequest(user_id="admin"), AlreadyExists, "USER_EXISTS"),
        ("CreateUser", pb.CreateUserRequest(user_id="Ann Smith"), InvalidArgument, "BAD_ID"),
        (
            "CreateUser",
            pb.CreateUserRequest(user_id="ann", user=pb.User(display_name="x" * 201)),
            InvalidArgument,
            "NAME_TOO_LONG",
        ),
        ("UpdateUser", pb.UpdateUserRequest(), InvalidArgument, "BAD_UPDATE_MASK"),
        (
            "UpdateUser",
            pb.UpdateUserRequest(user=pb.User(name="users/a"), update_mask=FieldMask(paths=["name"])),
            InvalidArgument,
            "BAD_UPDATE_MASK",
        ),
        (
            "UpdateUser",
            pb.UpdateUserRequest(user=pb.User(name="users/a"), update_mask=FieldMask(paths=["disabled"])),
            NotFound,
            "USER_NOT_FOUND",
        ),
        ("CreateToken", pb.CreateTokenRequest(token=pb.Token(scopes=["x"])), InvalidArgument, "BAD_SCOPE"),
        (
            "CreateToken",
            pb.CreateTokenRequest(token=pb.Token(scopes=[f"read:projects/p{i}" for i in range(51)])),
            InvalidArgument,
            "BAD_SCOPE",
        ),
        (
            "CreateUser",
            pb.CreateUserRequest(user_id="ann", user=pb.User(display_name="a\x00b")),
            InvalidArgument,
            "BAD_DISPLAY_NAME",
        ),
        ("CreateToken", pb.CreateTokenRequest(parent="users/nobody"), NotFound, "USER_NOT_FOUND"),
        (
            "CreateToken",
            pb.CreateTokenRequest(token=pb.Token(expire_time=Timestamp(seconds=1))),
            InvalidArgument,
            "EXPIRE_TIME_PAST",
        ),
        (
            "CreateToken",
            pb.CreateTokenRequest(token=pb.Token(expire_time=Timestamp(seconds=2**60))),
            InvalidArgument,
            "BAD_TIME",
        ),
        ("ListTokens", pb.ListTokensRequest(parent="admin"), InvalidArgument, "BAD_NAME"),
        ("RevokeToken", pb.RevokeTokenRequest(name="users/admin/tokens/x"), NotFound, "TOKEN_NOT_FOUND"),
        ("ListUsers", pb.ListUsersRequest(page_size=501), InvalidArgument, "BAD_PAGE_SIZE"),
    ],
)
async def test_wrong_requests_are_refused_with_a_reason(stub, method, message, error, reason):
    with pytest.raises(error) as caught:
        await getattr(stub, method)(message)
    assert caught.value.reason == reason


async def test_the_audit_log_says_who_changed_what(client, stub, make_user):
    ann = bearer(await make_user("ann"))
    project = datastore_pb2.DeleteProjectRequest(name="projects/p")
    with pytest.raises(PermissionDenied):
        await DatastoreServiceStub(client).DeleteProject(project, metadata=ann)
    spec = job_pb2.JobSpec(train=job_pb2.TrainSpec())
    await JobServiceStub(client).CreateJob(
        job_pb2.CreateJobRequest(project="projects/p", spec=spec, request_id=str(uuid.uuid4()))
    )
    await client.unary_unary(DATASTORE + "GetOne")(request())
    events = (await stub.ListAuditEvents(pb.ListAuditEventsRequest())).events
    assert [(e.user, e.action.rpartition(".")[2], e.resource, e.outcome) for e in events] == [
        ("admin", "JobService/CreateJob", "projects/p", "OK"),
        ("ann", "DatastoreService/DeleteProject", "projects/p", "PERMISSION_DENIED"),
        ("admin", "IdentityService/CreateToken", "users/ann", "OK"),
        ("admin", "IdentityService/CreateUser", "users/ann", "OK"),
    ]
    assert all(event.peer.startswith("127.0.0.1:") for event in events)


async def test_users_tokens_and_audit_survive_a_restart(upstreams, make_settings, tmp_path):
    settings = make_settings(upstreams.addresses)
    secrets = []
    for _ in range(2):
        async with open_gateway(settings) as gateway:
            secrets.append((tmp_path / "admin-token").read_text().strip())
            async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
                stub = IdentityServiceStub(channel)
                events = await stub.ListAuditEvents(pb.ListAuditEventsRequest(), metadata=bearer(secrets[0]))
                # Written at the stop, at the latest: nobody asks for the log after it.
                await stub.CreateToken(pb.CreateTokenRequest(), metadata=bearer(secrets[0]))
    assert secrets[0] == secrets[1]
    assert [event.sequence for event in events.events] == [1]
