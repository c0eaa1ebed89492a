"""What every use case of samples begins and ends with: who asks, what has happened meanwhile, what they may see."""

from __future__ import annotations

import math
from dataclasses import dataclass

from biosegment.auth import Authorizer, Kind, Permission, Principal, PrincipalSigner
from biosegment.errors import FailedPrecondition, NotFound, PermissionDenied
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.lease import Claimant
from biosegment_sampler.domain.pool import Pool, VolumeRegion
from biosegment_sampler.domain.sample import CHOSEN, Sample, SampleState
from biosegment_sampler.feed import AnnotationFeed, News
from biosegment_sampler.ports import Clock, Transaction
from biosegment_sampler.service import PoolService


@dataclass(frozen=True, slots=True)
class SampleView:
    """A sample as a reader sees it `now`.

    Attributes:
        sample: The sample.
        now: Unix time in s.
        token: Of its lease, when the reader holds it.
        is_mine: The reader holds it.
        is_blind: The reader annotates it a second time: nothing of the first annotation is shown.
        earlier: Name of an annotation to load and go on from, or ''.
    """

    sample: Sample
    now: float
    token: str = ""
    is_mine: bool = False
    is_blind: bool = False
    earlier: str = ""


class Desk:
    """Where annotators come to."""

    def __init__(
        self,
        pools: PoolService,
        feed: AnnotationFeed,
        authorizer: Authorizer,
        signer: PrincipalSigner,
        clock: Clock,
    ) -> None:
        self._pools = pools
        self._feed = feed
        self._authorizer = authorizer
        self._signer = signer
        self.clock = clock

    async def claimant(
        self,
        principal: Principal,
        project_id: str,
        session: str = "",
        heartbeat: bool = False,
        permission: Permission = Permission.ANNOTATE,
    ) -> Claimant:
        """The user who asks; PermissionDenied USERS_ONLY when nobody does, and those of `authorize`."""
        await self._authorizer.authorize(principal, permission, project_id)
        if not principal.user:
            raise PermissionDenied("USERS_ONLY", f"{principal} is no user; only users hold samples")
        name = principal.display_name if principal.kind is Kind.USER else ""
        return Claimant(principal.user, name or principal.user, session, heartbeat)

    async def reader(self, principal: Principal, project_id: str) -> str:
        """The user who reads; '' for services, also when they act for a user: a lease's token is not theirs."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return principal.subject if principal.kind is Kind.USER else ""

    async def may(self, principal: Principal, permission: Permission, project_id: str) -> bool:
        """Whether the caller has a permission, too."""
        try:
            await self._authorizer.authorize(principal, permission, project_id)
        except PermissionDenied:
            return False
        return True

    async def catch_up(self, project_id: str) -> Pool:
        """The pool, with all annotation records applied that there are now."""
        return await self.apply_records(await self._pools.ensure(project_id))

    async def apply_records(self, pool: Pool) -> Pool:
        """As `catch_up`, for who has the pool; its settings are as old as those of `pool` when there are no records."""
        return await self._feed.pull(pool)

    async def news(self, pool: Pool) -> News | None:
        """Records to be applied with what the caller writes; None when they are better applied by `apply_records`."""
        return await self._feed.news(pool)

    def view(self, sample: Sample, reader: str, now: float, earlier: str = "") -> SampleView:
        """What a user sees of a sample; '' for nobody in particular."""
        if not (reader and sample.held_by(reader, now) and sample.lease):
            return SampleView(sample, now, earlier=earlier)
        region = sample.region
        claims: dict[str, object] = {
            "sub": reader,
            "sample": sample.name,
            "volume": sample.volume,
            "region": [list(region.start), list(region.stop)],
            "strategy": sample.strategy,
            "model": sample.model,
            "term": sample.term,
            "iat": int(sample.lease.issued_at),
            "exp": int(sample.lease.expires_at),
        }
        token = self._signer.sign_claims(claims, "datastore")
        return SampleView(sample, now, token, True, sample.hides_annotation_from(reader, now), earlier)


async def existing(transaction: Transaction, project_id: str, sample_id: str) -> Sample:
    """NotFound SAMPLE_NOT_FOUND."""
    sample = await transaction.sample(sample_id)
    if sample is None:
        raise NotFound("SAMPLE_NOT_FOUND", f"there is no sample {sample_id!r} in project {project_id!r}")
    return sample


async def require_free(transaction: Transaction, place: VolumeRegion, user: str, now: float) -> None:
    """FailedPrecondition REGION_TAKEN when somebody else holds an overlapping sample."""
    for sample in await transaction.room.held_by_others(place, user, now):
        raise _taken(place, sample)


async def require_still_open(transaction: Transaction, sample: Sample, now: float) -> None:
    """FailedPrecondition REGION_TAKEN when anybody, the caller too, took or labelled its region while it was open.

    Its windows were candidates meanwhile: who went on in it would draw the same place a second time. From when it was
    set aside they were none, and what was drawn there since was drawn on purpose.
    """
    is_aside = sample.state_at(now) is SampleState.SKIPPED
    until = sample.set_aside_at if is_aside else math.inf
    place = VolumeRegion(sample.volume_id, sample.region)
    for other in await transaction.room.held_by_others(place, "", now):
        if other.taken_at < until:
            raise _taken(place, other)
    # Nothing was labelled where a sample was proposed; somebody may have chosen a region that was.
    since = sample.created_at if sample.strategy == CHOSEN else 0.0
    for each in await transaction.room.annotated_since(place, since):
        if each.created_at < until:
            was = "open before it was set aside" if is_aside else "open"
            raise FailedPrecondition(
                "REGION_TAKEN",
                f"{sample.name} was {was}, and {each.author} annotated {each.region} meanwhile ({each.name}); claim "
                "another sample, or choose the region to label it once more",
                holder="",
                sample=_answered(sample, each),
            )


async def require_not_lost(transaction: Transaction, sample: Sample, user: str, now: float) -> None:
    """FailedPrecondition LEASE_LOST when the region of a lease that ran out was taken or labelled meanwhile.

    By anybody else; and by `user` as another sample, once the lease had ended. What they took or labelled besides while
    it lived, they meant to.
    """
    lease, place = sample.lease, VolumeRegion(sample.volume_id, sample.region)
    assert lease is not None
    others = [
        each.lease.holder for each in await transaction.room.held_by_others(place, user, now) if each.lease
    ]
    annotated = await transaction.room.annotated_since(place, lease.issued_at)
    others += [each.author for each in annotated if each.author != user]
    for other in others:
        raise FailedPrecondition(
            "LEASE_LOST",
            f"the lease of {sample.name} ran out, and {other} took the region meanwhile; claim another sample",
            holder=other,
        )
    for each in annotated:
        if await _is_later(transaction, each, sample, lease.expires_at):
            name = _answered(sample, each)
            raise FailedPrecondition(
                "LEASE_LOST",
                f"the lease of {sample.name} ran out, and you annotated it meanwhile as {name or each.name}; claim "
                "another sample, or choose the region to label it once more",
                holder=user,
                sample=name,
            )
    # Also what ran out since: the last one that they took is the one to go on in.
    for mine in await transaction.room.resumable(user, lease.expires_at):
        overlaps = mine.volume_id == sample.volume_id and mine.region.overlaps(sample.region)
        if overlaps and mine.sample_id != sample.sample_id and mine.taken_at >= lease.expires_at:
            raise FailedPrecondition(
                "LEASE_LOST",
                f"the lease of {sample.name} ran out, and you took its region meanwhile as {mine.name}; go on there",
                holder=user,
                sample=mine.name,
            )


async def _is_later(transaction: Transaction, annotation: Annotation, sample: Sample, moment: float) -> bool:
    """Whether an annotation does not answer a sample, but was made, or the sample that it answers, since a moment."""
    if annotation.sample_id == sample.sample_id:
        return False
    if annotation.created_at >= moment:
        return True
    # By this service's clock: the one that tells when annotations were made may be behind it.
    answered = await transaction.sample(annotation.sample_id) if annotation.sample_id else None
    return answered is not None and answered.created_at >= moment


def _answered(sample: Sample, annotation: Annotation) -> str:
    """Name of the sample that an annotation of the same project answers, or ''."""
    return annotation.sample_id and f"projects/{sample.project_id}/samples/{annotation.sample_id}"


def _taken(place: VolumeRegion, sample: Sample) -> FailedPrecondition:
    assert sample.lease is not None
    return FailedPrecondition(
        "REGION_TAKEN",
        f"region {place.region} overlaps {sample.name} {sample.region}, which {sample.lease.holder_text} holds; "
        "go on there, choose another region, or wait until it is free",
        holder=sample.lease.holder,
        sample=sample.name,
    )
