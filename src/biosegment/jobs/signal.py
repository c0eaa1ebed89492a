"""Tells waiting tasks of this process that jobs changed, so that nobody has to poll fast."""

from __future__ import annotations

import asyncio


class JobSignal:
    """A bell: everybody who waits wakes at each ring. Rings of other processes are not heard: poll slowly
    too.
    """

    def __init__(self) -> None:
        self._ring: asyncio.Event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait now. Call from the event loop's thread."""
        self._ring.set()
        self._ring = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """An event that is set at the next ring; take it before looking at the state that one waits for."""
        return self._ring


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Return when `event` is set, or after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
