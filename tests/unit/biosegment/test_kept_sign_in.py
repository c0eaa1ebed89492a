from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest

from biosegment.client.connection import connection_file, find_connection
from biosegment.client.kept_sign_in import KeptToken, SignIn, SignInFile, expiry
from biosegment.errors import FailedPrecondition, Unauthenticated, Unavailable


class TokenEndpoint:
    """Gives the next token for the present refresh token, once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.count = 0
        self.is_away = False
        self.went = threading.Event()

    def answer(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if self.is_away:
            return 503, {}
        if form.get("refresh_token") != [f"refresh-{self.count}"] or form.get("client_id") != ["cli"]:
            return 400, {"error": "invalid_grant"}
        self.count += 1
        return 200, {
            "access_token": f"token-{self.count}",
            "refresh_token": f"refresh-{self.count}",
            "expires_in": 300,
        }


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            status, body = found.answer(parse_qs(self.rfile.read(length).decode()))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            found.went.set()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = TokenEndpoint(f"http://127.0.0.1:{server.server_port}/token")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> SignInFile:
    return SignInFile(tmp_path / "config" / "sign-in.json")


def sign_in(endpoint: TokenEndpoint | None = None, ends_in_s: float = 0.0, address: str = "lab:1") -> SignIn:
    if endpoint is None:
        return SignIn(address, "http://lab", "ann", "bss_x")
    return SignIn(
        address, "http://lab", "ann", "token-0", time.time() + ends_in_s, "refresh-0", endpoint.url, "", "cli"
    )


def test_sign_ins_are_kept_for_their_owner_alone(file: SignInFile) -> None:
    file.put(sign_in())
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert {path.suffix for path in file.path.parent.iterdir()} == {".json", ".lock"}


def test_the_last_sign_in_is_meant_unless_an_address_is_said(file: SignInFile) -> None:
    file.put(sign_in(address="a:1"))
    file.put(sign_in(address="b:1"))
    found = file.find(), file.find("a:1"), file.find("c:1")
    assert [each.address if each else None for each in found] == ["b:1", "a:1", None]
    file.remove("b:1")
    file.remove("b:1")
    rest = file.find()
    assert rest is not None
    assert rest.address == "a:1"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"current": "", "sign_ins": {"lab:1": {"x": 1}}}', "\x00"]
)
def test_a_broken_file_is_named(file: SignInFile, content: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(content)
    with pytest.raises(FailedPrecondition, match=r"sign-in\.json"):
        file.find("lab:1")


def test_a_session_is_used_as_it_is(file: SignInFile) -> None:
    assert KeptToken(sign_in(), file)() == "bss_x"


def test_a_token_that_has_ended_is_renewed_and_kept(file: SignInFile, endpoint: TokenEndpoint) -> None:
    old = sign_in(endpoint, ends_in_s=-10)
    file.put(old)
    token = KeptToken(old, file)
    assert (token(), token()) == ("token-1", "token-1")
    kept = file.find()
    assert kept is not None
    assert (kept.token, kept.refresh_token, kept.user) == ("token-1", "refresh-1", "ann")
    assert 250 < kept.expire_time - time.time() <= 300


def test_a_token_that_ends_soon_is_renewed_while_calls_go_on(
    file: SignInFile, endpoint: TokenEndpoint
) -> None:
    old = sign_in(endpoint, ends_in_s=30)
    file.put(old)
    token = KeptToken(old, file)
    assert token() == "token-0"
    assert endpoint.went.wait(10)
    deadline = time.monotonic() + 10
    while token() == "token-0":
        assert time.monotonic() < deadline
    assert token() == "token-1"
    assert endpoint.count == 1


def test_many_programs_and_threads_renew_once(file: SignInFile, endpoint: TokenEndpoint) -> None:
    old = sign_in(endpoint, ends_in_s=-10)
    file.put(old)
    programs = [KeptToken(old, SignInFile(file.path)) for _ in range(4)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda each=each: found.append(each())) for each in programs * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, endpoint.count) == (["token-1"] * 8, 1)


def test_who_must_sign_in_again_is_told_so(file: SignInFile, endpoint: TokenEndpoint) -> None:
    old = sign_in(endpoint, ends_in_s=-10)
    file.put(old)
    endpoint.count = 7
    with pytest.raises(Unauthenticated, match="biosegment login --address http://lab"):
        KeptToken(old, file)()


def test_a_provider_that_is_away_is_no_matter_until_the_token_ends(
    file: SignInFile, endpoint: TokenEndpoint
) -> None:
    endpoint.is_away = True
    soon = KeptToken(sign_in(endpoint, ends_in_s=30), file)
    assert soon() == "token-0"
    assert endpoint.went.wait(10)
    assert soon() == "token-0"
    with pytest.raises(Unavailable):
        KeptToken(sign_in(endpoint, ends_in_s=-10), file)()


def test_the_end_of_a_token_is_known_by_the_clock_here() -> None:
    there = int(time.time()) + 5000  # its clock is wrong
    id_token = jwt.encode({"iat": there, "exp": there + 600}, "x" * 32)
    body = {"access_token": "a.b.c", "id_token": id_token, "expires_in": 60}
    assert 50 < expiry(body, "access_token") - time.time() <= 60
    assert 590 < expiry(body, "id_token") - time.time() <= 600
    assert expiry({"access_token": "a"}, "access_token") == 0.0
    assert expiry({"id_token": "junk", "expires_in": 60}, "id_token") == 0.0


def test_a_kept_sign_in_is_found_but_what_is_said_counts_more(
    file: SignInFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BIOSEGMENT_ADDRESS", "BIOSEGMENT_TOKEN", "BIOSEGMENT_HTTP_URL", "BIOSEGMENT_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BIOSEGMENT_CONFIG", str(file.path.parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    file.put(sign_in())
    found = find_connection()
    assert (found.address, found.http_url, found.credentials()) == ("lab:1", "http://lab", "bss_x")
    assert find_connection("lab:1").token == "bss_x"
    assert find_connection("other:1", "bsg_y").token == "bsg_y"
    assert find_connection(token="bsg_y", address="lab:1").credentials() == "bsg_y"
    folder = tmp_path / "data"
    path = connection_file(folder)
    path.parent.mkdir(parents=True)
    (folder / "token").write_text("bsg_z")
    path.write_text(json.dumps({"grpc": "here:1", "http": "http://x", "token_file": str(folder / "token")}))
    assert find_connection(data_dir=folder).credentials() == "bsg_z"
    monkeypatch.setenv("BIOSEGMENT_DATA", str(folder))
    assert find_connection().address == "here:1"
    monkeypatch.setenv("BIOSEGMENT_TOKEN", "bsg_w")
    monkeypatch.setenv("BIOSEGMENT_ADDRESS", "there:1")
    assert (find_connection().address, find_connection().token) == ("there:1", "bsg_w")
