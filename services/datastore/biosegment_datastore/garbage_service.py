"""What administrators may do with garbage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from biosegment.auth import Principal, require_admin
from biosegment.errors import FailedPrecondition, NotFound
from biosegment.storage.objects import Objects
from biosegment_datastore.clock import now_us
from biosegment_datastore.collector import Collector
from biosegment_datastore.garbage import OWN, SHOWN, Garbage, unreferenced
from biosegment_datastore.sql.transfer import SqlGarbage

_AT_ONCE: Final = 64


class GarbageService:
    """Finds and removes objects that nothing refers to.

    Args:
        garbage: What is referred to, and what is doomed.
        collector: Removes what is doomed.
        objects: The store.
        grace_s: What is younger and has no row may be about to get one.
    """

    def __init__(self, garbage: SqlGarbage, collector: Collector, objects: Objects, grace_s: float) -> None:
        self._garbage = garbage
        self._collector = collector
        self._objects = objects
        self._grace_us = int(grace_s * 1e6)

    async def collect(self, principal: Principal, dry_run: bool) -> Garbage:
        """Remove everything that nothing refers to, or only tell what that is; administrators only.

        Raises:
            FailedPrecondition: BACKUP_RUNNING: nothing may be removed while a backup copies what it has listed.
        """
        require_admin(principal)
        if not dry_run:
            await self._require_no_hold()
        keys = [key for place in OWN for key in await self._objects.list(place)]
        due = {*await self._garbage.due(), *await self._collector.abandoned()}
        used = await self._garbage.used() - due
        found = await asyncio.to_thread(unreferenced, keys, used, due, now_us() - self._grace_us)
        garbage = Garbage(
            sum(map(len, found.values())),
            await self._size([key for members in found.values() for key in members]),
            tuple(sorted(found))[:SHOWN],
        )
        if not dry_run:
            # Again: whoever sees that rows of a backup's snapshot are gone sees its hold.
            await self._require_no_hold()
            await self._collector.collect()
            for place, members in found.items():
                if place not in due:
                    for some in _groups(members):
                        await asyncio.gather(*map(self._objects.delete, some))
        return garbage

    async def _require_no_hold(self) -> None:
        if await self._garbage.is_held():
            raise FailedPrecondition(
                "BACKUP_RUNNING", "a backup is being made: collect garbage when it has ended"
            )

    async def _size(self, keys: list[str]) -> int:
        return sum([sum(await asyncio.gather(*map(self._size_of, some))) for some in _groups(keys)])

    async def _size_of(self, key: str) -> int:
        try:
            return await self._objects.size(key)
        except NotFound:
            return 0


def _groups(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """A few at a time: there may be millions."""
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
