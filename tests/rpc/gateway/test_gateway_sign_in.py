from __future__ import annotations

import asyncio

import httpx
import pytest
from biosegment_gateway.gateway import open_gateway
from google.protobuf.field_mask_pb2 import FieldMask

from biosegment.api.identity.v1alpha1 import identity_pb2 as pb
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from biosegment.rpc.call import bearer

GOOD = "correct horse battery"
COOKIE = "biosegment_session"


@pytest.fixture
def stub(client) -> IdentityServiceStub:
    return IdentityServiceStub(client)


@pytest.fixture
def page(running) -> dict[str, str]:
    """Headers that the page's own requests carry."""
    return {"origin": f"http://{running.http_address}"}


@pytest.fixture
async def ann(make_user) -> str:
    """An API token of a user."""
    return await make_user("ann")


@pytest.fixture
async def password(stub, ann) -> str:
    """Of that user."""
    await stub.SetPassword(pb.SetPasswordRequest(new_password=GOOD), metadata=bearer(ann))
    return GOOD


async def log_in(web, page, user="ann", password=GOOD):
    return await web.post("/auth/login", json={"user": user, "password": password}, headers=page)


async def test_a_password_makes_a_session_that_scripts_and_other_sites_never_see(web, page, ann, password):
    assert (await web.get("/auth/self")).status_code == 401
    answer = await log_in(web, page)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=bss_")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert "secure" not in parts
    assert (await web.get("/auth/self")).json() == {"userId": "ann", "displayName": "ann", "isAdmin": False}
    assert (await web.get("/version")).status_code == 200


async def test_the_methods_are_told_to_everybody(web, running):
    methods = (await web.get("/auth/methods")).json()
    assert methods == {
        "password": True,
        "oidc": None,
        "grpcPort": int(running.grpc_address.rpartition(":")[2]),
    }


async def test_signing_out_ends_the_session(web, page, ann):
    await web.post("/auth/login", json={"token": ann}, headers=page)
    secret = web.cookies[COOKIE]
    answer = await web.post("/auth/logout", headers=page)
    assert answer.status_code == 204
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    again = await web.get("/auth/self", headers={"cookie": f"{COOKIE}={secret}"})
    assert (again.status_code, again.json()["reason"]) == (401, "SESSION_OVER")
    assert (await web.post("/auth/logout")).status_code == 204


FOREIGN = [
    {},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
]


