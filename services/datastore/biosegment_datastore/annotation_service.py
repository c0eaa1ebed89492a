"""What callers may do with annotations."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import jwt

from biosegment.auth import Authorizer, Permission, Principal, PrincipalVerifier
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
)
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.storage.objects import Objects
from biosegment.volume import Index, Region
from biosegment_datastore.annotation import (
    Action,
    Annotation,
    AnnotationState,
    Lease,
    NewAnnotation,
    Record,
    block_stream,
    complete_scope,
    count_labels,
    decode_block,
    decode_labels,
    encode_block,
)
from biosegment_datastore.clock import now_us
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.project import check_text
from biosegment_datastore.projector import Projector
from biosegment_datastore.request import Request
from biosegment_datastore.sql_annotation import Change, SqlAnnotations
from biosegment_datastore.sql_project import SqlProjects
from biosegment_datastore.sql_volume import SqlVolumes

_INLINE_VOXELS = 1 << 18
"""Larger label blocks are decoded in a thread, so that others need not wait."""

_NOT_STORED = (AlreadyExists, Conflict, NotFound, ResourceExhausted)
"""After these no row was written for certain."""


class AnnotationService:
    """Annotations for those who ask.

    Args:
        annotations: The rows.
        projects: The rows of projects.
        volumes: The rows of volumes.
        authorizer: Decides who may do what.
        objects: Where label blocks are kept.
        verifier: Checks the sampler's signature of leases.
        projector: Told of new records.
    """

    def __init__(
        self,
        annotations: SqlAnnotations,
        projects: SqlProjects,
        volumes: SqlVolumes,
        authorizer: Authorizer,
        objects: Objects,
        verifier: PrincipalVerifier,
        projector: Projector,
    ) -> None:
        self._annotations = annotations
        self._projects = projects
        self._volumes = volumes
        self._authorizer = authorizer
        self._objects = objects
        self._verifier = verifier
        self._projector = projector

    async def commit(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        new: NewAnnotation,
        data: bytes,
        is_zlib: bool,
        lease_token: str,
        request_id: str,
        base_sequence: int | None,
    ) -> Annotation:
        """Make an annotation; it is durable when this returns. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        if not request_id:
            raise InvalidArgument(
                "BAD_REQUEST_ID", "a commit needs a request_id, so that it can be repeated; send a UUID"
            )
        # Without the lease token: after LEASE_EXPIRED the same request comes again with a renewed one.
        what = (principal.user, volume_id, repr(new), data, str(is_zlib), str(base_sequence))
        request = Request.of(project_id, request_id, "commit", *what)
        earlier = await self._annotations.replayed(project_id, request)
        if earlier is not None:
            return earlier
        draft, block = await self._draft(principal, project_id, volume_id, new, data, is_zlib, lease_token)
        await self._objects.put(draft.key, block)
        failpoint("datastore.annotation.block_written")
        try:
            stored = await self._annotations.commit(draft, base_sequence, request)
        except _NOT_STORED:
            with contextlib.suppress(BiosegmentError):
                await self._objects.delete(draft.key)
            raise
        failpoint("datastore.annotation.row_written")
        self._projector.wake()
        return stored

    async def get(
        self, principal: Principal, project_id: str, volume_id: str, annotation_id: str, with_labels: bool
    ) -> tuple[Annotation, bytes]:
        """One annotation, and its labels as a zlib stream when asked for."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        found = await self._annotations.get(project_id, volume_id, annotation_id)
        if not with_labels:
            return found, b""
        block = await self._objects.get(found.key)
        await _aside(found.region.size, decode_block, block, found)
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

    async def records(
        self, principal: Principal, project_id: str, after_sequence: int, page_size: int
    ) -> Sequence[Record]:
        """What happened in a project after a record, in order."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        await self._projects.get(project_id)
        page = PageRequest.of(page_size, "", largest=1000, default=200)
        return await self._annotations.records(project_id, max(0, after_sequence), page.size)

    async def _draft(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        new: NewAnnotation,
        data: bytes,
        is_zlib: bool,
        lease_token: str,
    ) -> tuple[Annotation, bytes]:
        project = await self._projects.get(project_id)
        volume = await self._volumes.get(project_id, volume_id)
        new.region.require_within(volume.shape, volume.name)
        scope = complete_scope(new.class_scope, project.class_values)
        check_text("comment", new.comment, 0, 10_000)
        if not (math.isfinite(new.work_time_s) and new.work_time_s >= 0):
            raise InvalidArgument("BAD_WORK_TIME", f"work_time_s {new.work_time_s} is not a duration")
        lease = self._lease(principal, volume.name, new, lease_token)
        counts, digest, block = await _aside(new.region.size, _packed, data, is_zlib, new.region, scope)
        annotation_id = new_id()
        draft = Annotation(
            project_id=project_id,
            volume_id=volume_id,
            id=annotation_id,
            sequence=0,
            region=new.region,
            kind=new.kind,
            class_scope=scope,
            author=principal.user,
            create_time_us=now_us(),
            sample=new.sample,
            strategy=lease.strategy if lease else "",
            model=lease.model if lease else "",
            work_time_s=new.work_time_s,
            labels_sha256=digest,
            voxel_counts=counts,
            comment=new.comment,
            key=f"{project.storage_key}/annotations/{annotation_id}",
        )
        return draft, block

    def _lease(self, principal: Principal, volume_name: str, new: NewAnnotation, token: str) -> Lease | None:
        if not new.sample:
            return None
        if not token:
            raise InvalidArgument(
                "LEASE_MISSING", f"answering {new.sample} needs the lease_token that its claim gave"
            )
        try:
            claims = self._verifier.verify_claims(token, "sampler")
        except Unauthenticated as error:
            if isinstance(error.__cause__, jwt.ExpiredSignatureError):
                raise FailedPrecondition(
                    "LEASE_EXPIRED",
                    f"the lease of {new.sample} has expired; renew it and commit again, nothing is lost",
                ) from error
            raise InvalidArgument(
                "BAD_LEASE", "the lease_token is not one that the sampler gave; claim again"
            ) from error
        lease = _read_lease(claims)
        lease.check(principal.user, volume_name, new)
        return lease


def _read_lease(claims: dict[str, Any]) -> Lease:
    try:
        start, stop = claims["region"]
        return Lease(
            holder=str(claims["sub"]),
            sample=str(claims["sample"]),
            volume=str(claims["volume"]),
            region=Region(Index(*map(int, start)), Index(*map(int, stop))),
            strategy=str(claims.get("strategy") or ""),
            model=str(claims.get("model") or ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument("BAD_LEASE", f"the lease_token lacks a valid claim: {error}") from error


def _packed(
    data: bytes, is_zlib: bool, region: Region, scope: Collection[int]
) -> tuple[dict[int, int], str, bytes]:
    labels = decode_labels(data, is_zlib, region)
    counts = count_labels(labels, scope)
    return counts, hashlib.sha256(labels.tobytes()).hexdigest(), encode_block(labels)


async def _aside(voxels: int, call: Any, *args: Any) -> Any:
    return call(*args) if voxels <= _INLINE_VOXELS else await asyncio.to_thread(call, *args)
