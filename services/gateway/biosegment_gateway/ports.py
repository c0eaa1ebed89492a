"""What the use-cases need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from biosegment_gateway.domain import ApiToken, AuditEvent, Credential, User


class Accounts(Protocol):
    """Users and tokens, durable."""

    async def add_user(self, user: User) -> bool:
        """Store a user; False when the id is taken."""

    async def get_user(self, user_id: str) -> User | None: ...

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


class Events(Protocol):
    """The audit log: rows are added and read, never changed."""

    async def add_events(self, events: Sequence[AuditEvent]) -> None: ...

    async def list_events(self, before_sequence: int, limit: int) -> list[AuditEvent]:
        """Newest first; all when `before_sequence` is 0."""
