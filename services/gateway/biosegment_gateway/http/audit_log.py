"""The audit log over HTTP: JSON lines for programs that collect logs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from biosegment.auth import Principal
from biosegment.errors import InvalidArgument
from biosegment_gateway.accounts.identity import IdentityService
from biosegment_gateway.domain import AuditEvent, AuditQuery
from biosegment_gateway.http.access import principal_of

_PAGE: Final = 1000
_KNOWN: Final = ("user", "resource", "method", "since", "until", "after")


class AuditLog:
    """Streams events, oldest first, a page at a time from the database."""

    def __init__(self, identity: IdentityService) -> None:
        self._identity = identity

    @property
    def routes(self) -> list[Route]:
        """One, for platform administrators."""
        return [Route("/audit/events.jsonl", self.events)]

    async def events(self, request: Request) -> Response:
        """Events as JSON lines; `?user=`, `resource=`, `method=`, `since=`, `until=` and `after=` choose among them."""
        principal, query = principal_of(request), _query(request.query_params)
        # Before anything is answered: who may not read it is told so.
        first = await self._identity.list_audit_events(principal, query)
        lines = self._lines(principal, query, first)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def _lines(
        self, principal: Principal, query: AuditQuery, page: list[AuditEvent]
    ) -> AsyncIterator[bytes]:
        while True:
            yield b"".join(_line(event) for event in page)
            if len(page) < query.limit:
                return
            query = replace(query, after_sequence=page[-1].sequence)
            page = await self._identity.list_audit_events(principal, query)


def _query(parameters: Mapping[str, str]) -> AuditQuery:
    if unknown := sorted(set(parameters) - set(_KNOWN)):
        raise InvalidArgument(
            "UNKNOWN_PARAMETER", f"{unknown[0][:100]!r} is none of the parameters {', '.join(_KNOWN)}"
        )
    after = parameters.get("after", "0")
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise InvalidArgument("BAD_SEQUENCE", f"after={after[:100]!r} is no sequence number of an event")
    return AuditQuery(
        user_id=parameters.get("user", ""),
        resource=parameters.get("resource", "").rstrip("/"),
        action=parameters.get("method", ""),
        start=_time(parameters, "since"),
        end=_time(parameters, "until"),
        after_sequence=int(after),
        oldest_first=True,
        limit=_PAGE,
    )


def _time(parameters: Mapping[str, str], name: str) -> datetime | None:
    text = parameters.get(name, "")
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            "BAD_TIME", f"{name}={text[:100]!r} is no ISO time such as 2026-05-04T17:30:00Z"
        ) from error


def _line(event: AuditEvent) -> bytes:
    found = {
        "sequence": event.sequence,
        "time": event.time.isoformat(),
        "user": event.user_id,
        "action": event.action,
        "resource": event.resource,
        "outcome": event.outcome,
        "peer": event.peer,
    }
    return json.dumps(found).encode() + b"\n"
