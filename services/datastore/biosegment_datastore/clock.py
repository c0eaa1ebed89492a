"""Time as the tables keep it."""

from __future__ import annotations

import time

from biosegment.errors import InvalidArgument


def now_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def require_passed(as_of_us: int | None) -> None:
    """InvalidArgument BAD_AS_OF when a moment that is asked about has not come: later it would be something else."""
    if as_of_us is not None and as_of_us > now_us():
        raise InvalidArgument("BAD_AS_OF", "`as_of` lies in the future; name a moment that has passed")
