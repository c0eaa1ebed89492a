"""What the use-cases need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from biosegment.auth import Principal
from biosegment_gateway.domain import ApiToken, AuditEvent, AuditQuery, Credential, Rule, Session, User


class Accounts(Protocol):
    """Users and tokens, durable."""

    async def add_user(self, user: User) -> bool:
        """Store a user; False when the id is taken."""

    async def get_user(self, user_id: str) -> User | None: ...

    async def update_user(
        self,
        user_id: str,
        display_name: str | None = None,
        is_admin: bool | None = None,
        disabled: bool | None = None,
    ) -> User | None:
        """Change what is given; None when there is no such user.

        Raises:
            FailedPrecondition: LAST_ADMIN when no administrator would be left who may sign in.
        """

    async def list_users(self, after: str, limit: int) -> list[User]:
        """Users whose id sorts after `after`, by id."""

    async def add_token(self, token: ApiToken, secret_sha256: bytes) -> None: ...

    async def find_credential(self, token_id: str) -> Credential | None: ...

    async def list_tokens(self, user_id: str) -> list[ApiToken]:
        """Tokens that were not revoked, oldest first."""

    async def revoke_token(self, user_id: str, token_id: str, time: datetime) -> bool:
        """End a token; False when the user has no such token (any more)."""

    async def mark_used(self, uses: Mapping[str, datetime]) -> None:
        """Store when tokens were last used."""


class SessionRows(Protocol):
    """Sessions by the digest of their secret, durable."""

    async def add(
        self, key: str, user_id: str, token_id: str, create_time: datetime, expire_time: datetime
    ) -> None:
        """Store a session; `token_id` is '' for one that was not begun with a token."""

    async def find(self, key: str) -> Session | None:
        """One session; None when it is gone, or the token that it was begun with was revoked."""

    async def remove(self, key: str) -> None: ...

    async def remove_of(self, user_id: str) -> None: ...

    async def remove_over(self, expired_at: datetime, unused_since: datetime) -> None:
        """Remove those that end before the one time, or were last used before the other."""

    async def mark_used(self, uses: Mapping[str, datetime]) -> None: ...


class PasswordRows(Protocol):
    """Hashes of passwords by user, durable."""

    async def get(self, user_id: str) -> str | None: ...

    async def put(self, user_id: str, password_hash: str, time: datetime) -> None: ...


class TryRows(Protocol):
    """Tries to sign in by who and where, durable."""

    async def begin(self, subjects: Mapping[str, Rule], present: datetime, memory: timedelta) -> datetime:
        """Count a try of each if all are open; return since when, or, if it does not count, from when they are.

        Tries whose last one is older than `memory` are forgotten.
        """

    async def forget(self, whole: Sequence[str], one: Sequence[str]) -> None:
        """Forget all tries of some, and one try of others."""


class TokenVerifier(Protocol):
    """Checks tokens of an identity provider."""

    async def principal(self, token: str) -> Principal:
        """Whose token this is.

        Raises:
            Unauthenticated: BAD_TOKEN when it is forged or for somebody else, TOKEN_EXPIRED, NO_USER, USER_DISABLED.
            Unavailable: PROVIDER_UNAVAILABLE when the provider's keys cannot be had.
        """

    def forget(self) -> None:
        """Look users up again: one has changed."""


class ProviderUsers(Protocol):
    """Which user a subject of an identity provider is, durable."""

    async def find(self, issuer: str, subject: str) -> User | None: ...

    async def has(self, user_id: str) -> bool:
        """Whether a user is somebody at a provider."""

    async def link(self, issuer: str, subject: str, user_id: str, time: datetime) -> bool:
        """Remember who it is; False when the user is somebody else's at this provider already."""


class Events(Protocol):
    """The audit log: rows are added and read, never changed, and end only with their time."""

    async def add_events(self, events: Sequence[AuditEvent]) -> None: ...

    async def list_events(self, query: AuditQuery) -> list[AuditEvent]: ...

    async def forget_events(self, end: datetime, limit: int) -> int:
        """Remove at most so many of the oldest events, those before `end`; returns how many."""
