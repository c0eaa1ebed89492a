"""What happened to a sample, for those who look at it later."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Action(enum.StrEnum):
    ANNOTATED = "annotated"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVERTED = "reverted"
    SKIPPED = "skipped"
    RELEASED = "released"
    FLAGGED = "flagged"
    UNFLAGGED = "unflagged"
    RESUMED = "resumed"
    TAKEN_OVER = "taken_over"


SEEING: Final = (Action.ACCEPTED, Action.REJECTED, Action.RESUMED, Action.FLAGGED, Action.TAKEN_OVER)
"""What shows the one who does it what somebody else annotated."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        time: Unix time in s.
        user: User id.
        action: What.
        text: Name of the annotation, comment, reason, question, answer, or former holder.
    """

    time: float
    user: str
    action: Action
    text: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """A question that waits for an answer: text, user id, and Unix time in s."""

    text: str
    user: str
    created_at: float
