"""What callers may do with their own drafts; nobody may do anything with somebody else's."""

from __future__ import annotations

import contextlib

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import BiosegmentError, Conflict, NotFound, ResourceExhausted
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.storage.objects import Objects
from biosegment_datastore.annotations.annotation import NewAnnotation, block_stream, decode_labels_block
from biosegment_datastore.annotations.draft import Draft
from biosegment_datastore.annotations.intake import take_in
from biosegment_datastore.clock import now_us
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.request import Request
from biosegment_datastore.sql.draft import SqlDrafts
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.volume import SqlVolumes


class DraftService:
    """Drafts for those who ask.

    Args:
        drafts: The rows.
        projects: The rows of projects.
        volumes: The rows of volumes.
        authorizer: Decides who may annotate.
        objects: Where labels are kept.
        limit: Most drafts of one person in one project.
    """

    def __init__(
        self,
        drafts: SqlDrafts,
        projects: SqlProjects,
        volumes: SqlVolumes,
        authorizer: Authorizer,
        objects: Objects,
        limit: int,
    ) -> None:
        self._drafts = drafts
        self._projects = projects
        self._volumes = volumes
        self._authorizer = authorizer
        self._objects = objects
        self._limit = limit

    async def save(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        draft_id: str,
        content: NewAnnotation,
        base_sequence: int,
        data: bytes,
        is_zlib: bool,
        etag: str,
    ) -> Draft:
        """Keep unfinished work; it is durable when this returns. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        project = await self._projects.get(project_id)
        volume = await self._volumes.get(project_id, volume_id)
        taken = await take_in(content, data, is_zlib, project, volume)
        what = Request.of(project_id, "", "draft", repr(content), str(base_sequence), taken.sha256)
        draft = Draft(
            project_id=project_id,
            volume_id=volume_id,
            id=draft_id,
            author=principal.user,
            content=content,
            base_sequence=base_sequence,
            update_time_us=now_us(),
            labels_sha256=taken.sha256,
            digest=what.digest,
            key=f"{project.storage_key}/drafts/{new_id()}",
        )
        await self._drafts.reserve(draft.key)
        await self._objects.put(draft.labels_key, taken.block)
        failpoint("datastore.draft.block_written")
        try:
            saved = await self._drafts.save(draft, etag, self._limit)
        except (Conflict, NotFound, ResourceExhausted):
            await self._drop(draft)
            raise
        failpoint("datastore.draft.row_written")
        if saved.key != draft.key:
            await self._drop(draft)
        return saved

    async def get(
        self, principal: Principal, project_id: str, volume_id: str, draft_id: str
    ) -> tuple[Draft, bytes]:
        """One of the caller's drafts, and its labels as a zlib stream."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        draft = await self._drafts.get(project_id, volume_id, principal.user, draft_id)
        while True:
            try:
                block = await self._objects.get(draft.labels_key)
                break
            except NotFound:
                # Saved again, or finished, since the row was read; otherwise it is lost, which must not be hidden.
                now = await self._drafts.get(project_id, volume_id, principal.user, draft_id)
                if now.key == draft.key:
                    raise
                draft = now
        decode_labels_block(block, draft.labels_sha256, draft.content.region, draft.name)
        return draft, block_stream(block)

    async def list(
        self, principal: Principal, project_id: str, volume_id: str, page_size: int, page_token: str
    ) -> Page[Draft]:
        """The caller's drafts of a volume, or of the project, newest first."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        query = ("drafts", project_id, volume_id, principal.user)
        page = PageRequest.of(page_size, page_token, *query, largest=1000, default=100)
        found = list(await self._drafts.list(project_id, volume_id, principal.user))
        if page.after is not None:
            found = [each for each in found if _place(each) > str(page.after)]
        items = found[: page.size]
        return Page(items, page.next_token(_place(items[-1])) if len(found) > page.size else "")

    async def delete(self, principal: Principal, project_id: str, volume_id: str, draft_id: str) -> None:
        """Throw one of the caller's drafts away."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        await self._drafts.delete(project_id, volume_id, principal.user, draft_id)

    async def _drop(self, draft: Draft) -> None:
        # Otherwise it goes with the garbage, as it is reserved.
        with contextlib.suppress(BiosegmentError):
            await self._objects.delete(draft.labels_key)


def _place(draft: Draft) -> str:
    """Sorts as drafts are listed: the newest first."""
    return f"{(1 << 62) - draft.update_time_us:019d}/{draft.volume_id}/{draft.id}"
