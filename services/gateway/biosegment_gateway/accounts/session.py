"""Sessions of people who signed in: what the page's cookie holds, and what the command line keeps."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Final

from biosegment.auth import Kind, Principal
from biosegment.errors import Unauthenticated
from biosegment.expiring import Expiring
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.domain import Session
from biosegment_gateway.ports import SessionRows

SESSION_PREFIX: Final = "bss_"
_SECRET: Final = re.compile(r"bss_[0-9a-f]{64}")
_USE_RESOLUTION: Final = timedelta(minutes=1)


class Sessions:
    """Begins, checks and ends sessions.

    Args:
        rows: Where they are kept, by the digest of their secret.
        clock: Of all times.
        idle_s: One that was not used for so long is over.
        lifetime_s: So is one that is so old.
        remember_s: How long one that another replica ended may go on.
    """

    def __init__(
        self,
        rows: SessionRows,
        clock: Clock = now,
        *,
        idle_s: float = 86_400.0,
        lifetime_s: float = 14 * 86_400.0,
        remember_s: float = 2.0,
    ) -> None:
        self._rows = rows
        self._clock = clock
        self._idle = timedelta(seconds=idle_s)
        self.lifetime = timedelta(seconds=lifetime_s)
        self._known: Expiring[str, Session | None] = Expiring(remember_s)
        self._uses: dict[str, datetime] = {}

    async def begin(self, user_id: str, token_id: str = "") -> str:
        """Begin a session and return its secret; those that are over are cleaned up."""
        secret, present = SESSION_PREFIX + secrets.token_hex(32), self._clock()
        await self._rows.remove_over(present, present - self._idle)
        await self._rows.add(_digest(secret), user_id, token_id, present, present + self.lifetime)
        return secret

    async def principal(self, secret: str) -> Principal:
        """Whose session this is, with the limits of the token that it was begun with.

        Raises:
            Unauthenticated: SESSION_OVER, also for one that never was; USER_DISABLED.
        """
        key, present = _digest(secret), self._clock()
        session = await self._known.get(key, lambda: self._rows.find(key)) if is_session(secret) else None
        if session is None or self._is_over(session, self._uses.get(key), present):
            raise Unauthenticated("SESSION_OVER", "the session is over; sign in again")
        if session.user.disabled:
            raise Unauthenticated(
                "USER_DISABLED", f"user {session.user.user_id} may not sign in; ask an administrator"
            )
        if present - (self._uses.get(key) or session.last_use_time) >= _USE_RESOLUTION:
            self._uses[key] = present
        return Principal(
            Kind.USER,
            session.user.user_id,
            is_admin=session.user.is_admin,
            display_name=session.user.display_name,
            limits=session.token.limits if session.token is not None else (),
        )

    async def end(self, secret: str) -> None:
        """End one session; one that is over already stays so."""
        key = _digest(secret)
        await self._rows.remove(key)
        self._uses.pop(key, None)
        self._known.forget(key)

    async def end_all(self, user_id: str) -> None:
        """End all sessions of a user."""
        await self._rows.remove_of(user_id)
        self.forget()

    def forget(self) -> None:
        """Look all sessions up again: users or tokens have changed."""
        self._known.forget_all()

    async def flush(self) -> None:
        """Store when sessions were last used."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._rows.mark_used(uses)
        except BaseException:
            self._uses = {**uses, **self._uses}
            raise
        for key in uses:
            self._known.forget(key)

    def _is_over(self, session: Session, used: datetime | None, present: datetime) -> bool:
        token = session.token
        return (
            present >= session.expire_time
            or present - (used or session.last_use_time) >= self._idle
            or (token is not None and token.expire_time is not None and present >= token.expire_time)
        )


def is_session(secret: str) -> bool:
    """Whether a secret has the form of a session's."""
    return _SECRET.fullmatch(secret) is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
