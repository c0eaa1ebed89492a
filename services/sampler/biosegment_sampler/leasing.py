"""The use cases of getting samples and looking at them: claiming, choosing, getting, listing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from biosegment.auth import Permission, Principal
from biosegment.errors import InvalidArgument
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.volume import Region
from biosegment_sampler.board import Boards
from biosegment_sampler.claim import Claim, Taken, replay
from biosegment_sampler.desk import Desk, SampleView, existing, require_free
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.domain.exhaustion import Exhaustion
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.pool import (
    MAX_SAMPLE_VOXELS,
    Pool,
    StrategyShare,
    VolumeGeometry,
    VolumeRegion,
)
from biosegment_sampler.domain.sample import CHOSEN, Sample, SampleState
from biosegment_sampler.feed import News
from biosegment_sampler.ports import Ledger, Receipt, Transaction
from biosegment_sampler.premise import Premise, Premises
from biosegment_sampler.service import check_request_id
from biosegment_sampler.standing import Question, StandingProposals
from biosegment_sampler.strategies import find_strategy

MAX_CLAIM: Final = 100


class LeasingService:
    """Samples. Two annotators never hold overlapping ones: who takes a region looks and writes in one transaction."""

    def __init__(
        self,
        ledger: Ledger,
        directory: VolumeDirectory,
        boards: Boards,
        proposals: StandingProposals,
        premises: Premises,
        desk: Desk,
    ) -> None:
        self._ledger = ledger
        self._premises = premises
        self._directory = directory
        self._boards = boards
        self._proposals = proposals
        self._desk = desk

    async def claim(
        self,
        principal: Principal,
        project_id: str,
        *,
        count: int = 1,
        strategy: str = "",
        volume_id: str = "",
        request_id: str = "",
        session: str = "",
        heartbeat: bool = False,
    ) -> tuple[list[SampleView], str, Exhaustion | None]:
        """Lease the best samples to the caller, their unfinished ones first.

        Args:
            principal: A user who may annotate.
            project_id: Project.
            count: 1..100.
            strategy: Instead of the pool's.
            volume_id: Only from this volume.
            request_id: The same one gets the same samples again.
            session: Window; those of the user's other living windows are left alone.
            heartbeat: The client will send heartbeats.

        Returns:
            Samples, best first, a notice, and why there are not more when there are fewer than `count`.

        Raises:
            InvalidArgument: BAD_COUNT, BAD_REQUEST_ID, BAD_SESSION, UNKNOWN_STRATEGY, UNKNOWN_VOLUME.
        """
        who = await self._desk.claimant(principal, project_id, session, heartbeat)
        check_count(count)
        check_request_id(request_id)
        shares = (StrategyShare(find_strategy(strategy).name, 1.0),) if strategy else ()
        may_review = await self._desk.may(principal, Permission.REVIEW, project_id)
        premise = await self._premises.get(project_id)
        # First, because it may look anew which volumes there are.
        await self._field(premise.pool, volume_id)
        volumes = await self._directory.present(project_id, volume_id)
        claim = Claim(who, count, volume_id, volumes, request_id, may_review, not strategy)
        news = await self._desk.news(premise.pool)
        taken = await self._take(claim, premise, news, shares) if news is not None else None
        while taken is None:
            premise = await self._premises.read(project_id)
            premise = replace(premise, pool=await self._desk.apply_records(premise.pool))
            taken = await self._take(claim, premise, News(premise.pool.loop.watermark), shares)
        self._premises.put(taken.premise)
        failpoint("sampler.claim.after_commit")
        views = [self._desk.view(sample, who.user, taken.now) for sample in taken.samples]
        return views, taken.notice, taken.end

    async def _take(
        self, claim: Claim, premise: Premise, news: News, shares: Sequence[StrategyShare]
    ) -> Taken | None:
        """Propose and take; None when the premise or the news do not allow it."""
        pool = premise.pool
        field = await self._field(pool, claim.volume_id)
        proposal = await self._proposals.proposal(
            Question(pool, premise.scores, field, shares or pool.settings.strategies, claim.volume_id)
        )
        if news.records and proposal.follows_annotations:
            return None
        take = partial(
            claim.take,
            premise=premise,
            news=news,
            board=await self._boards.board(pool, field),
            proposal=proposal,
            clock=self._desk.clock,
        )
        # No annotator waits for the disk: a power cut costs leases of the last seconds, and who held them claims again.
        return await self._ledger.write_at_once(pool.project_id, take, lazily=True)

    async def _field(self, pool: Pool, volume_id: str) -> CandidateField:
        """All candidates of a pool, among them those of a volume; InvalidArgument UNKNOWN_VOLUME."""
        field = await self._directory.field(pool)
        for fresh in (False, True):
            known = [grid.volume_id for grid in field.grids]
            if not volume_id or volume_id in known:
                return field
            if not fresh:
                field = await self._directory.field(pool, fresh=True)
        raise _unknown(volume_id, known)

    async def choose(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        region: Region,
        request_id: str,
        session: str = "",
        heartbeat: bool = False,
    ) -> SampleView:
        """Lease a region of the caller's own choice to them; labelled and skipped ones may be chosen too.

        Raises:
            InvalidArgument: REGION_OUT_OF_BOUNDS, REGION_TOO_LARGE, UNKNOWN_VOLUME, BAD_SESSION.
            FailedPrecondition: REGION_TAKEN (metadata: holder, sample).
        """
        who = await self._desk.claimant(principal, project_id, session, heartbeat)
        check_request_id(request_id)
        pool = await self._desk.catch_up(project_id)
        place = await self._place(project_id, volume_id, region)

        async def take(transaction: Transaction) -> tuple[Sample, float]:
            now = self._desk.clock()
            replayed = await replay(transaction, who.user, request_id)
            if replayed is not None and replayed[0]:
                return replayed[0][0], now
            await require_free(transaction, place, who.user, now)
            sample = Sample(
                sample_id=new_id(),
                project_id=project_id,
                volume_id=volume_id,
                region=region,
                state=SampleState.LEASED,
                strategy=CHOSEN,
                created_at=now,
                lease=Lease.begin(who, now, pool.settings.clocks),
                notice=_excluded_notice(pool, place),
            )
            await transaction.put_samples([sample])
            if request_id:
                await transaction.put_receipt(who.user, request_id, Receipt((sample.sample_id,)))
            failpoint("sampler.claim.before_commit")
            return sample, now

        sample, now = await self._ledger.write_at_once(project_id, take)
        failpoint("sampler.claim.after_commit")
        return self._desk.view(sample, who.user, now)

    async def _place(self, project_id: str, volume_id: str, region: Region) -> VolumeRegion:
        """Raises InvalidArgument UNKNOWN_VOLUME, REGION_OUT_OF_BOUNDS, REGION_TOO_LARGE."""
        volume = await self._volume(project_id, volume_id)
        region.require_within(volume.shape, f"volume {volume_id}")
        if region.size > MAX_SAMPLE_VOXELS:
            raise InvalidArgument(
                "REGION_TOO_LARGE", f"region {region} has {region.size} voxels; at most {MAX_SAMPLE_VOXELS}"
            )
        return VolumeRegion(volume_id, region)

    async def _volume(self, project_id: str, volume_id: str) -> VolumeGeometry:
        for fresh in (False, True):
            volumes = await self._directory.volumes(project_id, fresh)
            for volume in volumes:
                if volume.volume_id == volume_id:
                    return volume
        raise _unknown(volume_id, [volume.volume_id for volume in volumes])

    async def get(self, principal: Principal, project_id: str, sample_id: str) -> SampleView:
        """Raises NotFound SAMPLE_NOT_FOUND."""
        reader = await self._desk.reader(principal, project_id)
        await self._desk.catch_up(project_id)
        now = self._desk.clock()
        async with self._ledger.read(project_id) as transaction:
            sample = await existing(transaction, project_id, sample_id)
            earlier = await earlier_annotation(transaction, sample, reader, now)
        return self._desk.view(sample, reader, now, earlier)

    async def list_samples(
        self,
        principal: Principal,
        project_id: str,
        states: frozenset[SampleState],
        holder: str,
        before: str,
        limit: int,
        user: str = "",
        flagged: bool = False,
    ) -> Sequence[SampleView]:
        """Samples with ids below `before` ('' for all), newest first, at most `limit`."""
        reader = await self._desk.reader(principal, project_id)
        await self._desk.catch_up(project_id)
        now = self._desk.clock()
        async with self._ledger.read(project_id) as transaction:
            found = await transaction.list_samples(states, holder, before, limit, now, user, flagged)
        return [self._desk.view(sample, reader, now) for sample in found]


def check_count(count: int) -> None:
    """InvalidArgument BAD_COUNT unless that many can be claimed at once."""
    if not 1 <= count <= MAX_CLAIM:
        raise InvalidArgument("BAD_COUNT", f"count {count} is not in 1..{MAX_CLAIM}")


async def earlier_annotation(transaction: Transaction, sample: Sample, user: str, now: float) -> str:
    """What a user may load to go on from: their own last annotation, else the one that they correct; '' for none."""
    annotations = await transaction.annotations_of_sample(sample.sample_id)
    own = [each.name for each in annotations if each.author == user]
    if own or not sample.held_by(user, now) or sample.hides_annotation_from(user, now):
        return own[-1] if own else ""
    return sample.annotation


def _excluded_notice(pool: Pool, place: VolumeRegion) -> str:
    if any(
        part.volume_id == place.volume_id and part.region.overlaps(place.region)
        for part in pool.settings.excluded
    ):
        return "this region touches a part that the pool excludes, for example one that is held out for evaluation."
    return ""


def _unknown(volume_id: str, known: Iterable[str]) -> InvalidArgument:
    return InvalidArgument(
        "UNKNOWN_VOLUME",
        f"volume {volume_id!r} is not one to sample from; those are: {', '.join(known) or 'none'}",
    )
