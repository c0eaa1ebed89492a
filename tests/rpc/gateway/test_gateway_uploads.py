"""Files in and out over HTTP, through a gateway in front of a real datastore."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile

from tests.rpc.gateway.conftest import MakeSettings
from tests.rpc.gateway.event_stream import open_events
from tests.rpc.gateway.pair import Pair, open_pair

BYTES = np.random.default_rng(5).bytes(3 * (1 << 20) + 12345)


@pytest.fixture
async def pair(keys: Path, tmp_path: Path, make_settings: MakeSettings) -> AsyncIterator[Pair]:
    async with open_pair(tmp_path, keys, make_settings) as found:
        await found.admin.create_project("em")
        yield found


async def ask(pair: Pair, method: str, **body: Any) -> dict[str, Any]:
    answer = await pair.web.post(f"/api/{method}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def begin(pair: Pair, file_name: str, size: int) -> str:
    upload = {"fileName": file_name, "sizeBytes": str(size)}
    request_id = "00000000-0000-4000-8000-000000000001"
    answer = await ask(
        pair, "DatastoreService/CreateUpload", parent="projects/em", upload=upload, requestId=request_id
    )
    return str(answer["upload"]["name"])


def put(pair: Pair, name: str, body: Any, offset: int = 0, headers: dict[str, str] | None = None) -> Any:
    return pair.web.put(f"/api/uploads/{name}?offset={offset}", content=body, headers=headers or {})


def digest_of(body: bytes) -> dict[str, str]:
    return {"content-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


async def test_a_file_is_uploaded_imported_and_exported_over_http_alone(pair: Pair):
    image = np.random.default_rng(3).integers(0, 256, (4, 130, 140), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric="minisblack")
    name = await begin(pair, "stack.tif", len(file.getvalue()))
    assert (await put(pair, name, file.getvalue())).json()["upload"]["receivedBytes"] == str(
        len(file.getvalue())
    )

    async def run(number: int, spec: dict[str, Any]) -> dict[str, Any]:
        body = {"project": "projects/em", "spec": spec}
        request_id = f"00000000-0000-4000-8000-0000000001{number:02}"
        made = (await ask(pair, "JobService/CreateJob", **body, requestId=request_id))["job"]
        job = made
        while job["state"] not in ("STATE_SUCCEEDED", "STATE_FAILED"):
            await asyncio.sleep(0.05)
            job = (await ask(pair, "JobService/GetJob", name=made["name"]))["job"]
        assert job["state"] == "STATE_SUCCEEDED", job
        found: dict[str, Any] = job["result"]
        return found

    voxel_size = {"zNm": 30, "yNm": 8, "xNm": 8}
    imported = await run(1, {"importVolume": {"upload": name, "volumeId": "brain", "voxelSize": voxel_size}})
    assert np.array_equal(await pair.admin.read(imported["volume"]), image)

    exported = await run(2, {"export": {"source": imported["volume"], "format": "FORMAT_TIFF"}})
    url = f"/api/artifacts/{exported['artifact']}"
    whole = await pair.web.get(url)
    assert np.array_equal(tifffile.imread(io.BytesIO(whole.content)), image)
    assert whole.headers["content-disposition"].startswith("attachment; filename=")
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    await check_ranges(pair.web, url, whole)


async def check_ranges(web: httpx.AsyncClient, url: str, whole: httpx.Response) -> None:
    size, etag = len(whole.content), whole.headers["etag"]
    for text, start, stop in (
        (f"bytes=7-{size}", 7, size),
        ("bytes=100-199", 100, 200),
        ("bytes=-3", size - 3, size),
    ):
        part = await web.get(url, headers={"range": text})
        assert (part.status_code, part.content) == (206, whole.content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    beyond = await web.get(url, headers={"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    other = await web.get(url, headers={"range": "bytes=0-1", "if-range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, size)
    head = await web.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
    assert (await web.get(url, headers={"if-none-match": etag})).status_code == 304
    assert (await web.get(url + "x")).status_code == 404


async def test_parts_are_kept_in_order_and_each_is_what_its_digest_says(pair: Pair):
    name = await begin(pair, "a.tif", len(BYTES))
    first, rest = BYTES[: 1 << 20], BYTES[1 << 20 :]
    wrong = await put(pair, name, first, headers=digest_of(rest))
    assert (wrong.status_code, wrong.json()["reason"]) == (400, "DIGEST_MISMATCH")
    assert (await put(pair, name, first, headers=digest_of(first))).status_code == 200
    again = await put(pair, name, first)
    assert (again.status_code, again.json()["reason"]) == (409, "OFFSET_MISMATCH")
    assert again.json()["details"] == {"received_bytes": str(len(first))}
    last = await put(pair, name, rest, len(first))
    assert last.json()["upload"]["receivedBytes"] == str(len(BYTES))


async def test_what_came_before_a_break_is_kept(pair: Pair):
    name = await begin(pair, "a.tif", len(BYTES))
    sent = 2_500_000
    host, _, port = pair.gateway.http_address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /api/uploads/{name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {pair.token}\r\n"
    writer.write(f"{head}content-length: {len(BYTES)}\r\n\r\n".encode() + BYTES[:sent])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(20):
        received = 0
        while received < sent:
            await asyncio.sleep(0.02)
            upload = (await ask(pair, "DatastoreService/GetUpload", name=name))["upload"]
            received = int(upload["receivedBytes"])
    assert received == sent
    answer = await put(pair, name, BYTES[sent:], sent)
    assert answer.json()["upload"]["receivedBytes"] == str(len(BYTES))


async def test_more_than_was_announced_is_refused_with_its_size_and_without_it(pair: Pair):
    async def unsized() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield BYTES[:1000]

    name = await begin(pair, "a.tif", 2000)
    for body in (BYTES[:2001], unsized()):
        answer = await put(pair, name, body)
        assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")
    upload = (await ask(pair, "DatastoreService/GetUpload", name=name))["upload"]
    assert int(upload["receivedBytes"]) <= 2000


async def test_what_is_wrong_with_a_part_is_said_and_nothing_is_kept(pair: Pair):
    name = await begin(pair, "a.tif", 2000)
    for query, headers, status, reason in (
        ("?offset=-1", {}, 400, "BAD_OFFSET"),
        ("?offset=x", {}, 400, "BAD_OFFSET"),
        ("?offset=" + "9" * 40, {}, 400, "BAD_OFFSET"),
        ("", {"content-digest": "md5=:AAAA:"}, 400, "BAD_DIGEST"),
        ("", {"content-digest": "sha-256=:AAAA:"}, 400, "BAD_DIGEST"),
        ("", {"content-type": "multipart/form-data; boundary=x"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("", {"content-encoding": "gzip"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    ):
        answer = await pair.web.put(f"/api/uploads/{name}{query}", content=b"abc", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    upload = (await ask(pair, "DatastoreService/GetUpload", name=name))["upload"]
    assert upload["receivedBytes"] == "0"


async def test_a_digest_is_for_parts_that_fit_into_memory(pair: Pair):
    body = bytes((8 << 20) + 1)
    name = await begin(pair, "a.tif", len(body))
    answer = await put(pair, name, body, headers=digest_of(body))
    assert (answer.status_code, answer.json()["reason"]) == (413, "DIGESTED_TOO_LARGE")


async def test_uploads_of_others_do_not_exist(pair: Pair):
    name = await begin(pair, "a.tif", 2000)
    await ask(pair, "IdentityService/CreateUser", userId="eve")
    token = (await ask(pair, "IdentityService/CreateToken", parent="users/eve"))["secret"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await put(pair, name, b"abc", headers=headers)).status_code == 404
    assert (await put(pair, name[:-1] + "x", b"abc")).status_code == 404
    member = {"member": {"name": "projects/em/members/eve", "role": "ROLE_MANAGER"}}
    await ask(pair, "DatastoreService/SetMember", **member)
    assert (await put(pair, name, b"abc", headers=headers)).status_code == 404


async def test_an_upload_that_is_too_large_is_refused_before_anything_is_sent(pair: Pair):
    upload = {"fileName": "a.tif", "sizeBytes": str(1 << 50)}
    body = {"parent": "projects/em", "upload": upload}
    answer = await pair.web.post("/api/DatastoreService/CreateUpload", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (413, "UPLOAD_TOO_LARGE")


async def test_jobs_are_told_only_when_all_services_tell_theirs(pair: Pair):
    # Neither sampler nor trainer are there.
    async with open_events(pair.web, "jobs", "projects/em") as events:
        assert events.response.status_code == 503
