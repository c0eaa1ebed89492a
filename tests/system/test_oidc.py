"""Signing in at a real provider of OpenID Connect: by the page, by the command line, and with its tokens."""

from __future__ import annotations

import html
import json
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from biosegment.client import Client, Connection, connect
from biosegment.client.connection import connection_file
from biosegment.errors import FailedPrecondition, Unauthenticated
from tests.servers.oidc import PAGE_URL, OidcServer, Person, oidc_server
from tests.system.platform import Platform, running
from tests.system.program import Program

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ACCESS_TOKEN_S = 4
COOKIE = "biosegment_session"
PREFIX = "BIOSEGMENT_GATEWAY__OIDC_"


@dataclass
class Scene:
    """A platform whose people sign in at a provider."""

    provider: OidcServer
    platform: Platform
    people: list[Person] = field(default_factory=list)

    @property
    def http(self) -> str:
        return str(json.loads(connection_file(self.platform.data_dir).read_text())["http"])

    @property
    def grpc(self) -> str:
        return str(json.loads(connection_file(self.platform.data_dir).read_text())["grpc"])

    def person(self, name: str) -> Person:
        self.people.append(Person(name, urlsplit(self.http).netloc))
        return self.people[-1]

    def program(self, folder: Path, name: str) -> Program:
        return Program(self.http, self.person(name), folder)

    def ask(self, method: str, path: str, token: str = "", **how: Any) -> httpx.Response:
        """A program's request."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.request(method, self.http + path, headers=headers, timeout=30, **how)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("oidc")
    secret = folder / "client-secret"
    secret.write_text("a secret: with/odd characters\n")
    with oidc_server(ACCESS_TOKEN_S) as provider:
        environment = {
            f"{PREFIX}ISSUER": provider.issuer,
            f"{PREFIX}NAME": "the test lab",
            f"{PREFIX}CLIENT_ID": "biosegment-page",
            f"{PREFIX}CLIENT_SECRET_FILE": str(secret),
            f"{PREFIX}DEVICE_CLIENT_ID": "biosegment-cli",
            f"{PREFIX}AUDIENCE": "biosegment-api",
            f"{PREFIX}SCOPES": "openid profile groups",
            f"{PREFIX}DEVICE_SCOPES": "openid profile groups offline_access",
            f"{PREFIX}ADMIN_CLAIM": "groups",
            f"{PREFIX}ADMIN_VALUE": "lab-admins",
            f"{PREFIX}PASSWORD_GRANT": "true",
            "BIOSEGMENT_GATEWAY__PUBLIC_URL": PAGE_URL,
        }
        with running(folder, import_root=folder, environment=environment) as platform:
            found = Scene(provider, platform)
            yield found
            for person in found.people:
                person.close()


def page_sign_in(person: Person, return_to: str = "/") -> httpx.Response:
    """Sign in at the page and go where it sends the browser."""
    page = person.open(f"{PAGE_URL}/auth/oidc/login?return_to={return_to}")
    assert page.status_code == 200, page.text
    target = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', page.text)
    assert target is not None, page.text
    return person.browser.get(PAGE_URL + html.unescape(target[1]))


def test_the_page_offers_the_provider(scene: Scene) -> None:
    methods = scene.ask("GET", "/auth/methods").json()
    assert (methods["password"], methods["oidc"]["name"]) == (True, "the test lab")
    assert methods["oidc"]["device"]["clientId"] == "biosegment-cli"


def test_a_person_signs_in_at_the_page_and_comes_back_to_where_they_were(scene: Scene) -> None:
    ann = scene.person("ann")
    answer = page_sign_in(ann, "/auth/self?from=somewhere")
    assert answer.json() == {"userId": "ann", "displayName": "Dr ann", "isAdmin": False}
    assert str(answer.url) == f"{PAGE_URL}/auth/self?from=somewhere"
    assert "biosegment_oidc" not in ann.browser.cookies
    ann.browser.post(f"{PAGE_URL}/auth/logout", headers={"origin": PAGE_URL})
    assert ann.browser.get(f"{PAGE_URL}/auth/self").status_code == 401


def test_the_group_makes_administrators(scene: Scene) -> None:
    assert page_sign_in(scene.person("root"), "/auth/self").json()["isAdmin"] is True


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "https://evil.example", "evil", "/\\evil.example", "/\tx", "", "/" + "x" * 3000],
)  # fmt: skip
def test_nobody_is_sent_elsewhere_after_signing_in(scene: Scene, path: str) -> None:
    answer = scene.ask("GET", "/auth/oidc/login", params={"return_to": path})
    assert (answer.status_code, answer.json()["reason"]) == (400, "BAD_RETURN_TO")


def test_a_sign_in_is_completed_only_by_the_browser_that_began_it_and_once(scene: Scene) -> None:
    eve, ann = scene.person("eve"), scene.person("ann")
    begun = eve.browser.get(f"{PAGE_URL}/auth/oidc/login")
    query = parse_qs(urlsplit(begun.headers["location"]).query)
    assert (query["code_challenge_method"], query["response_type"]) == (["S256"], ["code"])
    assert len(query["code_challenge"][0]) == 43
    assert query["nonce"][0] != query["state"][0]
    # Eve keeps her answer for Ann: signed in as Eve, Ann would work for her.
    eves = eve.browser.get(begun.headers["location"], follow_redirects=False)
    callbacks = []
    eve.browser.event_hooks["request"].append(
        lambda request: (
            callbacks.append(str(request.url)) if "/auth/oidc/callback" in request.url.path else None
        )
    )
    eve.open(str(begun.headers["location"]))
    assert eves.status_code in (302, 303)
    (callback,) = callbacks
    answer = ann.browser.get(callback)
    assert (answer.status_code, answer.json()["reason"]) == (401, "BAD_STATE")
    assert COOKIE not in ann.browser.cookies
    # The provider's code works once; the cookie of the sign-in is gone by then anyway.
    assert eve.browser.get(callback).json()["reason"] == "BAD_STATE"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "BAD_STATE"),
        ("state=x&code=y", "BAD_STATE"),
        ("error=access_denied&error_description=no%20thanks", "PROVIDER_REFUSED"),
    ],
)
def test_a_callback_that_belongs_to_nothing_is_refused(scene: Scene, query: str, reason: str) -> None:
    answer = scene.ask("GET", f"/auth/oidc/callback?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)
    person = scene.person("ann")
    page = person.browser.get(f"{PAGE_URL}/auth/oidc/callback?{query}", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (401, "text/html")
    assert "<script" not in page.text


def test_a_forged_cookie_or_code_is_refused(scene: Scene) -> None:
    person = scene.person("ann")
    begun = person.browser.get(f"{PAGE_URL}/auth/oidc/login")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    forged = person.browser.get(f"{PAGE_URL}/auth/oidc/callback", params={"state": state, "code": "made-up"})
    assert (forged.status_code, forged.json()["reason"]) == (401, "PROVIDER_REFUSED")
    cookie = person.browser.cookies["biosegment_oidc"]
    for wrong in (cookie[:-1] + ("A" if cookie[-1] != "A" else "B"), "x", cookie.partition(".")[0]):
        answer = scene.ask(
            "GET",
            "/auth/oidc/callback",
            params={"state": state, "code": "x"},
            cookies={"biosegment_oidc": wrong},
        )
        assert answer.json()["reason"] == "BAD_STATE"


def test_tokens_of_the_provider_are_taken_on_both_ports_and_others_on_none(scene: Scene) -> None:
    provider = scene.provider
    genuine = provider.token()
    assert scene.ask("GET", "/auth/self", genuine).json()["userId"] == "ann"
    assert _self(scene, genuine) == "users/ann"
    now = int(time.time())
    other = rsa.generate_private_key(65537, 2048)
    claims = jwt.decode(genuine, options={"verify_signature": False})
    header = {"kid": "lab", "typ": "at+jwt"}
    refused = {
        "expired": provider.token(exp=now - 31),
        "not yet": provider.token(nbf=now + 120),
        "another key": jwt.encode(claims, other, algorithm="RS256", headers=header),
        "another audience": provider.token(aud="another-program"),
        "another issuer": provider.token(iss="http://127.0.0.1:1"),
        "alg none": jwt.encode(claims, None, algorithm="none", headers=header),
        "a secret": jwt.encode(claims, "x" * 64, algorithm="HS256", headers=header),
        "no end": provider.token(exp=None),
    }
    for name, token in refused.items():
        answer = scene.ask("GET", "/auth/self", token)
        expected = "TOKEN_EXPIRED" if name == "expired" else "BAD_TOKEN"
        assert (answer.status_code, answer.json()["reason"]) == (401, expected), name
        with pytest.raises(Unauthenticated) as caught:
            _self(scene, token)
        assert caught.value.reason == expected, name


def _self(scene: Scene, token: str) -> str:
    with Client(Connection(scene.grpc, token)) as client:
        return client.platform.self().name


def test_a_program_signs_in_by_a_browser_works_stays_signed_in_and_signs_out(
    scene: Scene, tmp_path: Path
) -> None:
    cleo = scene.program(tmp_path, "cleo")
    assert cleo.log_in() == {"user": "cleo", "address": scene.grpc, "http_url": scene.http}
    assert stat.S_IMODE(cleo.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cleo.config.stat().st_mode) == 0o700
    cleo.run("project", "create", "cells", "--class", "mitochondria")
    first = cleo.kept
    assert first["expire_time"] < time.time() + ACCESS_TOKEN_S
    # Every call from here on finds a token that has ended, or is about to.
    for _ in range(2):
        assert "cells" in cleo.run("project", "list").stdout
    second = cleo.kept
    assert second["token"] != first["token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert scene.ask("POST", "/api/DatastoreService/ListProjects", second["token"]).status_code == 200
    cleo.run("logout")
    assert json.loads(cleo.file.read_text()) == {"current": "", "sign_ins": {}}
    form = {
        "grant_type": "refresh_token",
        "refresh_token": second["refresh_token"],
        "client_id": "biosegment-cli",
    }
    refused = httpx.post(f"{scene.provider.issuer}/token", data=form)
    assert refused.json()["error"] == "invalid_grant"
    assert "biosegment login" in cleo.run("project", "list", expect=1).stderr


def test_a_role_is_a_role_whoever_vouches_for_the_user(scene: Scene, tmp_path: Path) -> None:
    dora, fred = scene.program(tmp_path, "dora"), scene.program(tmp_path, "fred")
    dora.log_in()
    dora.run("project", "create", "tissue", "--class", "membrane")
    fred.log_in()
    assert "tissue" not in fred.run("project", "list").stdout
    dora.run("project", "add-member", "tissue", "fred", "--role", "viewer")
    assert "tissue" in fred.run("project", "list").stdout
    assert "may not" in fred.run("train", "--project", "tissue", "--no-wait", expect=1).stderr
    token = scene.provider.token(sub="fred", preferred_username="fred")
    refused = scene.ask(
        "POST", "/api/DatastoreService/DeleteProject", token, json={"name": "projects/tissue"}
    )
    assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_ALLOWED")
    seen = scene.ask("POST", "/api/DatastoreService/GetProject", token, json={"name": "projects/tissue"})
    assert seen.json()["project"]["name"] == "projects/tissue"


def test_the_sdk_picks_the_kept_sign_in_up(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gina = scene.program(tmp_path, "gina")
    gina.log_in()
    for name in ("BIOSEGMENT_ADDRESS", "BIOSEGMENT_TOKEN", "BIOSEGMENT_HTTP_URL", "BIOSEGMENT_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BIOSEGMENT_CONFIG", str(gina.config))
    with connect() as client:
        assert client.platform.self().name == "users/gina"
    with connect(scene.grpc) as client:
        assert client.platform.self().name == "users/gina"


def test_a_local_password_does_for_the_command_line_too(scene: Scene, tmp_path: Path) -> None:
    with scene.platform.connect() as admin:
        admin.platform.create_user("local")
        admin.platform.set_password("correct horse battery", user_id="local")
    program = scene.program(tmp_path, "nobody-in-particular")
    login = ("login", "--address", scene.http, "--user", "local", "--password-stdin")
    assert "do not belong together" in program.run(*login, typed="wrong password\n", expect=1).stderr
    assert "signed in" in program.run(*login, typed="correct horse battery\n").stdout
    assert "no projects" in program.run("project", "list").stderr
    session = program.kept["token"]
    program.run("user", "password", "--stdin", typed="correct horse battery\nan entirely new one\n")
    assert "is over" in program.run("project", "list", expect=1).stderr
    program.run(*login, typed="an entirely new one\n")
    assert program.kept["token"] != session
    session = program.kept["token"]
    program.run("logout")
    assert scene.ask("GET", "/auth/self", session).json()["reason"] == "SESSION_OVER"


def test_monai_label_clients_sign_in_with_the_password_of_the_provider(scene: Scene) -> None:
    with scene.platform.connect() as admin:
        admin.platform.create_user("home")
        admin.platform.set_password("correct horse battery", user_id="home")
        token = admin.platform.create_token(user_id="home").secret

    def sign_in(user: str, password: str) -> httpx.Response:
        form = {"username": user, "password": password, "grant_type": "password"}
        return scene.ask("POST", "/monailabel/cells/auth/token", data=form)

    taken = {"hilde": "the provider's password", "home": "correct horse battery"}
    for user, password in (*taken.items(), ("home", token)):
        carried = sign_in(user, password).json()["access_token"]
        assert scene.ask("GET", "/auth/self", carried).json()["userId"] == user
    for user, password, reason in (
        ("hilde", "wrong", "PROVIDER_REFUSED"),
        ("home", "the provider's password", "BAD_LOGIN"),
        ("hilde", token, "BAD_LOGIN"),
    ):
        answer = sign_in(user, password)
        assert (answer.status_code, answer.json()["reason"]) == (401, reason)


def test_an_administrator_handles_users_and_limited_tokens_from_the_command_line(
    scene: Scene, tmp_path: Path
) -> None:
    program = scene.program(tmp_path, "administrator")
    program.environment["BIOSEGMENT_DATA"] = str(scene.platform.data_dir)
    program.run("user", "create", "ines", "--name", "Ines")
    made = program.run(
        "token", "create", "--user", "ines", "--scope", "read", "--scope", "annotate:projects/cells",
        "--expires", "2099-01-01T00:00Z", "--json",
    )  # fmt: skip
    token = json.loads(made.stdout)
    assert (token["scopes"], token["expire_time"][:4]) == (["read", "annotate:projects/cells"], "2099")
    assert scene.ask("GET", "/auth/self", token["secret"]).json()["userId"] == "ines"
    assert json.loads(program.run("user", "disable", "ines", "--json").stdout)["disabled"] is True
    assert scene.ask("GET", "/auth/self", token["secret"]).json()["reason"] == "USER_DISABLED"
    assert json.loads(program.run("user", "enable", "ines", "--json").stdout)["disabled"] is False
    assert "BAD_SCOPE" in program.run("token", "create", "--scope", "write", "--json", expect=1).stderr


def test_nobody_takes_a_local_name_at_the_provider(scene: Scene) -> None:
    with scene.platform.connect() as admin:
        admin.platform.create_user("pat")
        admin.platform.set_password("correct horse battery", user_id="pat")
    for name in ("admin", "pat"):
        token = scene.provider.token(sub=f"not-{name}", preferred_username=name)
        answer = scene.ask("GET", "/auth/self", token)
        assert (answer.status_code, answer.json()["reason"]) == (403, "USER_ID_TAKEN")
        page = scene.person(name).open(f"{PAGE_URL}/auth/oidc/login")
        assert (page.status_code, "administrator" in page.text) == (403, True)


def test_a_disabled_user_is_refused_whatever_the_provider_says(scene: Scene) -> None:
    token = scene.provider.token(sub="gone", preferred_username="gone")
    assert _self(scene, token) == "users/gone"
    with scene.platform.connect() as admin:
        assert admin.platform.update_user("gone", disabled=True).disabled
        with pytest.raises(Unauthenticated) as caught:
            _self(scene, token)
        assert caught.value.reason == "USER_DISABLED"
        page = scene.person("gone").open(f"{PAGE_URL}/auth/oidc/login")
        assert page.status_code == 401
        with pytest.raises(FailedPrecondition) as refused:
            admin.platform.set_password("correct horse battery", user_id="gone")
        assert refused.value.reason == "PROVIDER_USER"
