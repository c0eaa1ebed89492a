"""What the audit log holds of calls over both ports, and who may read it."""

from __future__ import annotations

import json

import grpc
import httpx
import pytest
from biosegment_gateway.gateway import Gateway, open_gateway

from biosegment.api.identity.v1alpha1 import identity_pb2 as pb
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.client import AsyncClient, Connection
from biosegment.errors import InvalidArgument, PermissionDenied, Unauthenticated
from biosegment.rpc.call import bearer
from tests.rpc.gateway.conftest import DATASTORE
from tests.rpc.trial_service import request

SECRET = f"bsg_{'0' * 26}_{'0' * 64}"


@pytest.fixture
async def sdk(running: Gateway, admin_token: str):
    async with AsyncClient(Connection(running.grpc_address, admin_token)) as client:
        yield client


@pytest.fixture
def signed(web, admin_token) -> httpx.AsyncClient:
    web.headers["authorization"] = f"Bearer {admin_token}"
    return web


async def _actions(sdk, **query):
    return [(e.user, e.action, e.resource, e.outcome) async for e in sdk.platform.audit_events(**query)]


async def test_requests_that_may_change_something_are_recorded_whatever_answers_them(sdk, signed):
    call = "/api/IdentityService"
    assert (await signed.post(f"{call}/CreateUser", json={"userId": "ann"})).status_code == 200
    assert (await signed.post(f"{call}/CreateUser", json={"userId": "ann"})).status_code == 409
    assert (await signed.post(f"{call}/ListUsers", json={})).status_code == 200
    assert (await signed.post("/api/DatastoreService/DeleteProject", json={"name": 5})).status_code == 400
    assert (await signed.get("/version")).status_code == 200
    assert (await signed.delete("/zarr/projects/p/volumes/v/zarr.json")).status_code == 405
    method = "biosegment.api.identity.v1alpha1.IdentityService/CreateUser"
    assert await _actions(sdk, oldest_first=True) == [
        ("admin", method, "users/ann", "OK"),
        ("admin", method, "users/ann", "ALREADY_EXISTS"),
        # What never became a call is recorded as the request that it was.
        ("admin", "POST /api/DatastoreService/DeleteProject", "", "INVALID_ARGUMENT"),
        ("admin", "DELETE /zarr/projects/p/volumes/v/zarr.json", "projects/p/volumes/v", "UNIMPLEMENTED"),
    ]


async def test_signing_in_and_failing_to_are_recorded(sdk, web, admin_token, raw):
    assert (await web.post("/auth/login", json={"token": admin_token})).status_code == 204
    assert (await web.post("/auth/login", json={"token": SECRET})).status_code == 401
    for user in ("admin", "nobody", "a password"):
        attempt = {"user": user, "password": "wrong one"}
        answer = await web.post("/auth/login", json=attempt, timeout=60)
        assert answer.status_code == 401
    with pytest.raises(grpc.aio.AioRpcError):
        await raw.unary_unary(DATASTORE + "GetOne")(request(), metadata=bearer(SECRET))
    assert (await web.get("/version", headers={"authorization": f"Bearer {SECRET}"})).status_code == 401
    assert (await web.get("/version", headers={"cookie": ""})).status_code in (200, 401)
    found = [event[1:] for event in await _actions(sdk, oldest_first=True)]
    assert found == [
        ("POST /auth/login", "", "OK"),
        ("POST /auth/login", "", "UNAUTHENTICATED"),
        ("POST /auth/login", "users/admin", "UNAUTHENTICATED"),
        ("POST /auth/login", "", "UNAUTHENTICATED"),
        ("POST /auth/login", "", "UNAUTHENTICATED"),
        ("gateway/Authenticate", f"token {'0' * 26}", "UNAUTHENTICATED"),
        ("gateway/Authenticate", f"token {'0' * 26}", "UNAUTHENTICATED"),
    ]


async def test_no_secret_gets_into_the_log(sdk, web, admin_token):
    await web.post(f"/monailabel/t/{admin_token}/p/train/segmentation")
    await web.post(f"/zarr/t/{admin_token}/projects/p/volumes/v/zarr.json")
    await web.put("/version", headers={"authorization": "Bearer somebody's password"})
    events = await _actions(sdk)
    assert len(events) >= 3
    assert admin_token not in str(events)
    assert "password" not in str(events)


async def test_events_are_found_by_user_resource_method_and_time(sdk, make_user):
    for user in ("ann", "bob"):
        await make_user(user)
    everything = [event async for event in sdk.platform.audit_events(oldest_first=True)]
    assert [event.sequence for event in everything] == [1, 2, 3, 4]
    assert {event.peer.partition(":")[0] for event in everything} == {"127.0.0.1"}
    assert len(await _actions(sdk, user="admin")) == 4
    assert await _actions(sdk, user="ann") == []
    assert [event[2] for event in await _actions(sdk, resource="users/bob")] == ["users/bob"] * 2
    assert [event[2] for event in await _actions(sdk, action="createtoken")] == ["users/bob", "users/ann"]
    third = everything[2].time
    assert len(await _actions(sdk, start=third)) + len(await _actions(sdk, end=third)) == 4
    assert len(await _actions(sdk, after_sequence=3)) == 1


