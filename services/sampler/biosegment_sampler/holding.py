"""The use cases of samples that were given out: renewing, leaving, setting aside, asking, coming back, taking over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from biosegment.auth import Permission, Principal
from biosegment.errors import Conflict, FailedPrecondition, InvalidArgument, PermissionDenied
from biosegment.failpoint import failpoint
from biosegment_sampler.desk import (
    Desk,
    SampleView,
    existing,
    require_free,
    require_not_lost,
    require_still_open,
)
from biosegment_sampler.domain.annotation import AnnotationState
from biosegment_sampler.domain.lease import Claimant, Clocks
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.review import Review
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.leasing import earlier_annotation
from biosegment_sampler.ports import Datastore, Ledger, Transaction
from biosegment_sampler.returning import revived

MAX_TEXT: Final = 1000
MAX_NAMED: Final = 100


@dataclass(frozen=True, slots=True)
class Lost:
    """A sample that a client believed to hold: who has it now, '' for nobody, and what to tell the user."""

    sample_id: str
    holder: str
    notice: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a session holds, and what of it is lost."""

    samples: Sequence[SampleView]
    reviews: Sequence[Review]
    lost: Sequence[Lost]


class HoldingService:
    """What holders and others do with samples that were given out."""

    def __init__(self, ledger: Ledger, datastore: Datastore, desk: Desk) -> None:
        self._ledger = ledger
        self._datastore = datastore
        self._desk = desk

    async def renew(
        self, principal: Principal, project_id: str, sample_id: str, idle: bool = False
    ) -> SampleView:
        """Extend the caller's lease; an expired one too, when nobody took or labelled the region since.

        Raises:
            FailedPrecondition: LEASE_LOST (metadata: holder), LEASE_IDLE.
        """
        user = (await self._desk.claimant(principal, project_id)).user
        pool = await self._desk.catch_up(project_id)

        async def change(transaction: Transaction) -> tuple[Sample, float]:
            now = self._desk.clock()
            sample = await existing(transaction, project_id, sample_id)
            renewed = sample.renewed(user, now, pool.settings.clocks, idle=idle)
            if not sample.held_by(user, now):
                await require_not_lost(transaction, sample, user, now)
            await transaction.put_samples([renewed])
            return renewed, now

        renewed, now = await self._ledger.write_at_once(project_id, change)
        return self._desk.view(renewed, user, now)

    async def renew_session(
        self, principal: Principal, project_id: str, session: str, active: bool, believed: Sequence[str]
    ) -> SessionView:
        """Extend all that the caller holds in a session, and what ran out and nobody took.

        Without `active` only until the user has done nothing for too long.

        Args:
            principal: A user who may annotate.
            project_id: Project.
            session: Window.
            active: The user did something; else only the connection lives.
            believed: Ids of samples that the client believes to hold.

        Raises:
            InvalidArgument: BAD_SESSION, TOO_MANY_SAMPLES.
        """
        who = await self._desk.claimant(principal, project_id, session, heartbeat=True)
        if len(believed) > MAX_NAMED:
            raise InvalidArgument("TOO_MANY_SAMPLES", f"{len(believed)} samples; at most {MAX_NAMED}")
        clocks = (await self._desk.catch_up(project_id)).settings.clocks

        async def change(transaction: Transaction) -> SessionView:
            now = self._desk.clock()
            kept = await _kept(transaction, who, clocks, now, idle=not active)
            await transaction.put_samples(kept)
            reviews = [
                replace(each, lease=each.lease.renewed(now, clocks, idle=not active))
                for each in await transaction.room.reviews(now)
                if (each.lease.holder, each.lease.session) == (who.user, session)
                if active or not each.lease.is_idle(now, clocks)
            ]
            await transaction.room.put_reviews(reviews)
            missing = [each for each in believed if each not in {sample.sample_id for sample in kept}]
            lost = [await _lost(transaction, each, who.user, now) for each in missing]
            return SessionView([self._desk.view(sample, who.user, now) for sample in kept], reviews, lost)

        return await self._ledger.write_at_once(project_id, change)

    async def leave(self, principal: Principal, project_id: str, session: str) -> tuple[list[str], list[str]]:
        """Give back all that the caller holds in a session; returns ids of samples and names of annotations."""
        who = await self._desk.claimant(principal, project_id, session)
        await self._desk.catch_up(project_id)

        async def change(transaction: Transaction) -> tuple[list[Sample], list[str]]:
            now = self._desk.clock()
            held = [
                each for each in await transaction.room.resumable(who.user, 0.0) if each.held_in(who, now)
            ]
            released = [sample.released(who.user, now) for sample in held]
            await transaction.put_samples(released)
            reviews = [
                each.annotation.name
                for each in await transaction.room.reviews(now)
                if (each.lease.holder, each.lease.session) == (who.user, session)
            ]
            await transaction.room.drop_reviews(reviews)
            failpoint("sampler.leave.before_commit")
            return released, reviews

        released, reviews = await self._ledger.write_at_once(project_id, change)
        for sample in released:
            await self._end_given_back(sample)
        return [sample.sample_id for sample in released], reviews

    async def release(self, principal: Principal, project_id: str, sample_id: str) -> SampleView:
        """Give a sample back. Raises FailedPrecondition LEASE_LOST, SAMPLE_ANNOTATED, SAMPLE_FLAGGED."""
        return await self._change(principal, project_id, sample_id, Sample.released)

    async def skip(self, principal: Principal, project_id: str, sample_id: str, reason: str) -> SampleView:
        """Set a sample aside. Raises InvalidArgument BAD_REASON, FailedPrecondition as `release`."""
        _check_text("BAD_REASON", "reason", reason, "say why")
        return await self._change(
            principal, project_id, sample_id, lambda sample, user, now: sample.skipped(user, now, reason)
        )

    async def flag(self, principal: Principal, project_id: str, sample_id: str, text: str) -> SampleView:
        """Ask about a sample. Raises InvalidArgument BAD_TEXT, FailedPrecondition LEASE_LOST, SAMPLE_FLAGGED."""
        _check_text("BAD_TEXT", "text", text, "say what to discuss")
        return await self._change(
            principal, project_id, sample_id, lambda sample, user, now: sample.flagged(user, now, text)
        )

    async def unflag(self, principal: Principal, project_id: str, sample_id: str, answer: str) -> SampleView:
        """Answer a question. Raises InvalidArgument BAD_TEXT, FailedPrecondition NOT_FLAGGED."""
        _check_text("BAD_TEXT", "answer", answer, "give an answer")
        return await self._change(
            principal, project_id, sample_id, lambda sample, user, now: sample.unflagged(user, now, answer)
        )

    async def resume(
        self, principal: Principal, project_id: str, sample_id: str, session: str, heartbeat: bool
    ) -> SampleView:
        """Lease an earlier sample again, with the annotation to go on from.

        Raises:
            PermissionDenied: NOT_YOUR_ANNOTATION.
            FailedPrecondition: LEASE_LOST, REGION_TAKEN, SAMPLE_FLAGGED.
        """
        who = await self._desk.claimant(principal, project_id, session, heartbeat)
        clocks = (await self._desk.catch_up(project_id)).settings.clocks
        may_review = await self._desk.may(principal, Permission.REVIEW, project_id)
        async with self._ledger.write(project_id) as transaction:
            now = self._desk.clock()
            sample = await existing(transaction, project_id, sample_id)
            resumed = sample.resumed(who, now, clocks)
            if not sample.held_by(who.user, now):
                if sample.annotation and not may_review:
                    await _require_author(transaction, sample, who.user)
                if sample.state_at(now) in (SampleState.OPEN, SampleState.SKIPPED):
                    await require_still_open(transaction, sample, now)
                place = VolumeRegion(sample.volume_id, sample.region)
                await require_free(transaction, place, who.user, now)
            await transaction.put_samples([resumed])
            earlier = await earlier_annotation(transaction, resumed, who.user, now)
        return self._desk.view(resumed, who.user, now, earlier)

    async def take_over(
        self, principal: Principal, project_id: str, sample_id: str, session: str, heartbeat: bool
    ) -> SampleView:
        """Take a lease from its holder, whose tokens the datastore refuses from then on.

        First the term grows, then the datastore ends the smaller ones, then the holder changes: a process that dies in
        between leaves the sample with its holder, who gets tokens of the new term by renewing. A commit that was faster
        is in the feed before the holder changes. With the holder the term grows again, and tokens that the former one
        got in between are ended, too; who repeats the call makes up for a process that died before that.

        Raises:
            FailedPrecondition: NOT_HELD, SAMPLE_ANNOTATED when the holder was faster.
            Conflict: TAKEN_OVER_MEANWHILE when somebody else takes it over at the same time.
        """
        who = await self._desk.claimant(
            principal, project_id, session, heartbeat, permission=Permission.PROJECT_UPDATE
        )
        clocks = (await self._desk.catch_up(project_id)).settings.clocks
        async with self._ledger.write(project_id) as transaction:
            now = self._desk.clock()
            sample = await existing(transaction, project_id, sample_id)
            is_mine = sample.held_by(who.user, now)
            announced = sample.resumed(who, now, clocks) if is_mine else sample.announced(who.user, now)
            await transaction.put_samples([announced])
        if is_mine:
            await self._end_older(announced, who)
            return self._desk.view(announced, who.user, now)
        failpoint("sampler.take_over.announced")
        await self._end_older(announced, who)
        failpoint("sampler.take_over.ended")
        await self._desk.catch_up(project_id)
        async with self._ledger.write(project_id) as transaction:
            now = self._desk.clock()
            sample = await existing(transaction, project_id, sample_id)
            _require_announced(sample, announced)
            annotations = await transaction.annotations_of_sample(sample_id)
            is_author = any(each.author == who.user and each.state.holds for each in annotations)
            taken = sample.taken_over(who, now, clocks, is_author=is_author)
            await transaction.put_samples([taken])
            failpoint("sampler.take_over.before_commit")
            earlier = await earlier_annotation(transaction, taken, who.user, now)
        failpoint("sampler.take_over.taken")
        await self._end_older(taken, who)
        return self._desk.view(taken, who.user, now, earlier)

    async def _end_given_back(self, sample: Sample) -> None:
        """Have tokens refused that were given out before the sample was given back.

        Afterwards, unlike when it is taken over: until then whoever held it can at worst commit in their own name. Who
        repeats a call that failed in between makes up for it.
        """
        if sample.term and sample.lease is None:
            await self._datastore.end_lease(sample.name, sample.term, "", "")

    async def _end_older(self, sample: Sample, who: Claimant) -> None:
        """Have tokens of smaller terms refused."""
        if sample.term:
            await self._datastore.end_lease(sample.name, sample.term, who.user, who.name)

    async def _change(
        self,
        principal: Principal,
        project_id: str,
        sample_id: str,
        change: Callable[[Sample, str, float], Sample],
    ) -> SampleView:
        user = (await self._desk.claimant(principal, project_id)).user
        await self._desk.catch_up(project_id)

        async def work(transaction: Transaction) -> tuple[Sample, float]:
            now = self._desk.clock()
            changed = change(await existing(transaction, project_id, sample_id), user, now)
            await transaction.put_samples([changed])
            return changed, now

        changed, now = await self._ledger.write_at_once(project_id, work)
        await self._end_given_back(changed)
        return self._desk.view(changed, user, now)


