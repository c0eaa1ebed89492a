"""Answers that are remembered for a few seconds, since every call asks for them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """A bounded cache of values by key.

    Args:
        lifetime_s: How long a value is good, so how long another instance's change may go unseen.
        capacity: Values that are kept at most.
    """

    def __init__(self, lifetime_s: float, capacity: int = 4096) -> None:
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._changes = 0

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The value of `key`, loaded when it is unknown or too old; failures are not remembered."""
        known = self._known.get(key)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        began, value = self._changes, await load()
        if began == self._changes:
            # Otherwise something changed while it was on its way, and it may be older than that.
            self.put(key, value)
        return value

    def peek(self, key: K) -> V | None:
        """The value of `key` when it is known and good."""
        known = self._known.get(key)
        return known[1] if known is not None and time.monotonic() < known[0] else None

    def put(self, key: K, value: V) -> None:
        """Remember a value."""
        self._known[key] = (time.monotonic() + self._lifetime_s, value)
        self._known.move_to_end(key)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def forget(self, key: K) -> None:
        """Ask again next time."""
        self._changes += 1
        self._known.pop(key, None)

    def forget_all(self) -> None:
        """Ask for everything again next time."""
        self._changes += 1
        self._known.clear()
