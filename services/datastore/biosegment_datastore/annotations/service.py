"""What callers may do with annotations."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from biosegment.auth import Authorizer, Kind, Permission, Principal
from biosegment.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from biosegment.storage.objects import Objects
from biosegment.volume import Region
from biosegment_datastore.annotations.annotation import (
    Action,
    Annotation,
    AnnotationState,
    Record,
    block_stream,
    decode_block,
)
from biosegment_datastore.annotations.comparison import Comparison, compare
from biosegment_datastore.annotations.intake import INLINE_BYTES
from biosegment_datastore.annotations.projector import Projector
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.project import check_text
from biosegment_datastore.request import Request
from biosegment_datastore.sql.annotation import Change, SqlAnnotations
from biosegment_datastore.sql.ended_lease import EndedLease, SqlEndedLeases


class AnnotationService:
    """Annotations for those who ask.

    Args:
        annotations: The rows.
        ended_leases: The rows of leases that were taken over.
        authorizer: Decides who may do what.
        objects: Where label blocks are kept.
        projector: Told of new records.
    """

    def __init__(
        self,
        annotations: SqlAnnotations,
        ended_leases: SqlEndedLeases,
        authorizer: Authorizer,
        objects: Objects,
        projector: Projector,
    ) -> None:
        self._annotations = annotations
        self._ended_leases = ended_leases
        # Two label blocks may have half a gibibyte.
        self._comparing = asyncio.Semaphore(1)
        self._authorizer = authorizer
        self._objects = objects
        self._projector = projector

    async def get(
        self, principal: Principal, project_id: str, volume_id: str, annotation_id: str, with_labels: bool
    ) -> tuple[Annotation, bytes]:
        """One annotation, and its labels as a zlib stream when asked for."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        found = await self._annotations.get(project_id, volume_id, annotation_id)
        if not with_labels:
            return found, b""
        block = await self._objects.get(found.key)
        if found.region.size <= INLINE_BYTES:
            decode_block(block, found)
        else:
            await asyncio.to_thread(decode_block, block, found)
        return found, block_stream(block)

    async def list(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        states: Collection[AnnotationState],
        region: Region | None,
        sample: str,
        page_size: int,
        page_token: str,
    ) -> Page[Annotation]:
        """Annotations of a volume, or of the project, oldest first."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        if region is not None and not volume_id:
            raise InvalidArgument("BAD_PARENT", "a region needs a volume as parent: projects/{p}/volumes/{v}")
        query = ("annotations", project_id, volume_id, sorted(states), region, sample)
        page = PageRequest.of(page_size, page_token, *query, largest=1000, default=100)
        return await self._annotations.list(project_id, page, volume_id, states, region, sample)

    async def revert(
        self, principal: Principal, project_id: str, volume_id: str, annotation_id: str, request_id: str
    ) -> Annotation:
        """Take an annotation back: one's own, or anybody's with the permission to review."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        present = await self._annotations.get(project_id, volume_id, annotation_id)
        if present.author != principal.user:
            await self._authorizer.authorize(principal, Permission.REVIEW, project_id)
        request = Request.of(project_id, request_id, "revert", principal.user, annotation_id)

        def change(now: Annotation) -> Change:
            if now.state is AnnotationState.REVERTED:
                raise FailedPrecondition(
                    "ALREADY_REVERTED", f"{now.name} was reverted before; there is nothing to do"
                )
            return Change(replace(now, state=AnnotationState.REVERTED), Action.REVERTED)

        after = await self._annotations.change(project_id, annotation_id, principal.user, request, change)
        self._projector.wake()
        return after

    async def review(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        annotation_id: str,
        accepted: bool,
        comment: str,
        request_id: str,
    ) -> Annotation:
        """Accept or reject an annotation; the last review counts."""
        await self._authorizer.authorize(principal, Permission.REVIEW, project_id)
        check_text("comment", comment, 0, 10_000)
        if not accepted and not comment.strip():
            raise InvalidArgument(
                "COMMENT_MISSING", "a rejection needs a comment that tells the annotator why"
            )
        await self._annotations.get(project_id, volume_id, annotation_id)
        request = Request.of(
            project_id, request_id, "review", principal.user, annotation_id, str(accepted), comment
        )

        def change(now: Annotation) -> Change:
            if now.state is AnnotationState.REVERTED:
                raise FailedPrecondition(
                    "ALREADY_REVERTED", f"{now.name} was taken back; there is nothing to review"
                )
            state = AnnotationState.ACCEPTED if accepted else AnnotationState.REJECTED
            after = replace(now, state=state, review_comment=comment)
            return Change(after, Action.REVIEWED, accepted, comment)

        after = await self._annotations.change(project_id, annotation_id, principal.user, request, change)
        self._projector.wake()
        return after

    async def compare(
        self, principal: Principal, project_id: str, volume_id: str, first_id: str, second_id: str
    ) -> Comparison:
        """Compare two annotations of a volume where both say something."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        first = await self._annotations.get(project_id, volume_id, first_id)
        second = await self._annotations.get(project_id, volume_id, second_id)
        async with self._comparing:
            blocks = [await self._objects.get(each.key) for each in (first, second)]

            def work() -> Comparison:
                one, other = (decode_block(*each) for each in zip(blocks, (first, second), strict=True))
                return compare(first, one, second, other)

            if first.region.size + second.region.size <= INLINE_BYTES:
                return work()
            return await asyncio.to_thread(work)

    async def end_lease(
        self, principal: Principal, project_id: str, sample: str, term: int, successor: str, name: str
    ) -> None:
        """Refuse commits with leases of a sample whose number is below `term`; PermissionDenied SAMPLER_ONLY."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        if (principal.kind, principal.subject) != (Kind.SERVICE, "sampler"):
            raise PermissionDenied(
                "SAMPLER_ONLY", f"{principal} is not the sampler; take a lease over with TakeOverLease"
            )
        await self._ended_leases.put(EndedLease(project_id, sample, term, successor, name))

    async def records(
        self,
        principal: Principal,
        project_id: str,
        after_sequence: int,
        page_size: int,
        volume_id: str = "",
        region: Region | None = None,
    ) -> Sequence[Record]:
        """What happened in a project after a record, in order; to a volume, or to a region of it."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        if region is not None and not volume_id:
            raise InvalidArgument("BAD_PARENT", "a region needs a volume: projects/{p}/volumes/{v}")
        page = PageRequest.of(page_size, "", largest=1000, default=200)
        return await self._annotations.records(
            project_id, max(0, after_sequence), page.size, volume_id, region
        )