async def test_only_the_page_itself_changes_things_with_the_cookie(web, page, ann):
    await web.post("/auth/login", json={"token": ann}, headers=page)
    for headers in FOREIGN:
        answer = await web.post("/api/IdentityService/CreateToken", json={}, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (403, "CROSS_SITE"), headers
        assert (await web.get("/auth/self", headers=headers)).status_code == 200
    for headers in (page, {"sec-fetch-site": "same-origin"}):
        answer = await web.post("/api/IdentityService/CreateToken", json={}, headers=headers)
        assert answer.json()["secret"].startswith("bsg_"), headers


async def test_programs_with_a_token_need_no_origin(web, ann):
    answer = await web.post(
        "/api/IdentityService/CreateToken", json={}, headers={"authorization": f"Bearer {ann}"}
    )
    assert answer.status_code == 200


async def test_other_sites_sign_nobody_in_or_out(web, ann, page):
    for path in ("/auth/login", "/auth/logout"):
        answer = await web.post(path, json={"token": ann}, headers={"origin": "https://evil.example"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_the_token_in_the_address_becomes_a_session_with_its_limits_and_its_end(web, page, stub, ann):
    made = await stub.CreateToken(
        pb.CreateTokenRequest(token=pb.Token(scopes=["read"])), metadata=bearer(ann)
    )
    answer = await web.post("/auth/login", json={"token": made.secret}, headers=page)
    assert answer.status_code == 204
    assert (await web.post("/api/IdentityService/GetSelf", headers=page)).json()["scopes"] == ["read"]
    refused = await web.post("/api/IdentityService/CreateToken", json={}, headers=page)
    assert (refused.status_code, refused.json()["reason"]) == (403, "OUT_OF_SCOPE")
    await stub.RevokeToken(pb.RevokeTokenRequest(name=made.token.name), metadata=bearer(ann))
    assert (await web.get("/auth/self")).json()["reason"] == "SESSION_OVER"


WRONG = [
    ({"user": "ann", "password": "wrong password"}, 401, "BAD_LOGIN"),
    ({"user": "nobody", "password": GOOD}, 401, "BAD_LOGIN"),
    ({"user": "admin", "password": ""}, 401, "BAD_LOGIN"),
    ({"token": "bsg_x"}, 401, "BAD_TOKEN"),
    ({"token": "bss_" + "0" * 64}, 401, "BAD_TOKEN"),
    ({"token": "a.b.c"}, 401, "BAD_TOKEN"),
    ({}, 400, "BAD_LOGIN_REQUEST"),
    ({"user": "ann"}, 400, "BAD_LOGIN_REQUEST"),
    ({"user": "ann", "password": GOOD, "token": "x"}, 400, "BAD_LOGIN_REQUEST"),
    ({"user": 1, "password": []}, 400, "BAD_JSON"),
    ([], 400, "BAD_JSON"),
    ("x" * 20_000, 413, "BODY_TOO_LARGE"),
]


async def test_wrong_logins_are_refused_with_a_reason(web, page, ann):
    for body, status, reason in WRONG:
        answer = await web.post("/auth/login", json=body, headers=page)
        found = answer.status_code, answer.json()["reason"], "set-cookie" in answer.headers
        assert found == (status, reason, False), body


async def test_a_body_that_is_no_json_is_refused(web, page):
    for content in (b"", b"{", b"\xff\xfe", b"user=ann"):
        answer = await web.post("/auth/login", content=content, headers=page)
        assert answer.json()["reason"] == "BAD_JSON"


async def test_guessing_gets_slow_with_an_answer_that_says_for_how_long(web, page):
    # At once: on a busy machine each takes longer than the first waits. All of the waits together take minutes.
    answers = await asyncio.gather(*(log_in(web, page, password=f"wrong password {i}") for i in range(12)))
    slow = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert {answer.json()["reason"] for answer in slow} == {"TOO_MANY_TRIES"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in slow)


async def test_sessions_survive_a_restart_and_are_tokens_on_the_other_port(
    upstreams, make_settings, keys, tmp_path
):
    settings = make_settings(upstreams.addresses)
    cookie = ""
    for _ in range(2):
        async with (
            open_gateway(settings) as gateway,
            httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as web,
        ):
            if not cookie:
                token = (tmp_path / "admin-token").read_text().strip()
                await web.post("/auth/login", json={"token": token})
                cookie = web.cookies[COOKIE]
            headers = {"cookie": f"{COOKIE}={cookie}"}
            assert (await web.get("/auth/self", headers=headers)).json()["userId"] == "admin"
            headers = {"authorization": f"Bearer {cookie}"}
            assert (await web.get("/auth/self", headers=headers)).json()["userId"] == "admin"


async def test_changing_the_password_needs_the_old_one_and_ends_all_sessions(web, page, stub, ann, password):
    await log_in(web, page)
    new = "an entirely new one"
    for old in ("", "wrong password"):
        with pytest.raises(Unauthenticated, match="password"):
            await stub.SetPassword(
                pb.SetPasswordRequest(old_password=old, new_password=new), metadata=bearer(ann)
            )
    request = pb.SetPasswordRequest(old_password=GOOD, new_password=new)
    await stub.SetPassword(request, metadata=bearer(ann))
    assert (await web.get("/auth/self")).json()["reason"] == "SESSION_OVER"
    assert (await log_in(web, page)).status_code == 401
    assert (await log_in(web, page, password=new)).status_code == 204


async def test_an_administrator_resets_passwords_of_others_and_nobody_else_does(
    web, page, stub, ann, make_user
):
    bob = await make_user("bob")
    request = pb.SetPasswordRequest(name="users/ann", new_password="a password by bob")
    with pytest.raises(PermissionDenied):
        await stub.SetPassword(request, metadata=bearer(bob))
    await stub.SetPassword(request)
    assert (await log_in(web, page, password="a password by bob")).status_code == 204
    with pytest.raises(NotFound):
        await stub.SetPassword(pb.SetPasswordRequest(name="users/nobody", new_password=GOOD))
    with pytest.raises(InvalidArgument) as caught:
        await stub.SetPassword(pb.SetPasswordRequest(name="users/bob", new_password="short"))
    assert caught.value.reason == "WEAK_PASSWORD"


async def test_a_disabled_user_loses_tokens_and_sessions_and_has_them_back_when_enabled(
    web, page, stub, ann, password
):
    await log_in(web, page)

    async def set_disabled(value: bool) -> pb.User:
        user = pb.User(name="users/ann", disabled=value)
        request = pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=["disabled"]))
        return (await stub.UpdateUser(request)).user

    assert (await set_disabled(True)).disabled
    assert (await web.get("/auth/self")).status_code == 401
    assert (await log_in(web, page)).json()["reason"] == "USER_DISABLED"
    with pytest.raises(Unauthenticated) as caught:
        await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(ann))
    assert caught.value.reason == "USER_DISABLED"
    await set_disabled(False)
    await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(ann))
    assert (await web.get("/auth/self")).status_code == 401
    assert (await log_in(web, page)).status_code == 204


