from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys

import httpx
import pytest
from biosegment_gateway.gateway import open_gateway

import biosegment
from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument
from tests.rpc.gateway.conftest import Upstreams

CLOSED = [
    "/version",
    "/api/openapi.json",
    "/api/DatastoreService/ListProjects",
    "/api/NoService/Nothing",
    "/api/events/jobs",
    "/api/uploads/projects/p/uploads/u",
    "/api/artifacts/projects/p/artifacts/a",
    "/api/models/m",
    "/zarr/projects/p/volumes/v/zarr.json",
    "/zarr/projects/p/volumes/v/layers/l/zarr.json",
    f"/zarr/t/bsg_{'0' * 26}_{'0' * 64}/projects/p/volumes/v/zarr.json",
    "/zarr/t/",
    "/no/such/path",
    "/index.html",
    "/healthz/",
]
BAD = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer bsg_{'0' * 26}_{'0' * 64}"},
    {"authorization": "Basic !!!"},
    {"authorization": "Basic YTpi"},
    {"cookie": "token=bsg_x"},
]


@pytest.fixture
def signed(web, admin_token) -> httpx.AsyncClient:
    web.headers["authorization"] = f"Bearer {admin_token}"
    return web


async def test_nothing_answers_without_a_token(web):
    for path in CLOSED:
        for headers in BAD:
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                answer = await web.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path, headers)
                assert answer.headers["www-authenticate"]
                if method == "GET":
                    assert set(answer.json()) == {"code", "reason", "message", "details"}


async def test_the_shell_of_the_page_and_the_health_are_open(web):
    assert (await web.get("/healthz")).json() == {"status": "ok"}
    page = await web.get("/")
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for path in loaded:
        answer = await web.get(path)
        assert answer.status_code == 200
        again = await web.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
        plain = await web.get(path, headers={"accept-encoding": "identity"})
        assert plain.content == answer.content
        assert ("immutable" in answer.headers["cache-control"]) == path.startswith("/assets/")
    for path in ("/projects", "/projects/p/volumes/v", "/administration/audit", "/account"):
        assert (await web.get(path)).text == page.text
    for path in ("/assets/nothing.js", "/assets/..%2Findex.html", "/assets/../../page.py"):
        assert (await web.get(path)).status_code in (401, 404)
    assert (await web.get("/assets/nothing.js")).json()["reason"] == "NO_SUCH_FILE"


async def test_every_answer_carries_headers_against_abuse(web):
    for path in ("/", "/projects/p", "/healthz", "/api/openapi.json", "/nothing"):
        headers = (await web.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


async def test_the_page_has_no_inline_script_or_style(web):
    text = (await web.get("/")).text
    assert re.findall(r"<script[^>]* src=[^>]*>(.*?)</script>", text, re.S) == [""]
    assert text.count("<script") == 1
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick=" not in text


async def test_the_version_is_told_to_those_who_are_signed_in(signed):
    assert (await signed.get("/version")).json()["version"] == biosegment.__version__


async def test_status_says_how_each_service_is(signed, upstreams: Upstreams):
    await upstreams.servers["trainer"].stop(0)
    services = (await signed.post("/api/PlatformService/GetStatus")).json()["services"]
    assert {item["service"]: item["health"] for item in services} == {
        "gateway": "HEALTH_SERVING",
        "datastore": "HEALTH_SERVING",
        "sampler": "HEALTH_SERVING",
        "trainer": "HEALTH_UNREACHABLE",
    }


async def test_users_see_their_own_projects_and_get_errors_as_json(web, upstreams: Upstreams, make_user):
    for name in ("projects/hers", "projects/other"):
        upstreams.datastore.projects[name] = project_pb2.Project(name=name)
    upstreams.datastore.members["projects/hers"] = {"ann"}
    web.headers["authorization"] = f"Bearer {await make_user('ann')}"
    projects = (await web.post("/api/DatastoreService/ListProjects")).json()["projects"]
    assert [project["name"] for project in projects] == ["projects/hers"]
    answer = await web.post("/api/DatastoreService/ListVolumes", json={"parent": "projects/other"})
    assert answer.status_code == 404
    assert answer.json()["reason"] == "PROJECT_NOT_FOUND"
    answer = await web.post("/api/JobService/ListJobs")
    assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/version", 405),
        ("DELETE", "/zarr/projects/p/volumes/v/zarr.json", 405),
    ],
)
async def test_wrong_requests_have_a_status_and_a_reason(signed, method, path, status):
    answer = await signed.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "reason", "message", "details"}


