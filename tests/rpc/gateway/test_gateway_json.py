from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from biosegment_gateway.contract import is_unary, public_services
from biosegment_gateway.http.json_call import MAX_BODY_BYTES

from biosegment.api.datastore.v1alpha1 import project_pb2, volume_pb2
from tests.rpc.gateway.conftest import Upstreams

VOLUMES = "/api/DatastoreService/ListVolumes"
PROJECTS = "/api/DatastoreService/ListProjects"
BAD_BODIES = [
    (b"{", "BAD_JSON", "line 1 column 2"),
    (b"[]", "BAD_FIELD", "ListVolumesRequest must be an object, not a list"),
    (b"null", "BAD_FIELD", "not null"),
    (b'{"parent": "projects/p", "parent": "projects/q"}', "BAD_JSON", "'parent' twice"),
    (b'{"parnet": "projects/p"}', "BAD_FIELD", "there is no field ListVolumesRequest.parnet"),
    (b'{"parent": 5}', "BAD_FIELD", "ListVolumesRequest.parent"),
    (b'{"pageSize": "many"}', "BAD_FIELD", "pageSize"),
    (b'{"pageSize": 2147483648}', "BAD_FIELD", "pageSize"),
    (b'{"pageSize": 1e400}', "BAD_JSON", "1e400"),
    (b'{"pageSize": 1.5}', "BAD_FIELD", "pageSize"),
    (b'{"pageSize": NaN}', "BAD_JSON", "NaN"),
    (b'{"pageSize": 1' + b"0" * 5000 + b"}", "BAD_JSON", "digit"),
    (b'{"parent": "\xff"}', "BAD_JSON", "not UTF-8 at byte 12"),
    (b'{"parent": "\\ud800"}', "BAD_FIELD", "parent"),
    (b'{"parent": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "BAD_JSON", "nested too deeply"),
]
ABSENT = [
    ("POST", "/api/DatastoreService/NoSuch", 404, "NO_SUCH_METHOD"),
    ("POST", "/api/DatastoreService/ReadRegion", 404, "METHOD_STREAMS"),
    ("POST", "/api/WorkerService/ReportProgress", 404, "NO_SUCH_ENDPOINT"),
    ("POST", "/api/NoService/Get", 404, "NO_SUCH_ENDPOINT"),
    ("POST", "/api/DatastoreService/..%2fIdentityService", 404, "NO_SUCH_ENDPOINT"),
    ("GET", VOLUMES, 405, "NO_SUCH_ENDPOINT"),
    ("PUT", VOLUMES, 405, "NO_SUCH_ENDPOINT"),
    ("DELETE", "/api/DatastoreService/NoSuch", 404, "NO_SUCH_METHOD"),
]
OTHER_KINDS = [
    {},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "application/json; charset=latin-1"},
    {"content-type": "application/json", "content-encoding": "gzip"},
]


@pytest.fixture
def signed(web, admin_token) -> httpx.AsyncClient:
    web.headers["authorization"] = f"Bearer {admin_token}"
    return web


@pytest.fixture
def shelf(upstreams: Upstreams) -> Upstreams:
    upstreams.datastore.projects["projects/p"] = project_pb2.Project(name="projects/p", display_name="Nière")
    volume = volume_pb2.Volume(name="projects/p/volumes/v", display_name="Block 1")
    volume.shape.z = 5_000_000_000
    volume.voxel_size.z_nm = 50
    upstreams.datastore.volumes[volume.name] = volume
    return upstreams