async def test_users_are_changed_field_by_field_and_one_administrator_is_left(stub, ann):
    async def change(name: str, *paths: str, **values: object) -> pb.User:
        user = pb.User(name=name, **values)  # type: ignore[arg-type]
        return (
            await stub.UpdateUser(pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=paths)))
        ).user

    changed = await change("users/ann", "display_name", display_name="Ann", is_admin=True)
    assert (changed.display_name, changed.is_admin) == ("Ann", False)
    for paths in (("is_admin",), ("disabled",)):
        with pytest.raises(FailedPrecondition) as caught:
            await change("users/admin", *paths, disabled=True)
        assert caught.value.reason == "LAST_ADMIN"
    assert (await change("users/ann", "is_admin", is_admin=True)).is_admin
    assert (await stub.GetSelf(pb.GetSelfRequest(), metadata=bearer(ann))).user.is_admin
    assert not (await change("users/admin", "is_admin")).is_admin
    with pytest.raises(PermissionDenied):
        await stub.ListUsers(pb.ListUsersRequest())


async def test_a_limited_token_makes_itself_no_other_one(stub, ann):
    for scope in ("read", "manage", "manage:projects/p"):
        made = await stub.CreateToken(
            pb.CreateTokenRequest(parent="users/admin", token=pb.Token(scopes=[scope]))
        )
        assert list(made.token.scopes) == [scope]
        metadata = bearer(made.secret)
        for method, request in (
            (stub.CreateToken, pb.CreateTokenRequest()),
            (stub.ListTokens, pb.ListTokensRequest()),
            (stub.RevokeToken, pb.RevokeTokenRequest(name=made.token.name)),
            (stub.SetPassword, pb.SetPasswordRequest(new_password=GOOD)),
            (stub.CreateUser, pb.CreateUserRequest(user_id="x")),
            (stub.ListUsers, pb.ListUsersRequest()),
            (stub.ListAuditEvents, pb.ListAuditEventsRequest()),
        ):
            with pytest.raises(PermissionDenied) as caught:
                await method(request, metadata=metadata)
            assert caught.value.reason == "OUT_OF_SCOPE"
    made = await stub.CreateToken(pb.CreateTokenRequest(token=pb.Token(scopes=["admin"])))
    await stub.ListUsers(pb.ListUsersRequest(), metadata=bearer(made.secret))


async def test_monai_label_clients_sign_in_with_a_password_too(web, ann, password):
    form = {"username": "ann", "password": GOOD, "grant_type": "password"}
    answer = await web.post("/monailabel/p/auth/token", data=form)
    assert answer.json()["token_type"] == "Bearer"
    header = {"authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await web.get("/auth/self", headers=header)).json()["userId"] == "ann"
    wrong = await web.post("/monailabel/p/auth/token", data={**form, "password": "wrong password"})
    assert (wrong.status_code, wrong.json()["reason"]) == (401, "BAD_LOGIN")
    assert "API token" in wrong.json()["message"]


async def test_passwords_may_be_switched_off(upstreams, make_settings, tmp_path):
    settings = make_settings(upstreams.addresses, password_sign_in="off")
    async with (
        open_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as web,
    ):
        assert (await web.get("/auth/methods")).json()["password"] is False
        answer = await web.post("/auth/login", json={"user": "admin", "password": GOOD})
        assert (answer.status_code, answer.json()["reason"]) == (409, "PASSWORDS_OFF")
        token = (tmp_path / "admin-token").read_text().strip()
        assert (await web.post("/auth/login", json={"token": token})).status_code == 204


async def test_behind_tls_the_cookie_is_for_tls_alone(upstreams, make_settings, tmp_path):
    settings = make_settings(upstreams.addresses, public_url="https://biosegment.lab.org")
    async with (
        open_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as web,
    ):
        token = (tmp_path / "admin-token").read_text().strip()
        # As the proxy passes the request of a browser on.
        headers = {"host": "biosegment.lab.org", "origin": "https://biosegment.lab.org"}
        answer = await web.post("/auth/login", json={"token": token}, headers=headers)
        assert "; secure" in answer.headers["set-cookie"].lower()