async def test_pages_of_other_origins_may_read_only_when_they_are_named(upstreams, make_settings):
    ours, theirs = "https://viewer.example", "https://evil.example"
    async with open_gateway(make_settings(upstreams.addresses, allowed_origins=ours)) as gateway:
        async with httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as web:
            for origin, allowed in ((ours, True), (theirs, False)):
                headers = {"origin": origin, "access-control-request-method": "GET"}
                answer = await web.options("/zarr/projects/p/volumes/v/zarr.json", headers=headers)
                assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
                assert answer.headers.get("access-control-allow-credentials") is None


async def test_without_named_origins_no_other_page_may_read(signed):
    answer = await signed.get("/version", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_no_token_gets_into_the_logs(web, admin_token, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    await web.get(f"/zarr/t/{admin_token}/projects/p/volumes/v/zarr.json")
    await web.get("/zarr/projects/p/volumes/v/zarr.json", params={"token": admin_token})
    await web.get("/version", headers={"authorization": f"Bearer {admin_token}"})
    out, err = capfd.readouterr()
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert "/zarr/projects/p/volumes/v/zarr.json" in out + err
    assert admin_token not in out + err + "".join(record.getMessage() for record in ours)


async def test_addresses_that_others_reach_are_refused_unless_they_are_wanted(upstreams, make_settings):
    with pytest.raises(InvalidArgument) as caught:
        async with open_gateway(make_settings(upstreams.addresses, http_listen="0.0.0.0:0")):
            pass
    assert caught.value.reason == "INSECURE_LISTEN"


async def test_a_port_that_is_taken_is_named(running, upstreams, make_settings):
    with pytest.raises(FailedPrecondition, match=running.http_address) as caught:
        async with open_gateway(make_settings(upstreams.addresses, http_listen=running.http_address)):
            pass
    assert caught.value.reason == "PORT_IN_USE"


def environment(settings, tmp_path) -> dict[str, str]:
    values = settings.model_dump(exclude={"s3_secret_access_key"}) | {
        "address_file": str(tmp_path / "addresses.json")
    }
    return {
        f"BIOSEGMENT_GATEWAY__{name.upper()}": str(value)
        for name, value in values.items()
        if value is not None
    }


async def test_the_process_says_where_it_listens_and_ends_on_a_signal(upstreams, make_settings, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "biosegment_gateway"],
        env=environment(make_settings(upstreams.addresses), tmp_path),
        stderr=subprocess.PIPE,
    )
    try:
        for line in iter(process.stderr.readline, b""):
            if b"gateway_listening" in line:
                said = json.loads(line)
                break
        async with httpx.AsyncClient(timeout=60) as web:
            while not (tmp_path / "addresses.json").exists():
                assert process.poll() is None
                await asyncio.sleep(0.02)
            addresses = json.loads((tmp_path / "addresses.json").read_text())
            assert addresses == {"grpc": said["grpc"], "http": said["http"]}
            assert (await web.get(f"http://{addresses['http']}/healthz")).json() == {"status": "ok"}
        process.terminate()
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 0
        assert b"Traceback" not in rest
    finally:
        process.kill()
        process.wait()


def test_wrong_settings_are_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "biosegment_gateway"],
        env={"BIOSEGMENT_GATEWAY__HTTP_PORT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "BIOSEGMENT_GATEWAY__HTTP_PORT" in done.stderr
