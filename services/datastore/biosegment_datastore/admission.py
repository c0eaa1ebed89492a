"""Memory for voxels on their way out: one sum for all streams, given out in the order of asking.

Every stream asks for one part after another, so that first come, first served is a round robin between them. A reader
that does not take what it asked for must not keep others waiting: when memory is short, parts that nobody has touched
for a while are dropped, and read again should their reader come back.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import numpy.typing as npt

STALLED_S = 2.0
"""A reader that takes nothing for so long may lose its part to others."""

_LOOK_EVERY_S = 0.25


class Part:
    """Memory that a stream was given, and the voxels in it: None before they are read and after they were dropped."""

    def __init__(self, admission: Admission, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.voxels: npt.NDArray[Any] | None = None
        self._admission = admission
        self._touched_s = time.monotonic()

    def touch(self) -> None:
        """Say that the reader goes on."""
        self._touched_s = time.monotonic()

    def fill(self, voxels: npt.NDArray[Any]) -> None:
        """Hold voxels that were read."""
        self.voxels = voxels
        self.touch()

    def is_stalled(self, after_s: float) -> bool:
        """Whether it could be dropped."""
        return self.voxels is not None and time.monotonic() - self._touched_s > after_s

    def close(self) -> None:
        """Give the memory back; harmless twice."""
        self.voxels = None
        self._admission.leave(self)


class Admission:
    """Who may hold voxels in memory.

    Args:
        limit_bytes: Of all parts together. A part that is larger gets in when it is alone.
        stalled_s: A part that is not touched for so long may be dropped when others wait.
    """

    def __init__(self, limit_bytes: int, stalled_s: float = STALLED_S) -> None:
        self._limit_bytes = limit_bytes
        self._stalled_s = stalled_s
        self._parts: set[Part] = set()
        self._waiting: deque[tuple[int, asyncio.Future[Part]]] = deque()
        self.held_bytes = 0

    async def enter(self, size_bytes: int) -> Part:
        """Wait for memory, behind those who asked before."""
        turn: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self._waiting.append((min(size_bytes, self._limit_bytes), turn))
        self._admit()
        try:
            while not turn.done():
                await asyncio.wait({turn}, timeout=_LOOK_EVERY_S)
                self._drop_stalled()
        except asyncio.CancelledError:
            if turn.done():
                turn.result().close()
            else:
                turn.cancel()
                self._admit()
            raise
        return turn.result()

    def leave(self, part: Part) -> None:
        """Take a part's memory back."""
        if part in self._parts:
            self._parts.remove(part)
            self.held_bytes -= part.size_bytes
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if not turn.cancelled():
                if self.held_bytes + size_bytes > self._limit_bytes:
                    return
                part = Part(self, size_bytes)
                self._parts.add(part)
                self.held_bytes += size_bytes
                turn.set_result(part)
            self._waiting.popleft()

    def _drop_stalled(self) -> None:
        if self._waiting:
            for part in [part for part in self._parts if part.is_stalled(self._stalled_s)]:
                part.close()
