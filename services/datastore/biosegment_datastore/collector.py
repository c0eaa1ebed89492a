"""Removes from the object storage what nothing refers to any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from biosegment.errors import BiosegmentError, NotFound
from biosegment.jobs import SqlJobs
from biosegment.storage.objects import Objects
from biosegment_datastore.clock import now_us
from biosegment_datastore.garbage import made_us
from biosegment_datastore.page import PageRequest
from biosegment_datastore.scratch import remove_leftovers
from biosegment_datastore.sql.annotation import SqlAnnotations
from biosegment_datastore.sql.instance import SqlInstances
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.transfer import SqlGarbage, SqlTransfers

_log = structlog.get_logger("biosegment_datastore.collector")


class Collector:
    """Deletes doomed prefixes, expired uploads and, once at the start, blocks of annotations and edits without a row.

    Args:
        garbage: Doomed prefixes.
        transfers: Uploads.
        annotations: Which label blocks are in use.
        instances: Which blocks of edits are in use.
        projects: Where to look for label blocks.
        jobs: Which unfinished prefixes are still being written.
        objects: What is cleaned.
        every_s: Pause between rounds.
        scratch_dir: Folder in which killed processes may have left something.
        orphan_grace_s: A younger block may belong to a commit that is under way in another instance.
    """

    def __init__(
        self,
        garbage: SqlGarbage,
        transfers: SqlTransfers,
        annotations: SqlAnnotations,
        instances: SqlInstances,
        projects: SqlProjects,
        jobs: SqlJobs,
        objects: Objects,
        scratch_dir: Path,
        every_s: float,
        orphan_grace_s: float,
    ) -> None:
        self._garbage = garbage
        self._transfers = transfers
        self._annotations = annotations
        self._instances = instances
        self._projects = projects
        self._jobs = jobs
        self._objects = objects
        self._scratch_dir = scratch_dir
        self._every_s = every_s
        self._grace_us = int(orphan_grace_s * 1e6)
        self.rounds = 0
        """That `run` has made."""

    async def run(self) -> None:
        """Work until cancelled."""
        await self._safely(self.remove_orphans)
        while True:
            await self._safely(self.collect)
            self.rounds += 1
            await asyncio.sleep(self._every_s)

    async def collect(self) -> None:
        """One round."""
        if leftovers := await asyncio.to_thread(remove_leftovers, self._scratch_dir):
            _log.info("scratch_removed", count=leftovers)
        for owner in await self._idle_owners():
            await self._garbage.abandon(owner)
        if dropped := await self._transfers.drop_expired_uploads():
            _log.info("uploads_expired", count=dropped)
        for prefix in await self._garbage.due():
            # Emptied first and marked then: whoever dies in between empties it again.
            await self._objects.delete_prefix(f"{prefix}/")
            await self._garbage.removed(prefix)
            _log.info("removed", prefix=prefix)

    async def abandoned(self) -> list[str]:
        """Prefixes that the next round abandons: nobody works on them any more."""
        return [prefix for owner in await self._idle_owners() for prefix in await self._garbage.owned(owner)]

    async def _idle_owners(self) -> list[str]:
        return [owner for owner in await self._garbage.owners() if not await self._goes_on(owner)]

    async def remove_orphans(self) -> int:
        """Delete blocks that no record and no edit refers to and that are old enough; returns how many.

        None while there is a hold: blocks of a volume that was deleted meanwhile are in the backup's snapshot.
        """
        removed, token = 0, ""
        # Before the blocks are listed: what is reserved later is younger than the grace.
        reserved = [
            f"{prefix}/"
            for owner in await self._garbage.owners()
            for prefix in await self._garbage.owned(owner)
        ]
        while True:
            page = await self._projects.list(PageRequest.of(500, token, "orphans"), None)
            for project in page.items:
                blocks = [
                    key
                    for place in ("annotations", "edits")
                    for key in await self._objects.list(f"{project.storage_key}/{place}/")
                ]
                # Listed before the rows are read: what was committed in between is in use.
                used = await self._annotations.keys(project.id) | await self._instances.keys(project.id)
                # Afterwards: whoever sees that rows of a snapshot are gone sees its hold.
                if await self._garbage.is_held():
                    return removed
                for key in blocks:
                    if key.startswith(tuple(reserved)):
                        continue  # of an import of labels, whose records come all at once at its end
                    if key not in used and made_us(key.rpartition("/")[2]) < now_us() - self._grace_us:
                        await self._objects.delete(key)
                        removed += 1
            token = page.next_token
            if not token:
                break
        if removed:
            _log.info("orphans_removed", count=removed)
        return removed

    async def _goes_on(self, owner: str) -> bool:
        """Whether the job that reserved something runs or will: what a killed attempt left is of use to the next."""
        try:
            return not (await self._jobs.get(owner.partition("/")[0])).state.is_final
        except NotFound:
            return False

    async def _safely(self, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except BiosegmentError as error:
            # The next round tries again.
            _log.warning("collecting_failed", reason=error.reason, message=error.message)
