"""An identity provider's discovery document and keys over HTTP, and tokens that it might sign."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

CLIENT = "biosegment"


@functools.cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """Another key for each number, made once: that takes a while."""
    return rsa.generate_private_key(65537, 2048)


class IdentityProvider:
    """Serves what it is told to; `asked` counts requests by path."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.issuer = f"http://127.0.0.1:{server.server_port}"
        self.keys: dict[str, Any] = {}
        self.document = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_endpoint": f"{self.issuer}/authorize?kind=lab",
            "token_endpoint": f"{self.issuer}/token",
        }
        self.asked: dict[str, int] = {}
        self.is_away = False
        self.add_key("first", rsa_key(0), RSAAlgorithm, "RS256")

    def add_key(self, key_id: str, key: Any, algorithm: Any, name: str) -> None:
        self.keys[key_id] = (key, algorithm, name)

    def add_all_kinds(self) -> None:
        self.add_key("curve", ec.generate_private_key(ec.SECP256R1()), ECAlgorithm, "ES256")
        self.add_key("edwards", ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm, "EdDSA")

    def answer(self, path: str) -> tuple[int, Any]:
        self.asked[path] = self.asked.get(path, 0) + 1
        if self.is_away:
            return 503, {}
        if path == "/.well-known/openid-configuration":
            return 200, self.document
        if path == "/jwks":
            described = [
                {**json.loads(algorithm.to_jwk(key.public_key())), "kid": key_id, "alg": name, "use": "sig"}
                for key_id, (key, algorithm, name) in self.keys.items()
            ]
            return 200, {"keys": [{"kty": "of the future", "kid": "x"}, *described]}
        return 404, {}

    def token(self, key_id: str = "first", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for us that is good for five minutes; claims that are None are left out."""
        key, _, algorithm = self.keys[key_id]
        now = int(time.time())
        content = {"iss": self.issuer, "aud": CLIENT, "sub": "u-1", "iat": now, "exp": now + 300, **claims}
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key, algorithm=algorithm, headers={"kid": key_id, **(header or {})})


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = provider.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider = IdentityProvider(server)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
