"""Users, API tokens and audit events."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from biosegment.ids import new_id

ADMIN: Final = "admin"
"""Id of the user that is made at first start."""

# The secret is hexadecimal, so that a token has no characters that URLs or shells treat specially.
_TOKEN: Final = re.compile(r"bsg_([a-z0-9]{26})_[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class User:
    """A person or program; `disabled` users may not sign in."""

    user_id: str
    display_name: str
    is_admin: bool
    disabled: bool
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is known about a token besides its secret; it never expires when `expire_time` is None."""

    token_id: str
    user_id: str
    display_name: str
    create_time: datetime
    expire_time: datetime | None = None
    last_use_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored token with its user, for authentication."""

    token: ApiToken
    secret_sha256: bytes
    revoked: bool
    user: User


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that was done; `sequence` is 0 until it is stored."""

    time: datetime
    user_id: str
    action: str
    resource: str
    outcome: str
    peer: str
    sequence: int = 0


def new_secret() -> tuple[str, str]:
    """Make a token: its id and the whole secret, `bsg_{id}_{256 random bits}`."""
    token_id = new_id()
    return token_id, f"bsg_{token_id}_{secrets.token_hex(32)}"


def token_id_of(secret: str) -> str:
    """Id of the token that a secret belongs to; '' when it is not of the form of a token."""
    match = _TOKEN.fullmatch(secret)
    return match[1] if match else ""


def digest(secret: str) -> bytes:
    """What is stored of a secret: 32 bytes. Its 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def matches(secret: str, stored: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(digest(secret), stored)
