"""Leases: time-limited holds, signed so that the datastore can check them without asking.

Two clocks end a lease: the user has done nothing for too long, or, when the client sends heartbeats, nothing was heard
of it. So an idle window does not hold a sample for ever, and a closed laptop frees its samples in a minute or two.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from biosegment.errors import InvalidArgument

GRACE_S: Final = 10.0
"""A region is given to somebody else only so long after its lease ran out.

Clocks differ, and a commit that the datastore accepted in the last moment must arrive in the feed first.
"""
MAX_SESSION: Final = 64


class Purpose(enum.StrEnum):
    """What the holder wants of a sample."""

    ANNOTATE = "annotate"
    CORRECT = "correct"
    """Its annotation."""
    SECOND = "second"
    """To annotate it again, without having seen what another annotator did."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long a lease outlives the user's last activity, and the client's last heartbeat; seconds."""

    activity_s: float
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who wants to hold something.

    Attributes:
        user: User id.
        name: For people; the id when they have no name.
        session: Window or machine, '' when the client does not say.
        heartbeat: The client will send heartbeats.

    Raises:
        InvalidArgument: BAD_SESSION.
    """

    user: str
    name: str = ""
    session: str = ""
    heartbeat: bool = False

    def __post_init__(self) -> None:
        if len(self.session) > MAX_SESSION:
            raise InvalidArgument(
                "BAD_SESSION",
                f"session {self.session[:20]!r}... has {len(self.session)} characters; at most {MAX_SESSION}",
            )


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on a sample, or on an annotation that is being reviewed.

    Attributes:
        holder: User id.
        issued_at: Unix time in s of the last token.
        expires_at: Unix time in s; the token ends here, and no token given for this lease ends later.
        holder_name: For people.
        session: Window or machine of the holder, or ''.
        active_at: Unix time in s when the user last did something.
        heartbeat_at: Unix time in s when the client was last heard of; 0 when it sends no heartbeats.
        purpose: What for.
    """

    holder: str
    issued_at: float
    expires_at: float
    holder_name: str = ""
    session: str = ""
    active_at: float = 0.0
    heartbeat_at: float = 0.0
    purpose: Purpose = Purpose.ANNOTATE

    @classmethod
    def begin(cls, who: Claimant, now: float, clocks: Clocks, purpose: Purpose = Purpose.ANNOTATE) -> Lease:
        """A new lease."""
        begun = cls(who.user, now, now, who.name, who.session, now, now if who.heartbeat else 0.0, purpose)
        return begun.renewed(now, clocks)

    def renewed(self, now: float, clocks: Clocks, *, idle: bool = False) -> Lease:
        """Prolonged by the user's activity, or when `idle` by the connection alone."""
        active_at = self.active_at if idle else now
        heartbeat_at = now if idle or self.heartbeat_at else 0.0
        ends = active_at + clocks.activity_s
        if heartbeat_at:
            ends = min(ends, heartbeat_at + clocks.heartbeat_s)
        return replace(
            self,
            issued_at=now,
            # What was promised stays: the datastore goes by the token.
            expires_at=max(self.expires_at, ends),
            active_at=active_at,
            heartbeat_at=heartbeat_at,
        )

    def moved(self, who: Claimant, now: float) -> Lease:
        """In another window of the same user."""
        heartbeat_at = now if who.heartbeat or self.heartbeat_at else 0.0
        return replace(self, session=who.session, holder_name=who.name, heartbeat_at=heartbeat_at)

    def blocks(self, now: float) -> bool:
        """Whether nobody else may take the region yet."""
        return now < self.expires_at + GRACE_S

    def is_idle(self, now: float, clocks: Clocks) -> bool:
        """Whether the user has done nothing for too long, so that heartbeats alone prolong it no more."""
        return now >= max(self.active_at + clocks.activity_s, self.expires_at)

    @property
    def holder_text(self) -> str:
        """For people."""
        return (
            f"{self.holder_name} ({self.holder})"
            if self.holder_name not in ("", self.holder)
            else self.holder
        )
