"""Who is let in to the MONAI Label API, and what its requests may be, at a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from biosegment_gateway.gateway import open_gateway
from biosegment_gateway.settings import GatewaySettings, parse_part
from pydantic import ValidationError

from biosegment.errors import FailedPrecondition
from tests.rpc.gateway.conftest import MakeSettings, Upstreams

ORIGIN = "http://localhost:3000"


@pytest.fixture
def open_web(upstreams: Upstreams, make_settings: MakeSettings) -> Any:
    """An HTTP client of a gateway with these settings."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            open_gateway(make_settings(upstreams.addresses, **settings)) as gateway,
            httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=30) as client,
        ):
            yield client

    return start


async def test_a_ping_and_how_to_sign_in_need_nobody(web: httpx.AsyncClient, admin_token: str) -> None:
    for path in ("/monailabel/em", "/monailabel/em/", "/monailabel/any-other/"):
        assert (await web.get(path, follow_redirects=True)).status_code == 200
    answer = await web.get("/monailabel/em/auth/")
    assert answer.json()["enabled"] is True
    form = {"username": "admin", "password": admin_token, "grant_type": "password"}
    token = (await web.post("/monailabel/em/auth/token", data=form)).json()
    assert token == {"access_token": admin_token, "token_type": "Bearer"}
    headers = {"authorization": f"{token['token_type']} {token['access_token']}"}
    who = (await web.get("/monailabel/em/auth/token/valid", headers=headers)).json()
    assert (who["username"], "monailabel-admin" in who["roles"]) == ("admin", True)
    for wrong in ({"username": "ada"}, {"password": "secret"}, {"password": ""}, {"username": ""}):
        refused = await web.post("/monailabel/em/auth/token", data={**form, **wrong})
        assert (refused.status_code, refused.json()["reason"]) == (401, "BAD_LOGIN")
    assert (await web.get("/monailabel/em/auth/token/valid")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "info/"),
        ("GET", "datastore/"),
        ("GET", "datastore/image?image=brain"),
        ("HEAD", "datastore/image?image=brain"),
        ("PUT", "datastore/?image=x"),
        ("PUT", "datastore/label?image=x"),
        ("DELETE", "datastore/label?id=x&tag=final"),
        ("PUT", "datastore/updatelabelinfo?label=x&tag=final"),
        ("POST", "activelearning/random"),
        ("POST", "infer/segmentation?image=x"),
        ("POST", "train/segmentation"),
        ("DELETE", "train/"),
        ("POST", "batch/infer/segmentation"),
        ("POST", "scoring/entropy"),
        ("GET", "model/segmentation"),
        ("PUT", "session/"),
        ("GET", "session/1"),
        ("GET", "logs/"),
        ("GET", "openapi.json"),
        ("PUT", "settings"),
    ],
)
async def test_everything_else_needs_a_token(web: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await web.request(method, f"/monailabel/em/{path}")
    assert answer.status_code == 401
    # Nothing of the API is at the root unless a project was chosen for it.
    headers = {"authorization": "Bearer bsg_wrong"}
    assert (await web.request(method, f"/monailabel/em/{path}", headers=headers)).status_code == 401
    assert (await web.request(method, f"/{path}")).status_code == 401


async def test_signing_in_can_be_off_for_this_machine_alone(open_web: Any) -> None:
    async with open_web(monailabel_auth="off", monailabel_project="em", allowed_origins=ORIGIN) as web:
        for prefix in ("", "/monailabel/em"):
            assert (await web.get(f"{prefix}/auth/")).status_code == 404
            who = await web.get(f"{prefix}/auth/token/valid")
            assert (who.status_code, who.json()["username"]) == (200, "admin")
            # What a client made up as a token is not looked at.
            headers = {"authorization": "Bearer x"}
            assert (await web.get(f"{prefix}/auth/token/valid", headers=headers)).status_code == 200
        assert (await web.get("/")).headers["content-type"].startswith("text/html")
        for headers, reason in (
            ({"host": "evil.example:80"}, "FOREIGN_HOST"),
            ({"host": "127.0.0.1.evil.example"}, "FOREIGN_HOST"),
            ({"origin": "http://evil.example"}, "FOREIGN_ORIGIN"),
            ({"origin": "null"}, "FOREIGN_ORIGIN"),
        ):
            refused = await web.post("/activelearning/random", headers=headers)
            assert (refused.status_code, refused.json()["reason"]) == (403, reason)
        assert (await web.get("/auth/token/valid", headers={"origin": ORIGIN})).status_code == 200
        asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
        assert (await web.options("/info/", headers=asked)).headers["access-control-allow-origin"] == ORIGIN
        asked["origin"] = "http://evil.example"
        assert "access-control-allow-origin" not in (await web.options("/info/", headers=asked)).headers
        # The rest of the gateway lets nobody in.
        assert (await web.post("/api/DatastoreService/ListProjects")).status_code == 401


async def test_signing_in_cannot_be_off_for_others(upstreams: Upstreams, make_settings: MakeSettings) -> None:
    settings = make_settings(
        upstreams.addresses,
        monailabel_auth="off",
        http_listen="0.0.0.0:0",
        allow_insecure_listen=True,
    )
    with pytest.raises(FailedPrecondition) as caught:
        async with open_gateway(settings):
            pass
    assert caught.value.reason == "OPEN_TO_OTHERS"


async def test_bodies_that_are_too_large_or_never_end(open_web: Any) -> None:
    async with open_web(monailabel_auth="off", monailabel_max_body_bytes=10_000) as web:
        url = "/monailabel/em/auth/token"
        place = web.base_url
        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(
            f"POST {url} HTTP/1.1\r\nHost: {place.host}\r\ncontent-length: 99999999\r\n"
            "content-type: multipart/form-data; boundary=x\r\n\r\n".encode()
        )
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")  # before anything was sent
        writer.close()
        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(
            f"POST {url} HTTP/1.1\r\nHost: {place.host}\r\ntransfer-encoding: chunked\r\n"
            "content-type: multipart/form-data; boundary=x\r\n\r\n".encode()
        )
        piece = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n' + b"a" * 4000 + b"\r\n"
        answer = asyncio.create_task(reader.readline())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                while True:  # until the server has had enough
                    writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0)  # a drain that need not wait lets nobody else read
        assert (await answer).startswith(b"HTTP/1.1 413")
        writer.close()
        headers = {"content-type": "multipart/form-data; boundary=x"}
        many = b"".join(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(50))
        answer = await web.post(url, content=many + b"--x--\r\n", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BAD_FORM")


async def test_a_get_with_the_length_of_an_earlier_body_is_answered(open_web: Any) -> None:
    async with open_web(monailabel_auth="off") as web:
        place = web.base_url
        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(
            f"GET /monailabel/em/openapi.json HTTP/1.1\r\nHost: {place.host}\r\ncontent-length: 26\r\n"
            "content-type: application/json\r\n\r\n".encode()
        )
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_settings_say_what_is_wrong(make_settings: MakeSettings) -> None:
    addresses = {name: "127.0.0.1:1" for name in ("datastore", "sampler", "trainer")}
    good: GatewaySettings = make_settings(addresses, monailabel_part="16,128,128")
    assert tuple(parse_part(good.monailabel_part)) == (16, 128, 128)
    for wrong in ("", "64", "1,1,1", "64,512,512,3", "a,b,c", "5000,16,16", "1024,1024,1024"):
        with pytest.raises(ValidationError, match="monailabel_part"):
            make_settings(addresses, monailabel_part=wrong)