def _check_text(reason: str, what: str, text: str, advice: str) -> None:
    if not 1 <= len(text.strip()) <= MAX_TEXT:
        raise InvalidArgument(reason, f"a {what} of {len(text)} characters; {advice} in 1 to {MAX_TEXT}")


async def _kept(
    transaction: Transaction, who: Claimant, clocks: Clocks, now: float, *, idle: bool
) -> list[Sample]:
    """What a session holds or held, prolonged; without what is lost."""
    kept = []
    for sample in await transaction.room.resumable(who.user, now - clocks.activity_s):
        if sample.lease is not None and sample.lease.session == who.session:
            back = await revived(transaction, sample, who, clocks, now, idle=idle)
            kept += [back] if back is not None else []
    return kept


async def _require_author(transaction: Transaction, sample: Sample, user: str) -> None:
    annotations = await transaction.annotations_of_sample(sample.sample_id)
    # Of a sample that two are to annotate, the one whose annotation was rejected may do better while the other's holds.
    if not any(
        each.author == user
        and (each.state.holds or (sample.wants_second and each.state is AnnotationState.REJECTED))
        for each in annotations
    ):
        author = annotations[-1].author if annotations else ""
        raise PermissionDenied(
            "NOT_YOUR_ANNOTATION",
            f"{author} annotated {sample.name}; only they and reviewers may correct it. Flag it instead",
        )


def _require_announced(sample: Sample, announced: Sample) -> None:
    """The sample is still what was to be taken over."""
    if sample.lease is None:
        reason = "SAMPLE_ANNOTATED" if sample.annotation else "NOT_HELD"
        raise FailedPrecondition(
            reason, f"its holder was faster: {sample.name} is {sample.state} now; resume it"
        )
    if sample.term != announced.term:
        raise Conflict(
            "TAKEN_OVER_MEANWHILE", f"{sample.name} went to somebody else at this moment; look who has it"
        )


async def _lost(transaction: Transaction, sample_id: str, user: str, now: float) -> Lost:
    sample = await transaction.sample(sample_id)
    if sample is None:
        return Lost(sample_id, "", f"there is no sample {sample_id}")
    if sample.held_by(user, now):
        return Lost(sample_id, user, f"you hold {sample.name} in another window; resume it to have it here")
    try:
        sample.renewed(user, now, Clocks(0.0, 0.0))
        await require_not_lost(transaction, sample, user, now)
    except FailedPrecondition as error:
        return Lost(sample_id, error.metadata.get("holder", ""), error.message)
    return Lost(sample_id, "", f"your lease of {sample.name} ran out; resume it if nobody took it")
