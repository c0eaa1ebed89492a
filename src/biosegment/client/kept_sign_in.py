"""Sign-ins that `biosegment login` keeps for later: one per platform, in a file that only its owner can read."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import jwt

from biosegment.client import http_call
from biosegment.errors import BiosegmentError, FailedPrecondition, Unauthenticated, Unavailable

if sys.platform != "win32":
    import fcntl

_RENEW_BEFORE_S: Final = 60.0
_LATEST_S: Final = 5.0
_RETRY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who one is at a platform.

    Attributes:
        address: host:port of its gRPC port.
        http_url: Base URL of its HTTP port.
        user: User id there.
        token: What calls carry.
        expire_time: Of the token, in seconds since 1970; 0 when only the platform knows.
        refresh_token: With which the identity provider gives the next token; '' for none.
        token_url: Where it does.
        revoke_url: Where it forgets one; '' when it cannot.
        client_id: Who we are there.
        token_kind: Which of the tokens that it gives is the one to carry: `access_token` or `id_token`.
    """

    address: str
    http_url: str
    user: str
    token: str
    expire_time: float = 0.0
    refresh_token: str = ""
    token_url: str = ""
    revoke_url: str = ""
    client_id: str = ""
    token_kind: str = "access_token"


class SignInFile:
    """The file: sign-ins by gRPC address, and which one is meant when none is said."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _default_path()

    def find(self, address: str = "") -> SignIn | None:
        """The sign-in at `address`, or the last one when that is ''; None when there is none."""
        content = self._read()
        found = content["sign_ins"].get(address or content["current"])
        try:
            return SignIn(**found) if found is not None else None
        except TypeError as error:
            raise self._broken(error) from error

    def put(self, sign_in: SignIn, *, make_current: bool = True) -> None:
        """Keep a sign-in."""
        with self.locked():
            self._put(sign_in, make_current)

    def remove(self, address: str) -> None:
        """Forget a sign-in."""
        with self.locked():
            content = self._read()
            content["sign_ins"].pop(address, None)
            if content["current"] == address:
                content["current"] = next(iter(content["sign_ins"]), "")
            self._write(content)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile: a refresh token often works once only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if sys.platform != "win32":
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def renew(self, old: SignIn) -> SignIn:
        """The next sign-in after `old`, which may be in the file already; asks the identity provider otherwise.

        Raises:
            Unauthenticated: SIGN_IN_OVER when one has to sign in again.
            Unavailable: When the provider does not answer.
        """
        with self.locked():
            kept = self.find(old.address)
            if kept is not None and kept.token != old.token:
                return kept
            if not old.refresh_token:
                raise _over(old)
            form = {
                "grant_type": "refresh_token",
                "refresh_token": old.refresh_token,
                "client_id": old.client_id,
            }
            answer = http_call.request("POST", old.token_url, form=form)
            if answer.status >= 500:
                raise Unavailable(
                    "PROVIDER_UNAVAILABLE",
                    f"the identity provider at {old.token_url} answers HTTP {answer.status}; try again",
                )
            token = answer.text(old.token_kind)
            if answer.status != 200 or not token:
                raise _over(old)
            renewed = replace(
                old,
                token=token,
                expire_time=expiry(answer.body, old.token_kind),
                refresh_token=answer.text("refresh_token") or old.refresh_token,
            )
            if kept is not None:
                self._put(renewed, make_current=False)
            return renewed

    def _put(self, sign_in: SignIn, make_current: bool) -> None:
        content = self._read()
        content["sign_ins"][sign_in.address] = asdict(sign_in)
        if make_current or not content["current"]:
            content["current"] = sign_in.address
        self._write(content)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text())
            return {"current": str(content["current"]), "sign_ins": dict(content["sign_ins"])}
        except FileNotFoundError:
            return {"current": "", "sign_ins": {}}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._broken(error) from error

    def _write(self, content: dict[str, Any]) -> None:
        staged = self.path.with_suffix(f".{os.getpid()}.part")
        try:
            with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                staged.unlink()
            raise FailedPrecondition(
                "CANNOT_KEEP_SIGN_IN", f"cannot write {self.path}: {error.strerror}"
            ) from error

    def _broken(self, error: Exception) -> FailedPrecondition:
        return FailedPrecondition(
            "BROKEN_SIGN_IN", f"cannot read {self.path} ({error}); remove it and sign in again"
        )


class KeptToken:
    """The token of a sign-in, renewed before it ends; from many threads at once.

    Calls go on with the present one while the next one is on its way.
    """

    def __init__(self, sign_in: SignIn, file: SignInFile) -> None:
        self._sign_in = sign_in
        self._file = file
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next_try = 0.0

    def __call__(self) -> str:
        """What the next call carries; errors as `SignInFile.renew`, when the present one has ended."""
        sign_in, now = self._sign_in, time.time()
        if not sign_in.expire_time or now < sign_in.expire_time - _RENEW_BEFORE_S:
            return sign_in.token
        if now < sign_in.expire_time - _LATEST_S:
            self._renew_meanwhile()
            return sign_in.token
        with self._lock:
            if self._sign_in is sign_in:
                self._sign_in = self._file.renew(sign_in)
        return self._sign_in.token

    def _renew_meanwhile(self) -> None:
        if time.monotonic() < self._next_try or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_try = time.monotonic() + _RETRY_S
        self._thread = threading.Thread(target=self._renew, name="biosegment-sign-in", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        # What goes wrong here is told to the call that finds the token ended.
        with self._lock, contextlib.suppress(BiosegmentError, OSError):
            self._sign_in = self._file.renew(self._sign_in)


def expiry(body: dict[str, Any], kind: str) -> float:
    """When a token of a token endpoint ends by the clock here, in seconds since 1970; 0 when nothing says it."""
    lifetime = body.get("expires_in")
    if kind == "id_token":
        # What the answer says is of the access token.
        try:
            claims = jwt.decode(str(body.get(kind)), options={"verify_signature": False})
            lifetime = claims["exp"] - claims["iat"]
        except (jwt.InvalidTokenError, KeyError, TypeError):
            lifetime = None
    return time.time() + float(lifetime) if isinstance(lifetime, int | float) else 0.0


def _over(sign_in: SignIn) -> Unauthenticated:
    return Unauthenticated(
        "SIGN_IN_OVER",
        f"your sign-in at {sign_in.address} is over: run `biosegment login --address {sign_in.http_url}` again",
    )


def _default_path() -> Path:
    folder = os.environ.get("BIOSEGMENT_CONFIG", "")
    if folder:
        return Path(folder).expanduser() / "sign-in.json"
    base = os.environ.get("XDG_CONFIG_HOME", "") or "~/.config"
    return Path(base).expanduser() / "biosegment" / "sign-in.json"
