"""The use cases of samples: claiming, choosing, renewing, releasing, skipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.auth import Authorizer, Kind, Permission, Principal, PrincipalSigner
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unimplemented
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.volume import Region
from biosegment_sampler.claim import take_batch
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.pool import (
    MAX_SAMPLE_VOXELS,
    Pool,
    StrategyShare,
    VolumeGeometry,
    VolumeRegion,
)
from biosegment_sampler.domain.sample import CHOSEN, Sample, SampleState
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.ports import Clock, Datastore, Ledger, Occupied, Receipt, Transaction
from biosegment_sampler.proposal import Proposer
from biosegment_sampler.service import PoolService, volumes_of
from biosegment_sampler.strategies import find_strategy

MAX_CLAIM: Final = 100
MAX_REASON: Final = 1000


@dataclass(frozen=True, slots=True)
class SampleView:
    """A sample as it is `now`, with the token of its lease when the reader holds it."""

    sample: Sample
    now: float
    token: str = ""


class LeasingService:
    """Samples. Two annotators never hold overlapping ones: who takes a region looks and writes in one transaction."""

    def __init__(
        self,
        ledger: Ledger,
        datastore: Datastore,
        pools: PoolService,
        feed: AnnotationFeed,
        proposer: Proposer,
        authorizer: Authorizer,
        signer: PrincipalSigner,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._datastore = datastore
        self._pools = pools
        self._feed = feed
        self._proposer = proposer
        self._authorizer = authorizer
        self._signer = signer
        self._clock = clock

    async def claim(
        self,
        principal: Principal,
        project_id: str,
        *,
        count: int = 1,
        strategy: str = "",
        volume_id: str = "",
        request_id: str = "",
    ) -> tuple[list[SampleView], str]:
        """Lease the best samples to the caller, their unfinished ones first; also returns a notice.

        Args:
            principal: A user who may annotate.
            project_id: Project.
            count: 1..100.
            strategy: Instead of the pool's.
            volume_id: Only from this volume.
            request_id: The same one gets the same samples again.

        Raises:
            InvalidArgument: BAD_COUNT, UNKNOWN_STRATEGY, UNKNOWN_VOLUME.
        """
        user = await self._annotator(principal, project_id)
        if not 1 <= count <= MAX_CLAIM:
            raise InvalidArgument("BAD_COUNT", f"count {count} is not in 1..{MAX_CLAIM}")
        if strategy:
            find_strategy(strategy)
        pool = await self._feed.pull(await self._pools.ensure(project_id))
        volumes = volumes_of(pool, list(await self._datastore.volumes(project_id)))
        if volume_id:
            volumes = [_find(volumes, volume_id)]
        shares = (StrategyShare(strategy, 1.0),) if strategy else pool.settings.strategies
        proposal = await self._proposer.propose(pool, volumes, shares)
        async with self._ledger.write(project_id) as transaction:
            replayed = await self._replay(transaction, user, request_id)
            if replayed is not None:
                return replayed
            pool = await transaction.pool() or pool
            now = self._clock()
            samples, notice = await take_batch(transaction, pool, proposal, user, count, volume_id, now)
            if request_id:
                names = tuple(sample.sample_id for sample in samples)
                await transaction.put_receipt(user, request_id, Receipt(names, notice))
            failpoint("sampler.claim.before_commit")
        failpoint("sampler.claim.after_commit")
        return [self._view(sample, user, now) for sample in samples], notice

    async def choose(
        self, principal: Principal, project_id: str, volume_id: str, region: Region, request_id: str
    ) -> SampleView:
        """Lease a region of the caller's own choice to them; labelled and skipped ones may be chosen too.

        Raises:
            InvalidArgument: REGION_OUT_OF_BOUNDS, REGION_TOO_LARGE, UNKNOWN_VOLUME.
            FailedPrecondition: REGION_TAKEN (metadata: holder, sample).
        """
        user = await self._annotator(principal, project_id)
        pool = await self._feed.pull(await self._pools.ensure(project_id))
        volume = _find(list(await self._datastore.volumes(project_id)), volume_id)
        region.require_within(volume.shape, f"volume {volume_id}")
        if region.size > MAX_SAMPLE_VOXELS:
            raise InvalidArgument(
                "REGION_TOO_LARGE", f"region {region} has {region.size} voxels; at most {MAX_SAMPLE_VOXELS}"
            )
        place = VolumeRegion(volume_id, region)
        async with self._ledger.write(project_id) as transaction:
            replayed = await self._replay(transaction, user, request_id)
            if replayed is not None and replayed[0]:
                return replayed[0][0]
            now = self._clock()
            _require_free(await transaction.occupied(now), place, user)
            sample = Sample(
                sample_id=new_id(),
                project_id=project_id,
                volume_id=volume_id,
                region=region,
                state=SampleState.LEASED,
                strategy=CHOSEN,
                created_at=now,
                lease=Lease(user, now, now + pool.settings.lease_duration_s),
                notice=_excluded_notice(pool, place),
            )
            await transaction.put_samples([sample])
            if request_id:
                await transaction.put_receipt(user, request_id, Receipt((sample.sample_id,)))
            failpoint("sampler.claim.before_commit")
        failpoint("sampler.claim.after_commit")
        return self._view(sample, user, now)

    async def get(self, principal: Principal, project_id: str, sample_id: str) -> SampleView:
        """Raises NotFound SAMPLE_NOT_FOUND."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        await self._catch_up(project_id)
        async with self._ledger.read(project_id) as transaction:
            sample = await _existing(transaction, project_id, sample_id)
        return self._view(sample, _reader(principal), self._clock())

    async def list_samples(
        self,
        principal: Principal,
        project_id: str,
        states: frozenset[SampleState],
        holder: str,
        before: str,
        limit: int,
    ) -> Sequence[SampleView]:
        """Samples with ids below `before` ('' for all), newest first, at most `limit`."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        await self._catch_up(project_id)
        now = self._clock()
        async with self._ledger.read(project_id) as transaction:
            found = await transaction.list_samples(states, holder, before, limit, now)
        return [self._view(sample, _reader(principal), now) for sample in found]

    async def renew(self, principal: Principal, project_id: str, sample_id: str) -> SampleView:
        """Extend the caller's lease; an expired one too, when nobody took or labelled the region since.

        Raises:
            FailedPrecondition: LEASE_LOST (metadata: holder).
        """
        user = await self._annotator(principal, project_id)
        pool = await self._catch_up(project_id)
        async with self._ledger.write(project_id) as transaction:
            now = self._clock()
            sample = await _existing(transaction, project_id, sample_id)
            renewed = sample.renewed(user, now, pool.settings.lease_duration_s)
            if not sample.held_by(user, now):
                _require_not_lost(await transaction.occupied(now), sample, user)
            await transaction.put_samples([renewed])
        return self._view(renewed, user, now)

    async def release(self, principal: Principal, project_id: str, sample_id: str) -> SampleView:
        """Give a sample back. Raises FailedPrecondition LEASE_LOST, SAMPLE_ANNOTATED."""
        user = await self._annotator(principal, project_id)
        await self._catch_up(project_id)
        async with self._ledger.write(project_id) as transaction:
            now = self._clock()
            sample = (await _existing(transaction, project_id, sample_id)).released(user, now)
            await transaction.put_samples([sample])
        return self._view(sample, user, now)

    async def skip(self, principal: Principal, project_id: str, sample_id: str, reason: str) -> SampleView:
        """Set a sample aside. Raises InvalidArgument BAD_REASON, FailedPrecondition LEASE_LOST, SAMPLE_ANNOTATED."""
        user = await self._annotator(principal, project_id)
        if not 1 <= len(reason.strip()) <= MAX_REASON:
            raise InvalidArgument(
                "BAD_REASON", f"a reason of {len(reason)} characters; say why in 1 to {MAX_REASON}"
            )
        await self._catch_up(project_id)
        async with self._ledger.write(project_id) as transaction:
            now = self._clock()
            sample = (await _existing(transaction, project_id, sample_id)).skipped(user, now, reason)
            await transaction.put_samples([sample])
        return self._view(sample, user, now)

    async def take_over(self, principal: Principal, project_id: str, sample_id: str) -> SampleView:
        """Not in this release."""
        await self._authorizer.authorize(principal, Permission.REVIEW, project_id)
        raise Unimplemented(
            "TAKE_OVER_LEASE",
            f"this release cannot take over the lease of {sample_id}; ask its holder to release it or wait",
        )

    async def _annotator(self, principal: Principal, project_id: str) -> str:
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        if not principal.user:
            raise PermissionDenied("USERS_ONLY", f"{principal} is no user; only users hold samples")
        return principal.user

    async def _catch_up(self, project_id: str) -> Pool:
        return await self._feed.pull(await self._pools.ensure(project_id))

    async def _replay(
        self, transaction: Transaction, user: str, request_id: str
    ) -> tuple[list[SampleView], str] | None:
        receipt = await transaction.receipt(user, request_id) if request_id else None
        if receipt is None:
            return None
        found = [await transaction.sample(sample_id) for sample_id in receipt.results]
        now = self._clock()
        return [self._view(sample, user, now) for sample in found if sample is not None], receipt.notice

    def _view(self, sample: Sample, reader: str, now: float) -> SampleView:
        if not (reader and sample.held_by(reader, now) and sample.lease):
            return SampleView(sample, now)
        region = sample.region
        claims: dict[str, object] = {
            "sub": reader,
            "sample": sample.name,
            "volume": sample.volume,
            "region": [list(region.start), list(region.stop)],
            "strategy": sample.strategy,
            "model": sample.model,
            "iat": int(sample.lease.issued_at),
            "exp": int(sample.lease.expires_at),
        }
        return SampleView(sample, now, self._signer.sign_claims(claims, "datastore"))


def _reader(principal: Principal) -> str:
    """The user who reads; '' for services, also when they act for the holder of a lease: its token is not theirs."""
    return principal.subject if principal.kind is Kind.USER else ""


def _excluded_notice(pool: Pool, place: VolumeRegion) -> str:
    if any(
        part.volume_id == place.volume_id and part.region.overlaps(place.region)
        for part in pool.settings.excluded
    ):
        return "this region touches a part that the pool excludes, for example one that is held out for evaluation."
    return ""


def _find(volumes: Sequence[VolumeGeometry], volume_id: str) -> VolumeGeometry:
    for volume in volumes:
        if volume.volume_id == volume_id:
            return volume
    known = ", ".join(volume.volume_id for volume in volumes) or "none"
    raise InvalidArgument(
        "UNKNOWN_VOLUME", f"volume {volume_id!r} is not one to sample from; those are: {known}"
    )


async def _existing(transaction: Transaction, project_id: str, sample_id: str) -> Sample:
    sample = await transaction.sample(sample_id)
    if sample is None:
        raise NotFound("SAMPLE_NOT_FOUND", f"there is no sample {sample_id!r} in project {project_id!r}")
    return sample


def _require_free(occupied: Occupied, place: VolumeRegion, user: str) -> None:
    for sample in occupied.leased:
        if _overlaps_for_other(sample, place, user):
            assert sample.lease is not None
            raise FailedPrecondition(
                "REGION_TAKEN",
                f"region {place.region} overlaps {sample.name} {sample.region}, which {sample.lease.holder} holds; "
                "choose another region or wait",
                holder=sample.lease.holder,
                sample=sample.name,
            )


def _require_not_lost(occupied: Occupied, sample: Sample, user: str) -> None:
    place = VolumeRegion(sample.volume_id, sample.region)
    holders = [
        other.lease.holder
        for other in occupied.leased
        if other.lease is not None and _overlaps_for_other(other, place, user)
    ]
    since = sample.lease.issued_at if sample.lease else 0.0
    authors = [
        item.author
        for item in occupied.labelled
        if item.volume_id == place.volume_id
        and item.region.overlaps(place.region)
        and item.created_at >= since
        and item.author != user
    ]
    for other in (*holders, *authors):
        raise FailedPrecondition(
            "LEASE_LOST",
            f"the lease of {sample.name} ran out, and {other} took the region meanwhile; claim another sample",
            holder=other,
        )


def _overlaps_for_other(sample: Sample, place: VolumeRegion, user: str) -> bool:
    return (
        sample.volume_id == place.volume_id
        and sample.region.overlaps(place.region)
        and sample.lease is not None
        and sample.lease.holder != user
    )
