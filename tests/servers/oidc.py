"""A real OpenID Connect provider, npm's `oidc-provider`, and a person with a browser who signs in there."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

FOLDER: Final = Path(__file__).parent.parent / "system" / "oidc"
PAGE_URL: Final = "http://biosegment.test"
"""As browsers know the gateway."""

_FORM: Final = re.compile(r'<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
_HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)"')


@dataclass(frozen=True, slots=True)
class OidcServer:
    """A running provider; `key` is its own, so that tests can sign what it never would."""

    issuer: str
    key: rsa.RSAPrivateKey

    def token(self, **claims: Any) -> str:
        """What the provider might sign for Ann and the platform; claims that are None are left out."""
        now = int(time.time())
        content = {
            "iss": self.issuer,
            "aud": "biosegment-api",
            "sub": "ann",
            "preferred_username": "ann",
            "iat": now,
            "exp": now + 300,
            **claims,
        }
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, self.key, algorithm="RS256", headers={"kid": "lab", "typ": "at+jwt"})


@contextmanager
def oidc_server(access_token_s: int) -> Iterator[OidcServer]:
    """A provider with the clients of `oidc/provider.js`, whose access tokens last for some seconds."""
    if shutil.which("node") is None or not (FOLDER / "node_modules").is_dir():
        hint = "no oidc-provider: run scripts/npm-packages.sh"
        if os.geteuid() == 0:
            pytest.fail(hint)  # root can install it, so that a skip here would hide a hole in the run
        pytest.skip(hint)
    key = rsa.generate_private_key(65537, 2048)
    described = {**json.loads(RSAAlgorithm.to_jwk(key)), "kid": "lab", "use": "sig", "alg": "RS256"}
    settings = {
        "keys": [described],
        "redirectUri": f"{PAGE_URL}/auth/oidc/callback",
        "accessTokenSeconds": access_token_s,
    }
    process = subprocess.Popen(
        ["node", "provider.js"],
        cwd=FOLDER,
        env={**os.environ, "TEST_PROVIDER": json.dumps(settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        # What it warns of comes on the same way.
        lines = (line for line in process.stdout if line.startswith("{"))
        yield OidcServer(json.loads(next(lines))["issuer"], key)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class Person:
    """Somebody with a browser of their own, who signs in at the provider by that name and agrees to everything.

    Args:
        name: What they type.
        gateway: host:port of the HTTP port that `PAGE_URL` stands for.
    """

    def __init__(self, name: str, gateway: str) -> None:
        self.name = name
        self.browser = httpx.Client(mounts={PAGE_URL: _Gateway(gateway)}, timeout=30)

    def open(self, url: str) -> httpx.Response:
        """Open an address, follow and fill in what comes, and return the page on which nothing is left to do."""
        page = self.browser.get(url, headers={"accept": "text/html"}, follow_redirects=True)
        for _ in range(10):
            form = _FORM.search(page.text)
            if form is None:
                return page
            fields = {name: html.unescape(value) for name, value in _HIDDEN.findall(form[2])}
            if 'name="login"' in form[2]:
                fields |= {"login": self.name, "password": "anything"}
            target = page.url.join(html.unescape(form[1]))
            page = self.browser.post(
                target, data=fields, headers={"accept": "text/html"}, follow_redirects=True
            )
        raise AssertionError(f"too many forms: {page.url}")

    def close(self) -> None:
        self.browser.close()


class _Gateway(httpx.HTTPTransport):
    """Requests to `PAGE_URL`, with that name in them, go to the gateway's port."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # A request of its own: cookies are kept for the name that the browser knows.
        url = request.url.copy_with(host=self._host, port=self._port)
        return super().handle_request(
            httpx.Request(
                request.method,
                url,
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )
