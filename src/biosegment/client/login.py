"""Signing in from a program: with a password, or at the lab's identity provider by the device flow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

from biosegment.client import http_call
from biosegment.client.kept_sign_in import SignIn, expiry
from biosegment.errors import (
    BY_GRPC_CODE,
    BiosegmentError,
    FailedPrecondition,
    Unauthenticated,
    Unavailable,
)

_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_COOKIE: Final = "biosegment_session"


@dataclass(frozen=True, slots=True)
class Methods:
    """How one can sign in at a platform.

    Attributes:
        http_url: Where that was asked.
        address: Its gRPC port, as far as the platform knows it.
        password: With user id and password.
        device: Issuer, client id and scopes of the device flow; None when there is none.
    """

    http_url: str
    address: str
    password: bool
    device: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person has to do: open `url` and see, or type, `code`; `complete_url` has the code in it, or is ''."""

    url: str
    code: str
    complete_url: str


def ask_methods(http_url: str) -> Methods:
    """Ask a platform, by the address of its page, how one can sign in.

    Raises:
        Unavailable: SERVICE_UNAVAILABLE.
        FailedPrecondition: NO_PLATFORM when something else answers.
    """
    http_url = http_url.rstrip("/")
    answer = http_call.request("GET", f"{http_url}/auth/methods")
    if answer.status != 200 or "password" not in answer.body:
        raise FailedPrecondition(
            "NO_PLATFORM", f"{http_url} is not the page of a platform (HTTP {answer.status})"
        )
    oidc: Any = answer.body.get("oidc") or {}
    page = urlsplit(http_url)
    host = f"[{page.hostname}]" if ":" in (page.hostname or "") else page.hostname
    # Where the page is encrypted, so is the other port.
    scheme = "https://" if page.scheme == "https" else ""
    return Methods(
        http_url,
        f"{scheme}{host}:{answer.body.get('grpcPort', 0)}",
        bool(answer.body["password"]),
        oidc.get("device"),
    )


def with_password(methods: Methods, user: str, password: str) -> SignIn:
    """Sign in with a password; Unauthenticated BAD_LOGIN, ResourceExhausted TOO_MANY_TRIES, as the platform says."""
    answer = http_call.request(
        "POST", f"{methods.http_url}/auth/login", value={"user": user, "password": password}
    )
    if answer.status != 204:
        raise _error(answer)
    cookie: SimpleCookie = SimpleCookie()
    for line in answer.cookies:
        try:
            cookie.load(line)
        except CookieError as error:
            raise FailedPrecondition("NO_PLATFORM", "the platform's answer has no session") from error
    return _who(methods, SignIn(methods.address, methods.http_url, user, cookie[_COOKIE].value))


def with_device(methods: Methods, say: Callable[[Prompt], None]) -> SignIn:
    """Sign in at the identity provider: `say` tells a person where; returns when they have done it.

    Raises:
        FailedPrecondition: NO_DEVICE_FLOW.
        Unauthenticated: SIGN_IN_REFUSED, SIGN_IN_TOO_SLOW; what the platform says of the tokens.
        Unavailable: When the provider does not answer.
    """
    if methods.device is None:
        raise FailedPrecondition(
            "NO_DEVICE_FLOW", f"{methods.http_url} has no sign-in for programs by a browser"
        )
    device = methods.device
    provider = _discover(device["issuer"])
    form = {"client_id": device["clientId"], "scope": device["scopes"]}
    begun = http_call.request("POST", provider.text("device_authorization_endpoint"), form=form)
    if begun.status != 200:
        raise _refused(begun)
    say(
        Prompt(
            begun.text("verification_uri"), begun.text("user_code"), begun.text("verification_uri_complete")
        )
    )
    tokens = _poll(provider.text("token_endpoint"), device["clientId"], begun)
    sign_in = SignIn(
        methods.address,
        methods.http_url,
        "",
        "",
        0.0,
        tokens.text("refresh_token"),
        provider.text("token_endpoint"),
        provider.text("revocation_endpoint"),
        device["clientId"],
    )
    return _accepted(methods, sign_in, tokens)


def moved(sign_in: SignIn, address: str) -> SignIn:
    """The same sign-in for a gRPC port that is elsewhere."""
    return replace(sign_in, address=address)


def sign_out(sign_in: SignIn) -> None:
    """End a session at the platform, or have the provider forget the refresh token, if it can."""
    if sign_in.refresh_token:
        if sign_in.revoke_url:
            form = {
                "token": sign_in.refresh_token,
                "token_type_hint": "refresh_token",
                "client_id": sign_in.client_id,
            }
            http_call.request("POST", sign_in.revoke_url, form=form)
        return
    http_call.request("POST", f"{sign_in.http_url}/auth/logout", token=sign_in.token)


def _discover(issuer: str) -> http_call.Answer:
    provider = http_call.request("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
    if not provider.text("device_authorization_endpoint") or not provider.text("token_endpoint"):
        raise FailedPrecondition("NO_DEVICE_FLOW", f"the identity provider {issuer} has no device flow")
    return provider


def _poll(token_url: str, client_id: str, begun: http_call.Answer) -> http_call.Answer:
    interval_s = float(begun.body.get("interval", 5))
    deadline = time.monotonic() + float(begun.body.get("expires_in", 600))
    form = {"grant_type": _DEVICE_GRANT, "device_code": begun.text("device_code"), "client_id": client_id}
    while time.monotonic() < deadline:
        time.sleep(interval_s)
        try:
            answer = http_call.request("POST", token_url, form=form)
        except Unavailable:
            continue  # the person is still at it
        if answer.status == 200:
            return answer
        error = answer.text("error")
        if error == "slow_down":
            interval_s += 5.0
        elif error != "authorization_pending" and answer.status < 500:
            raise _refused(answer)
    raise Unauthenticated("SIGN_IN_TOO_SLOW", "nobody signed in in time; begin again")


def _accepted(methods: Methods, sign_in: SignIn, tokens: http_call.Answer) -> SignIn:
    """The sign-in with the token that the platform takes; an access token may be meant for others alone."""
    refusal: BiosegmentError | None = None
    for kind in ("access_token", "id_token"):
        token = tokens.text(kind)
        if token.count(".") != 2:
            continue
        try:
            expire_time = expiry(tokens.body, kind)
            return _who(methods, replace(sign_in, token=token, token_kind=kind, expire_time=expire_time))
        except Unauthenticated as error:
            refusal = error
    raise refusal or Unauthenticated(
        "SIGN_IN_REFUSED",
        "the identity provider gives no token that the platform could check; ask an administrator",
    )


def _who(methods: Methods, sign_in: SignIn) -> SignIn:
    answer = http_call.request("GET", f"{methods.http_url}/auth/self", token=sign_in.token)
    if answer.status != 200:
        raise _error(answer)
    return replace(sign_in, user=answer.text("userId"))


def _error(answer: http_call.Answer) -> BiosegmentError:
    kind = BY_GRPC_CODE.get(answer.text("code"), Unavailable)
    return kind(
        answer.text("reason") or "UNEXPECTED_ANSWER",
        answer.text("message") or f"the platform answers HTTP {answer.status}",
    )


def _refused(answer: http_call.Answer) -> Unauthenticated:
    said = f"{answer.text('error') or answer.status} {answer.text('error_description')}".strip()
    return Unauthenticated("SIGN_IN_REFUSED", f"the identity provider refuses: {said[:300]}")
