"""Answers that take work, kept in memory while there is room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable


class ByteCache:
    """What was made, by key; the least recently used goes first, and who asks for what is being made waits for it.

    Args:
        max_bytes: Of all together; what is larger is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self.size = 0

    async def get(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What belongs to a key; `make` is called when it is not here."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(key, make))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        # Who gives up must not spoil it for the others.
        return await asyncio.shield(task)

    async def _make(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        made = await make()
        if len(made) <= self._max_bytes:
            self._kept[key] = made
            self.size += len(made)
        while self.size > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.size -= len(dropped)
        return made
