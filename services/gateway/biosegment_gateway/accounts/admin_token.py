"""The first way in: an administrator, and a token in a file that only its owner can read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import structlog

from biosegment.errors import FailedPrecondition, Unauthenticated
from biosegment.ids import new_id
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.clock import now
from biosegment_gateway.domain import ADMIN, ApiToken, User, digest, new_secret
from biosegment_gateway.ports import Accounts

_MODE: Final = 0o600
_log = structlog.get_logger("biosegment_gateway.accounts.admin_token")


async def ensure_admin(accounts: Accounts, authentication: Authentication, token_file: str) -> None:
    """Make the user `admin` when there is none, and a token for them in `token_file` ('' for no file).

    A file whose token still works is kept, so that a restart changes nothing; a missing one, or one from
    another database, is written anew.

    Raises:
        FailedPrecondition: CANNOT_WRITE_TOKEN when the file cannot be written.
    """
    if await accounts.add_user(User(ADMIN, "Administrator", True, False, now())):
        _log.info("admin_made", user=ADMIN)
    if not token_file:
        return
    if await _works(_read_secret(Path(token_file)), authentication):
        os.chmod(token_file, _MODE)
        return
    token_id, secret = new_secret()
    token = ApiToken(token_id, ADMIN, "made by the gateway at start", now())
    await accounts.add_token(token, digest(secret))
    write_secret(Path(token_file), secret)
    _log.info("admin_credentials_written", file=token_file)


def write_secret(path: Path, secret: str) -> None:
    """Put a secret into a file that is never, not even for a moment, readable by others, or half written."""
    staged = path.with_name(f".{path.name}.{new_id()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise FailedPrecondition(
            "CANNOT_WRITE_TOKEN", f"cannot write the administrator's token to {path}: {error.strerror}"
        ) from error


def _read_secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


async def _works(secret: str, authentication: Authentication) -> bool:
    try:
        return (await authentication.of_token(secret)).is_admin
    except Unauthenticated:
        return False
