"""The audit log: who changed what. Rows are written in the background; no call waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from biosegment.auth import Principal
from biosegment.errors import BiosegmentError
from biosegment.failpoint import failpoint
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.domain import AuditEvent, AuditQuery
from biosegment_gateway.ports import Events

_BATCH: Final = 500
_CAPACITY: Final = 20_000

FORGETTING: Final = "gateway/ForgetAuditEvents"
"""Action of the event that says that older ones were removed."""
_READING: Final = ("Get", "List", "Watch", "Read", "Check", "BatchGet", "Search", "Export", "Segment")

_log = structlog.get_logger("biosegment_gateway.audit")


def is_change(method: str) -> bool:
    """Whether a method (`/package.Service/Method`) may change something, by the first word of its name."""
    return not method.rpartition("/")[2].startswith(_READING)


@dataclass(slots=True)
class Recording:
    """What is known of a call while it runs.

    Attributes:
        action: Method or route.
        user_id: '' while it is not known who calls.
        resource: Its name as far as known.
        outcome: gRPC code name; set by whoever ends a call by other means than a `BiosegmentError`.
    """

    action: str
    user_id: str = ""
    resource: str = ""
    outcome: str = "OK"
    inner: list[Recording] = field(default_factory=list)


_around: ContextVar[Recording | None] = ContextVar("biosegment_recording", default=None)


def current_recording() -> Recording | None:
    """That of the request that is being served; None where nothing is recorded."""
    return _around.get()


class Audit:
    """Collects events and writes them in batches."""

    def __init__(self, events: Events, clock: Clock = now) -> None:
        self._events = events
        self._clock = clock
        self._waiting: list[AuditEvent] = []
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def recording(
        self, method: str, principal: Principal | None, peer: str, resource: str = ""
    ) -> AsyncIterator[Recording]:
        """Record the call that runs inside, with its outcome.

        Where recordings lie in one another, as those of a request and of the call that it makes, the innermost counts.
        """
        recording = Recording(method.lstrip("/"), principal.user if principal else "", resource)
        outer = _around.get()
        if outer is not None:
            outer.inner.append(recording)
        _around.set(recording)
        try:
            yield recording
        except BiosegmentError as error:
            recording.outcome = error.grpc_code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            recording.outcome = "CANCELLED"
            raise
        except BaseException:
            if recording.outcome == "OK":
                recording.outcome = "INTERNAL"
            raise
        finally:
            _around.set(outer)
            if not recording.inner:
                self._add(recording, peer)

    def note(self, recording: Recording, peer: str) -> None:
        """Record what has ended already."""
        self._add(recording, peer)

    async def flush(self) -> None:
        """Write what is waiting; an error leaves it waiting."""
        async with self._writing:
            while self._waiting:
                batch = self._waiting[:_BATCH]
                failpoint("gateway.audit.before_write")
                await self._events.add_events(batch)
                failpoint("gateway.audit.after_write")
                del self._waiting[: len(batch)]

    async def list(self, query: AuditQuery) -> list[AuditEvent]:
        """Events that are asked for, with all that has happened until now."""
        await self.flush()
        return await self._events.list_events(query)

    async def forget(self, keep: timedelta) -> int:
        """Remove events that are older than `keep`, and record that; returns how many."""
        end, count = self._clock() - keep, 0
        while gone := await self._events.forget_events(end, _BATCH):
            count += gone
        if count:
            self._add(Recording(FORGETTING, resource=f"{count} events before {end.isoformat()}"), "")
        return count

    def _add(self, recording: Recording, peer: str) -> None:
        event = AuditEvent(
            time=self._clock(),
            user_id=recording.user_id,
            action=recording.action,
            resource=recording.resource,
            outcome=recording.outcome,
            peer=peer,
        )
        if len(self._waiting) >= _CAPACITY:
            # The database has been away for long; the log is the next best place.
            _log.error("audit_overflow", **{key: str(value) for key, value in _fields(event).items()})
            return
        self._waiting.append(event)


def _fields(event: AuditEvent) -> dict[str, object]:
    return {
        "time": event.time.isoformat(),
        "user": event.user_id,
        "action": event.action,
        "resource": event.resource,
        "outcome": event.outcome,
        "peer": event.peer,
    }
