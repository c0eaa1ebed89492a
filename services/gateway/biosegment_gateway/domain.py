"""Users, API tokens, sessions and audit events."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from biosegment.auth import Limit
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


class UserField(enum.StrEnum):
    """What can be changed of a user."""

    DISPLAY_NAME = "display_name"
    IS_ADMIN = "is_admin"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is known about a token besides its secret.

    It never expires when `expire_time` is None, and may do all that its user may when it has no `limits`.
    """

    token_id: str
    user_id: str
    display_name: str
    create_time: datetime
    expire_time: datetime | None = None
    last_use_time: datetime | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored token with its user, for authentication."""

    token: ApiToken
    secret_sha256: bytes
    revoked: bool
    user: User


@dataclass(frozen=True, slots=True)
class Session:
    """A stored session.

    Attributes:
        user: Whose it is.
        token: The API token that it was begun with, whose scopes and end it shares; None for a person's own.
        create_time: Of the sign-in.
        last_use_time: Accurate to a minute.
        expire_time: Latest end, however much it is used.
    """

    user: User
    token: ApiToken | None
    create_time: datetime
    last_use_time: datetime
    expire_time: datetime


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


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which events are wanted, all when nothing is said, and in which order.

    Attributes:
        user_id: Who did it.
        resource: Its name, or that of one above it.
        action: A part of the method or route, whatever the case.
        start: Not before.
        end: Before.
        before_sequence: Only older ones than this; 0 for all.
        after_sequence: Only newer ones than this.
        oldest_first: Newest first otherwise.
        limit: At most so many.
    """

    user_id: str = ""
    resource: str = ""
    action: str = ""
    start: datetime | None = None
    end: datetime | None = None
    before_sequence: int = 0
    after_sequence: int = 0
    oldest_first: bool = False
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Rule:
    """How many tries to sign in are free, and how long the wait after further ones grows at most."""

    free: int
    longest_s: float

    def wait(self, tries: int) -> timedelta:
        """Before the next try, after so many."""
        beyond = tries - self.free
        return timedelta(seconds=min(2.0 ** min(beyond, 20), self.longest_s)) if beyond >= 0 else timedelta()


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