async def test_an_answer_has_the_names_of_protobufs_json_with_its_defaults(signed, shelf):
    answer = await signed.post(VOLUMES, json={"parent": "projects/p"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["nextPageToken"] == ""
    (volume,) = answer.json()["volumes"]
    assert (volume["displayName"], volume["shape"]["z"], volume["shape"]["x"]) == (
        "Block 1",
        "5000000000",
        "0",
    )
    assert volume["voxelSize"]["zNm"] == 50.0


async def test_an_empty_body_is_an_empty_message(signed, shelf):
    for content, headers in (("", {}), ("{}", {"content-type": "Application/JSON; charset=UTF-8"})):
        answer = await signed.post(PROJECTS, content=content, headers=headers)
        assert [project["displayName"] for project in answer.json()["projects"]] == ["Nière"]


async def test_every_method_that_is_no_stream_can_be_called_and_no_other(signed):
    for service in public_services().values():
        for method in service.methods:
            answer = await signed.options(f"/api/{service.name}/{method.name}")
            assert answer.status_code == (204 if is_unary(method) else 404), method.full_name
    assert answer.headers["allow"] == "POST, OPTIONS"


async def test_jobs_are_made_listed_and_cancelled_by_the_service_that_keeps_them(signed):
    spec = {"importVolume": {"uri": "/data/raw.tif", "channel": 2}}
    body = {"project": "projects/p", "spec": spec, "requestId": "1f6c3d0e-5f1e-4a51-9d5c-0c5d2a1b7e11"}
    made = (await signed.post("/api/JobService/CreateJob", json=body)).json()["job"]
    assert made["name"].startswith("jobs/datastore-")
    assert made["state"] == "STATE_QUEUED"
    assert made["spec"]["importVolume"]["channel"] == 2
    listed = (await signed.post("/api/JobService/ListJobs", json={"project": "projects/p"})).json()
    assert [job["name"] for job in listed["jobs"]] == [made["name"]]
    ended = (await signed.post("/api/JobService/CancelJob", json={"name": made["name"]})).json()["job"]
    assert (ended["state"], ended["revision"]) == ("STATE_CANCELLED", "2")


async def test_a_body_that_is_no_such_message_is_refused_with_what_is_wrong_with_it(signed):
    for body, reason, words in BAD_BODIES:
        answer = await signed.post(VOLUMES, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["reason"]) == (400, reason), body[:50]
        assert words in answer.json()["message"], body[:50]
        assert len(answer.text) < 600


async def test_what_does_not_exist_is_said_in_the_words_of_every_error(signed):
    for method, path, status, reason in ABSENT:
        answer = await signed.request(method, path)
        assert answer.status_code == status, path
        assert set(answer.json()) == {"code", "reason", "message", "details"}
        assert answer.json()["reason"] == reason
        assert (answer.headers.get("allow") == "POST, OPTIONS") is (status == 405)


async def test_a_head_has_no_body_and_says_what_is_allowed(signed):
    answer = await signed.head(VOLUMES)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", "POST, OPTIONS")


async def test_a_body_of_another_kind_is_not_guessed_at(signed):
    for headers in OTHER_KINDS:
        answer = await signed.post(VOLUMES, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), headers


async def test_a_body_that_is_too_large_ends_at_the_limit(signed):
    async def unsized():
        for _ in range(MAX_BODY_BYTES // (1 << 20) + 1):
            yield b" " * (1 << 20)

    for content in (b" " * (MAX_BODY_BYTES + 1), unsized()):
        answer = await signed.post(VOLUMES, content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")


async def test_a_message_that_grpc_would_not_take_is_not_taken_either(signed):
    body = {"parent": "p" * (8 << 20)}
    answer = await signed.post(VOLUMES, json=body)
    assert (answer.status_code, answer.json()["details"]) == (413, {"limit": str(8 << 20)})


async def test_big_messages_hold_up_nobody(signed, shelf):
    async def ask(body):
        return await signed.post(VOLUMES, json=body)

    big = asyncio.create_task(ask({"parent": "projects/" + "p" * 4_000_000}))
    assert (await ask({"parent": "projects/p"})).status_code == 200
    assert (await big).status_code in (200, 400, 404)


async def test_errors_of_services_come_with_their_status_reason_and_details(web, shelf, make_user):
    web.headers["authorization"] = f"Bearer {await make_user('ann')}"
    answer = await web.post(VOLUMES, json={"parent": "projects/p"})
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (
        404,
        "NOT_FOUND",
        "PROJECT_NOT_FOUND",
    )
    answer = await web.post("/api/IdentityService/ListUsers")
    assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
    for method, body, reason in (
        ("CreateJob", {"project": "projects/p"}, "NO_JOB_KIND"),
        ("ListJobs", {"pageSize": -1}, "BAD_PAGE_SIZE"),
        ("ListJobs", {"pageSize": 501}, "BAD_PAGE_SIZE"),
        ("ListJobs", {"pageToken": "x"}, "BAD_PAGE_TOKEN"),
    ):
        answer = await web.post(f"/api/JobService/{method}", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (400, reason)


async def test_a_service_that_is_away_is_named(signed, upstreams):
    await upstreams.servers["trainer"].stop(0)
    for path in ("/api/TrainerService/ListModels", "/api/JobService/ListJobs"):
        answer = await signed.post(path)
        assert answer.status_code == 503
        assert "the trainer cannot be reached" in answer.json()["message"]


async def test_changes_are_in_the_audit_log_and_carry_the_request_id(signed, running):
    headers = {"x-request-id": "from-the-page.7"}
    answer = await signed.post(
        "/api/DatastoreService/DeleteProject", json={"name": "projects/p"}, headers=headers
    )
    assert answer.status_code == 403
    made = await signed.post("/api/IdentityService/CreateUser", json={"userId": "bob"}, headers=headers)
    assert made.headers["x-request-id"] == "from-the-page.7"
    events = (await signed.post("/api/IdentityService/ListAuditEvents", json={})).json()["events"]
    found = {(each["action"].rpartition("/")[2], each["resource"], each["outcome"]) for each in events}
    assert {
        ("CreateUser", "users/bob", "OK"),
        ("DeleteProject", "projects/p", "PERMISSION_DENIED"),
    } <= found
    assert all(each["peer"] for each in events if each["user"])


async def test_the_service_sees_the_user_and_the_request_id(signed, upstreams, monkeypatch):
    # The trial service behind the gateway answers with whom it saw, which is no message.
    trial, seen = upstreams.trials["sampler"], []

    async def note(body, call):
        seen.append(trial._answer().decode())
        raise_error = json.dumps({"error": "NotFound", "reason": "NOTHING", "message": "nothing here"})
        await original(raise_error.encode(), call)

    original = trial._obey
    monkeypatch.setattr(trial, "_obey", note)
    headers = {"x-request-id": "trial-7"}
    answer = await signed.post(
        "/api/SamplerService/GetPool", json={"name": "projects/p/pool"}, headers=headers
    )
    assert (answer.status_code, answer.json()["message"]) == (404, "nothing here")
    assert seen == ["user:admin trial-7"]


async def test_the_document_names_every_route_of_the_running_gateway(signed, running):
    answer = await signed.get("/api/openapi.json")
    assert answer.status_code == 200
    paths = set(answer.json()["paths"])
    for path in (
        "/api/events/jobs",
        "/api/uploads/projects/{project}/uploads/{upload}",
        "/healthz",
        "/auth/login",
        "/zarr/projects/{project}/volumes/{volume}/{path}",
        "/monailabel/{project}/info/",
        "/api/DatastoreService/ListVolumes",
    ):
        assert path in paths
    again = await signed.get("/api/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
