"""Who may call what over HTTP, on a whole platform: every route, every kind of caller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from biosegment.auth import Kind, Principal
from tests.system.rights import USERS, Right
from tests.system.routes import ROUTES, RouteRow
from tests.system.world import ABSENT, USELESS, World, inhabited

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = {
    "BIOSEGMENT_GATEWAY__MONAILABEL_PROJECT": "alpha",
    "BIOSEGMENT_GATEWAY__USER_REQUESTS_PER_S": "0",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with inhabited(tmp_path_factory.mktemp("platform"), ROOT) as world:
        yield world


@pytest.fixture(scope="module")
def web(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.http_url, timeout=60) as client:
        yield client


def _named(rows: list[RouteRow]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[str(row) for row in rows])


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body of an answer."""

    status: int
    body: str

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["reason"])


def _ask(world: World, web: httpx.Client, row: RouteRow, headers: dict[str, str]) -> Reply:
    options = dict(row.options)
    if "json" in options:
        options["json"] = world.filled(options["json"])
    address = world.filled(row.address)
    with web.stream(row.method, address, headers=headers, **options) as answer:
        # Events never end.
        is_endless = answer.headers.get("content-type", "").startswith("text/event-stream")
        body = "" if is_endless else answer.read().decode(errors="replace")
    return Reply(answer.status_code, body)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


GUARDED = [row for row in ROUTES if row.right is not None]


@_named([row for row in ROUTES if row.right is None])
def test_what_everybody_may_see_needs_no_token(world: World, web: httpx.Client, row: RouteRow):
    assert _ask(world, web, row, {}).status in row.answers


@_named(GUARDED)
def test_nobody_is_answered_without_a_valid_token(world: World, web: httpx.Client, row: RouteRow):
    principal = world.sign("gateway", Principal(Kind.USER, "owner", is_admin=True), "gateway")
    tokens = world.tokens
    for token in (
        "junk",
        f"{tokens['owner']}x",
        principal,
        *(tokens[name] for name in USELESS),
    ):
        answer = _ask(world, web, row, _bearer(token))
        assert (answer.status, answer.code) == (401, "UNAUTHENTICATED"), token
    for headers in ({}, {"authorization": "Basic !"}, {"cookie": "biosegment_session=junk"}):
        assert _ask(world, web, row, headers).status == 401, headers
    # Nor is a method that the route does not have.
    assert web.request("PATCH", world.filled(row.address)).status_code == 401


@_named(GUARDED)
def test_users_may_do_what_their_role_says(world: World, web: httpx.Client, row: RouteRow):
    for user, rights in USERS.items():
        answer = _ask(world, web, row, _bearer(world.tokens[user]))
        who = (user, answer.status, answer.body[:300])
        if row.right in rights:
            assert answer.status in row.answers, who
        elif user == "stranger" and row.right is not Right.ADMIN:
            assert answer.status == 404, who
            assert answer.reason in ABSENT, who
        else:
            assert answer.status == 403, who


@pytest.fixture(scope="module")
def session(world: World) -> dict[str, str]:
    """Headers of a browser in which a viewer has signed in."""
    token = {"token": world.tokens["viewer"]}
    with httpx.Client(base_url=world.http_url) as browser:
        assert browser.post("/auth/login", json=token).status_code == 204
        return {"cookie": f"biosegment_session={browser.cookies['biosegment_session']}"}


@_named(GUARDED)
def test_a_session_is_its_user_s_and_no_other_site_s(
    world: World, web: httpx.Client, session: dict[str, str], row: RouteRow
):
    own = {**session, "origin": world.http_url}
    answer = _ask(world, web, row, own)
    assert answer.status in (row.answers if row.right in USERS["viewer"] else (403,)), answer
    assert answer.status != 403 or answer.reason != "CROSS_SITE", answer
    if row.method not in ("GET", "OPTIONS"):
        for headers in (session, {**session, "origin": "http://elsewhere.example"}):
            answer = _ask(world, web, row, headers)
            assert (answer.status, answer.reason) == (403, "CROSS_SITE"), headers


def test_a_link_shows_its_volume_and_opens_nothing_else(world: World, web: httpx.Client):
    wanted = {"name": world.names["volume"], "layers": ["shown"]}
    made = web.post("/links", json=wanted, headers=_bearer(world.tokens["viewer"])).json()
    address = made["zarrUrl"].removeprefix(world.http_url)
    assert web.get(f"{address}/zarr.json").status_code == 200
    link, _, name = address.removeprefix("/zarr/l/").partition("/")
    for wrong in (
        f"/zarr/l/{link}x/{name}/zarr.json",
        f"/zarr/l/{link[:-1]}/{name}/zarr.json",
        f"/zarr/l/{world.tokens['viewer']}/{name}/zarr.json",
        f"/zarr/l/{link}/other/zarr.json",
    ):
        assert web.get(wrong).status_code in (401, 404), wrong
    for row in GUARDED:
        for headers in (_bearer(link), {"cookie": f"biosegment_session={link}"}):
            assert _ask(world, web, row, headers).status == 401, row


def test_there_is_nothing_at_other_addresses_and_nobody_learns_that_without_a_token(
    world: World, web: httpx.Client
):
    assert web.get("/no/such/place").status_code == 401
    assert web.get("/no/such/place", headers=_bearer(world.tokens["viewer"])).status_code == 404
