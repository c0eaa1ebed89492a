"""One HTTP connection: what the library does, and an end to those who only hold it open."""

from __future__ import annotations

import time
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_S: Final = 30.0
"""From one response, or from the beginning, to the end of the next request's head."""
READING_S: Final = 60.0
"""For a client to take what fills the buffer, 64 KiB."""
CLOSING_S: Final = 10.0
"""For a client to take what was left when its connection was closed."""


class HttpConnection(H11Protocol):
    """Knows since when it waits for its client; `end_overdue` is called now and then."""

    max_connections: int | None = None
    """Above it those that wait for a request make room; set by a subclass."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._quiet_since = time.monotonic()
        self._unread_since: float | None = None
        self._closing_since: float | None = None
        if self.max_connections is not None and len(self.connections) > self.max_connections:
            self._make_room()

    def on_response_complete(self) -> None:
        self._quiet_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; hang up in the middle of an answer, of which the refusal would seem a part."""
        if not self.is_quiet():
            # Of the request that was going on nothing more is read or answered.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def is_quiet(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def end_overdue(self, present: float) -> None:
        """End the connection where its client had time enough.

        Args:
            present: `time.monotonic()`.
        """
        if self.transport.is_closing():
            self._closing_since = self._closing_since or present
            if present - self._closing_since > CLOSING_S:
                self.transport.abort()
        elif self._unread_since is not None and present - self._unread_since > READING_S:
            self.transport.abort()
        elif self.is_quiet() and present - self._quiet_since > IDLE_S:
            # Also those who trickle a head, or go on sending a body after its answer.
            self.transport.abort()

    def _make_room(self) -> None:
        others = (each for each in self.connections if isinstance(each, HttpConnection) and each is not self)
        quiet = [each for each in others if each.is_quiet() and not each.transport.is_closing()]
        oldest = min(quiet, key=lambda each: each._quiet_since, default=self)
        oldest.transport.abort()
