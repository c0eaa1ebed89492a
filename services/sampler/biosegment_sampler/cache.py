"""What is remembered to save work, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Forgets what was not used for longest when the whole becomes too large; what was put last always stays.

    Args:
        max_bytes: Of all values together, as long as there are several.
        nbytes: Of a value as it is now; values may grow.
    """

    def __init__(self, max_bytes: int, nbytes: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._nbytes = nbytes
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """The value, None when it is not there (any more)."""
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def put(self, key: Hashable, value: V) -> None:
        """Remember a value, in place of another one of the same key."""
        self._values.pop(key, None)
        self._values[key] = value
        while len(self._values) > 1 and sum(map(self._nbytes, self._values.values())) > self._max_bytes:
            self._values.popitem(last=False)
