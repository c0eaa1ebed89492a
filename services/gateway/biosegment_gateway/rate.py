"""How often something may be done: token buckets by key, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Final

_CAPACITY: Final = 10_000


class Rate:
    """Each key may do something `burst` times at once, and `per_s` times a second in the long run.

    A bucket is one number: when it would be full again. It costs no timer, and full buckets need not be kept.

    Args:
        per_s: Refill of each bucket.
        burst: Size of each bucket, at least 1.
        clock: Seconds.
    """

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / per_s
        self._slack_s = (burst - 1) / per_s
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> float:
        """Take one from the key's bucket: 0.0 where there was one, else the seconds until there is one."""
        present = self._clock()
        full_at = max(self._full_at.get(key, 0.0), present)
        wait_s = full_at - present - self._slack_s
        if wait_s > 0:
            return wait_s
        if len(self._full_at) >= _CAPACITY and key not in self._full_at:
            self._make_room(present)
        self._full_at[key] = full_at + self._interval_s
        return 0.0

    def _make_room(self, present: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > present}
        # Too many at the same time to be just to each: those that were seen first begin anew, a tenth of all together,
        # so that a crowd of new ones does not cost a look at everybody each.
        for key in list(islice(self._full_at, max(0, len(self._full_at) - _CAPACITY * 9 // 10))):
            del self._full_at[key]
