"""Plain connections to the gateway's HTTP port, for what no HTTP library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

WAIT_S = 30.0
"""A limit, never what is tested."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: `headers` in lower case, `json` of its body or None."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send what is left of it when the server hangs up."""
        with contextlib.suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    async def reply(self) -> Reply:
        """Read one answer, with a body of known length or up to the end of the connection."""
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            length = headers.get("content-length")
            body = await self.reader.read() if length is None else await self.reader.readexactly(int(length))
        return Reply(int(first.split()[1]), headers, body)

    async def ended(self) -> bytes:
        """Wait until the server has hung up; what it said before."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@contextlib.asynccontextmanager
async def wire(address: str, *, limit: int = 1 << 16) -> AsyncIterator[Wire]:
    """Connect; `limit` is how much is read ahead."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
