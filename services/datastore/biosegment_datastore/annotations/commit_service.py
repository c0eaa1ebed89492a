"""How annotations are made: label blocks first, then the records, many at a time.

Commits that arrive together share what costs most: reading what they stand on, flushing folders and files to the disk,
and the transaction. Each is acknowledged only when its label block and its row are durable, and fails by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from biosegment.expiring import Expiring
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.storage.objects import Objects
from biosegment_datastore.annotations.annotation import Annotation, NewAnnotation
from biosegment_datastore.annotations.batcher import Batcher
from biosegment_datastore.annotations.intake import Intake, take_in
from biosegment_datastore.annotations.leasing import LeaseVerifier
from biosegment_datastore.annotations.projector import Projector
from biosegment_datastore.request import Request
from biosegment_datastore.sql.commit import Commit, Ground, Place, SqlCommits

_NOT_STORED = (AlreadyExists, Conflict, FailedPrecondition, NotFound, ResourceExhausted)
"""After these no row was written for certain."""


_KNOWN_S = 60.0
"""Commits upon what is remembered are checked again in their transaction."""

_GATHER_S = 0.02


@dataclass(frozen=True, slots=True)
class _Sent:
    principal: Principal
    request: Request
    new: NewAnnotation
    data: bytes
    is_zlib: bool
    lease_token: str
    base_sequence: int | None
    draft_id: str


class CommitService:
    """Makes annotations for those who may.

    Args:
        commits: The rows.
        authorizer: Decides who may do what.
        objects: Where label blocks are kept.
        leases: Checks the sampler's signature of leases.
        projector: Told of new records.
    """

    def __init__(
        self,
        commits: SqlCommits,
        authorizer: Authorizer,
        objects: Objects,
        leases: LeaseVerifier,
        projector: Projector,
    ) -> None:
        self._authorizer = authorizer
        self._objects = objects
        self._leases = leases
        self._projector = projector
        self._look: Batcher[Place, Ground] = Batcher(commits.look)
        self._known: Expiring[tuple[str, str], Ground] = Expiring(_KNOWN_S, 1024)
        self._put: Batcher[tuple[str, bytes], None] = Batcher(self._put_many, gather_s=_GATHER_S)
        self._commit: Batcher[Commit, Annotation] = Batcher(commits.commit_many)

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
        draft_id: str = "",
    ) -> Annotation:
        """Make an annotation; it is durable when this returns. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        if not request_id:
            raise InvalidArgument(
                "BAD_REQUEST_ID", "a commit needs a request_id, so that it can be repeated; send a UUID"
            )
        # Without the lease token: after LEASE_EXPIRED the same request comes again with a renewed one.
        what = (principal.user, volume_id, repr(new), data, str(is_zlib), str(base_sequence), draft_id)
        request = Request.of(project_id, request_id, "commit", *what)
        sent = _Sent(principal, request, new, data, is_zlib, lease_token, base_sequence, draft_id)
        ground = self._known.peek((project_id, volume_id))
        if ground is not None:
            try:
                return await self._commit_upon(ground, sent, is_known=True)
            except Unavailable:
                raise
            except BiosegmentError:
                # It may be a repeated request, or what is remembered may have changed: so look.
                self._known.forget_all()
        ground = await self._look(Place(project_id, volume_id, request))
        if ground.earlier is not None:
            return ground.earlier
        self._known.put((project_id, volume_id), ground)
        return await self._commit_upon(ground, sent, is_known=False)

    async def _commit_upon(self, ground: Ground, sent: _Sent, is_known: bool) -> Annotation:
        lease = self._leases.check(sent.principal.user, ground.volume.name, sent.new, sent.lease_token)
        taken = await take_in(sent.new, sent.data, sent.is_zlib, ground.project, ground.volume)
        strategy, model, term = (lease.strategy, lease.model, lease.term) if lease else ("", "", 0)
        annotation = _annotation(sent.principal, ground, sent.new, taken, strategy, model)
        await self._put((annotation.key, taken.block))
        failpoint("datastore.annotation.block_written")
        checked = ground if is_known else None
        try:
            stored = await self._commit(
                Commit(annotation, sent.request, sent.base_sequence, sent.draft_id, checked, term)
            )
        except _NOT_STORED:
            await self._drop(annotation)
            raise
        failpoint("datastore.annotation.row_written")
        if stored.id != annotation.id:  # the same request, at the same time
            await self._drop(annotation)
        self._projector.wake()
        return stored

    async def _put_many(self, blocks: Sequence[tuple[str, bytes]]) -> Sequence[None]:
        await self._objects.put_many(blocks)
        return [None] * len(blocks)

    async def _drop(self, annotation: Annotation) -> None:
        with contextlib.suppress(BiosegmentError):
            await self._objects.delete(annotation.key)


def _annotation(
    principal: Principal, ground: Ground, new: NewAnnotation, taken: Intake, strategy: str, model: str
) -> Annotation:
    annotation_id = new_id()
    return Annotation(
        project_id=ground.project.id,
        volume_id=ground.volume.id,
        id=annotation_id,
        sequence=0,
        region=new.region,
        kind=new.kind,
        class_scope=taken.scope,
        author=principal.user,
        create_time_us=0,
        sample=new.sample,
        strategy=strategy,
        model=model,
        work_time_s=new.work_time_s,
        labels_sha256=taken.sha256,
        voxel_counts=taken.voxel_counts,
        comment=new.comment,
        key=f"{ground.project.storage_key}/annotations/{annotation_id}",
    )