async def test_the_log_is_read_page_by_page_in_both_directions(sdk, running, monkeypatch):
    from biosegment_gateway.audit import Recording

    from biosegment.client import platform

    monkeypatch.setattr(platform, "_AUDIT_PAGE", 3)
    for number in range(7):
        running.audit.note(Recording("test/Do", resource=f"projects/{number}"), "")
    forth = [event async for event in sdk.platform.audit_events(oldest_first=True)]
    back = [event async for event in sdk.platform.audit_events()]
    assert [event.resource for event in forth] == [f"projects/{number}" for number in range(7)]
    assert back == forth[::-1]


async def test_events_stream_over_http_as_json_lines(signed, running, monkeypatch):
    from biosegment_gateway.audit import Recording
    from biosegment_gateway.http import audit_log

    monkeypatch.setattr(audit_log, "_PAGE", 3)
    for number in range(7):
        running.audit.note(Recording("test/Do", user_id="ann", resource=f"projects/{number}"), "10.0.0.1:1")
    answer = await signed.get("/audit/events.jsonl", params={"user": "ann", "after": "2"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["resource"] for line in lines] == [f"projects/{number}" for number in range(2, 7)]
    assert set(lines[0]) == {"sequence", "time", "user", "action", "resource", "outcome", "peer"}
    assert (await signed.get("/audit/events.jsonl", params={"user": "bob"})).text == ""


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"since": "yesterday"}, "BAD_TIME"),
        ({"until": "0001-01-01T00:00:00+23:59"}, "BAD_TIME"),
        ({"after": "-1"}, "BAD_SEQUENCE"),
        ({"after": "٣"}, "BAD_SEQUENCE"),
        ({"after": "9" * 30}, "BAD_SEQUENCE"),
        ({"who": "ann"}, "UNKNOWN_PARAMETER"),
    ],
)
async def test_wrong_questions_over_http_are_refused(signed, query, reason):
    answer = await signed.get("/audit/events.jsonl", params=query)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)


async def test_wrong_questions_over_grpc_are_refused(client):
    stub = IdentityServiceStub(client)
    bad = pb.ListAuditEventsRequest()
    bad.start_time.seconds = 10**15
    for message, reason in ((bad, "BAD_TIME"), (pb.ListAuditEventsRequest(page_size=1001), "BAD_PAGE_SIZE")):
        with pytest.raises(InvalidArgument) as caught:
            await stub.ListAuditEvents(message)
        assert caught.value.reason == reason


async def test_only_administrators_read_the_log(web, client, make_user):
    secret = await make_user("ann")
    answer = await web.get("/audit/events.jsonl", headers={"authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.json()["reason"]) == (403, "ADMIN_ONLY")
    with pytest.raises(PermissionDenied):
        await IdentityServiceStub(client).ListAuditEvents(
            pb.ListAuditEventsRequest(), metadata=bearer(secret)
        )
    assert (await web.get("/audit/events.jsonl")).status_code == 401


async def test_behind_a_proxy_the_log_says_where_the_call_began(upstreams, make_settings, tmp_path):
    settings = make_settings(upstreams.addresses, trusted_proxies="127.0.0.1, 10.0.0.0/8")
    said = "6.6.6.6, 203.0.113.5, 10.1.2.3"
    async with open_gateway(settings) as gateway:
        token = (tmp_path / "admin-token").read_text().strip()
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            stub = IdentityServiceStub(channel)
            metadata = (*bearer(token), ("x-forwarded-for", said))
            await stub.CreateUser(pb.CreateUserRequest(user_id="ann"), metadata=metadata)
            async with httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as web:
                headers = {"authorization": f"Bearer {token}", "x-forwarded-for": said}
                await web.post("/api/IdentityService/CreateUser", json={"userId": "bob"}, headers=headers)
            events = (await stub.ListAuditEvents(pb.ListAuditEventsRequest(), metadata=bearer(token))).events
    assert [event.peer for event in events] == ["203.0.113.5"] * 2


async def test_without_a_trusted_proxy_nobody_can_say_that_they_are_elsewhere(sdk, signed, running):
    headers = {"x-forwarded-for": "203.0.113.5", "x-forwarded-proto": "https"}
    answer = await signed.post("/api/IdentityService/CreateUser", json={"userId": "ann"}, headers=headers)
    assert "strict-transport-security" not in answer.headers
    (event,) = [event async for event in sdk.platform.audit_events()]
    assert event.peer.startswith("127.0.0.1:")


async def test_a_token_that_is_refused_is_refused_with_the_same_words(web):
    answer = await web.get("/version", headers={"authorization": f"Bearer {SECRET}"})
    assert answer.json()["code"] == Unauthenticated.grpc_code
