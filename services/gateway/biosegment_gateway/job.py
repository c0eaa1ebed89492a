"""Jobs of several services as one list, newest first."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from biosegment.auth import Principal
from biosegment.errors import InvalidArgument
from biosegment.failpoint import failpoint
from biosegment.ids import parse_name

_T = TypeVar("_T")
_MAX_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs: of a project ('' for all), in these states (all when empty)."""

    project: str
    states: tuple[int, ...]

    @property
    def key(self) -> str:
        """Tells page tokens of different queries apart."""
        return f"{self.project}|{','.join(map(str, sorted(self.states)))}"


@dataclass(frozen=True, slots=True)
class Listed(Generic[_T]):
    """A job in a list; `job_id` grows with the time of its creation, in all services alike."""

    job_id: str
    job: _T


class JobSource(Protocol[_T]):
    """A service that has jobs."""

    name: str

    async def list(
        self, principal: Principal, query: Query, page_size: int, page_token: str
    ) -> tuple[Sequence[Listed[_T]], str]:
        """A page, newest first, and the token of the next one ('' when there is none)."""


def service_of_job(name: str, services: Sequence[str]) -> str:
    """The service that keeps `jobs/{service}-{id}`; InvalidArgument BAD_NAME for other names."""
    (whole,) = parse_name(name, "jobs/*")
    service, dash, _ = whole.partition("-")
    if not dash or service not in services:
        raise InvalidArgument(
            "BAD_NAME",
            f"job name {name!r} is not of the form jobs/{{service}}-{{id}} with service {' or '.join(services)}",
        )
    return service


class JobList(Generic[_T]):
    """Merges the lists of all sources.

    A page token holds, for each source, the token of the page that is being used up, and the job that was
    given out last: whatever is not older was given out before, also when new jobs came meanwhile.
    """

    def __init__(self, sources: Sequence[JobSource[_T]]) -> None:
        self._sources = sources

    async def list(
        self, principal: Principal, query: Query, page_size: int, page_token: str
    ) -> tuple[list[_T], str]:
        """A page of jobs, newest first, and the token of the next page ('' on the last).

        Raises:
            InvalidArgument: BAD_PAGE_SIZE, BAD_PAGE_TOKEN.
            Unavailable: A service is away; half a list would look like a whole one.
        """
        if not 0 <= page_size <= _MAX_PAGE:
            raise InvalidArgument("BAD_PAGE_SIZE", f"page_size {page_size} is not in 1..{_MAX_PAGE} (or 0)")
        size = page_size or 50
        last, tokens = _read(page_token, query, [source.name for source in self._sources])
        queues = [
            _Queue(source, tokens[source.name]) for source in self._sources if tokens[source.name] is not None
        ]
        await asyncio.gather(*(queue.fill(principal, query, size, last) for queue in queues))
        failpoint("gateway.jobs.gathered")
        page: list[_T] = []
        while len(page) < size:
            ready = [queue for queue in queues if queue.items]
            # Where a page is used up and more follows, nobody knows yet how new the next job is.
            if not ready or any(not queue.items and queue.next_token for queue in queues):
                break
            newest = max(ready, key=lambda queue: queue.items[0].job_id)
            item = newest.items.pop(0)
            page.append(item.job)
            last = item.job_id
        rest = {queue.source.name: queue.rest() for queue in queues}
        if all(token is None for token in rest.values()):
            return page, ""
        return page, _write(query, last, rest)


class _Queue(Generic[_T]):
    """What one source has for the page that is being made."""

    def __init__(self, source: JobSource[_T], token: str | None) -> None:
        self.source = source
        self.token = token or ""
        self.next_token = ""
        self.items: list[Listed[_T]] = []

    async def fill(self, principal: Principal, query: Query, size: int, last: str) -> None:
        while True:
            items, self.next_token = await self.source.list(principal, query, size, self.token)
            self.items = [item for item in items if not last or item.job_id < last]
            if self.items or not self.next_token:
                return
            self.token = self.next_token

    def rest(self) -> str | None:
        """Token to go on with; None when the source has given all."""
        if self.items:
            return self.token
        return self.next_token or None


def _write(query: Query, last: str, tokens: dict[str, str | None]) -> str:
    return base64.urlsafe_b64encode(json.dumps([query.key, last, tokens]).encode()).decode()


def _read(page_token: str, query: Query, sources: Sequence[str]) -> tuple[str, dict[str, str | None]]:
    if not page_token:
        return "", dict.fromkeys(sources, "")
    try:
        key, last, tokens = json.loads(base64.urlsafe_b64decode(page_token.encode()))
        if key == query.key and isinstance(last, str) and _are_tokens(tokens, sources):
            return last, {name: tokens.get(name) for name in sources}
    except (ValueError, TypeError):
        pass
    raise InvalidArgument(
        "BAD_PAGE_TOKEN",
        f"page_token {page_token[:80]!r} is not from an answer to the same query; begin without one",
    )


def _are_tokens(tokens: Any, sources: Sequence[str]) -> bool:
    return isinstance(tokens, dict) and all(
        name in sources and (token is None or isinstance(token, str)) for name, token in tokens.items()
    )
