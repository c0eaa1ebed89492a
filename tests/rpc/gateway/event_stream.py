"""A client of server-sent events, as far as tests need one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Event:
    """One block of lines: `data` is what its JSON says, None without any."""

    id: str
    name: str
    data: Any


class EventStream:
    """An open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> Event:
        """The next block that is no comment; EOFError when the stream has ended."""
        async with asyncio.timeout(20):
            fields: dict[str, str] = {}
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line and name not in ("", ":"):
                    fields[name] = value
                elif not line and fields and set(fields) != {"retry"}:
                    data = json.loads(fields["data"]) if "data" in fields else None
                    return Event(fields.get("id", ""), fields.get("event", ""), data)
                elif not line:
                    fields = {}
        raise EOFError

    async def next_job(self, state: str) -> tuple[Event, dict[str, Any]]:
        """The next event whose job is in a state."""
        while True:
            event = await self.next()
            if event.data and event.data["job"]["state"] == state:
                return event, event.data["job"]


@asynccontextmanager
async def open_events(
    web: httpx.AsyncClient, kind: str, project: str, last_id: str = ""
) -> AsyncIterator[EventStream]:
    """Open a stream; the answer's status is for the caller to look at."""
    headers = {"last-event-id": last_id} if last_id else {}
    async with web.stream(
        "GET", f"/api/events/{kind}", params={"project": project}, headers=headers, timeout=30
    ) as response:
        yield EventStream(response)
