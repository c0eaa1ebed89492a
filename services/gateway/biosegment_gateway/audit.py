"""The audit log: who changed what. Rows are written in the background; no call waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from biosegment.auth import Principal
from biosegment.errors import BiosegmentError
from biosegment.failpoint import failpoint
from biosegment_gateway.authentication import Clock, now
from biosegment_gateway.domain import AuditEvent
from biosegment_gateway.ports import Events

_BATCH: Final = 500
_CAPACITY: Final = 20_000
_READING: Final = ("Get", "List", "Watch", "Read", "Check", "BatchGet", "Search", "Export", "Segment")

_log = structlog.get_logger("biosegment_gateway.audit")


def is_change(method: str) -> bool:
    """Whether a method (`/package.Service/Method`) may change something, by the first word of its name."""
    return not method.rpartition("/")[2].startswith(_READING)


@dataclass(slots=True)
class Recording:
    """What is known of a call while it runs."""

    resource: str = ""
    outcome: str = "OK"
    """gRPC code name; set by whoever ends a call by other means than a `BiosegmentError`."""


class Audit:
    """Collects events and writes them in batches."""

    def __init__(self, events: Events, clock: Clock = now) -> None:
        self._events = events
        self._clock = clock
        self._waiting: list[AuditEvent] = []
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def recording(
        self, method: str, principal: Principal, peer: str, resource: str = ""
    ) -> AsyncIterator[Recording]:
        """Record the call that runs inside, with its outcome."""
        recording = Recording(resource)
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
            self._add(
                AuditEvent(
                    time=self._clock(),
                    user_id=principal.user,
                    action=method.lstrip("/"),
                    resource=recording.resource,
                    outcome=recording.outcome,
                    peer=peer,
                )
            )

    async def flush(self) -> None:
        """Write what is waiting; an error leaves it waiting."""
        async with self._writing:
            while self._waiting:
                batch = self._waiting[:_BATCH]
                failpoint("gateway.audit.before_write")
                await self._events.add_events(batch)
                failpoint("gateway.audit.after_write")
                del self._waiting[: len(batch)]

    async def list(self, before_sequence: int, limit: int) -> list[AuditEvent]:
        """Events, newest first, with all that has happened until now."""
        await self.flush()
        return await self._events.list_events(before_sequence, limit)

    def _add(self, event: AuditEvent) -> None:
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
