"""Taking a batch of samples, inside of one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment_sampler.board import Board
from biosegment_sampler.domain.annotation import Committed
from biosegment_sampler.domain.exhaustion import Exhaustion
from biosegment_sampler.domain.lease import Claimant, Lease
from biosegment_sampler.domain.pool import Pool, VolumeRegion
from biosegment_sampler.domain.sample import WHOLE, Sample, SampleState
from biosegment_sampler.domain.selection import Pick, pick
from biosegment_sampler.feed import News, apply_records
from biosegment_sampler.ports import Clock, Receipt, Transaction
from biosegment_sampler.premise import Premise
from biosegment_sampler.proposal import Proposal
from biosegment_sampler.returning import lease_second, take_back
from biosegment_sampler.strategies import COLD_START, find_strategy


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim has got.

    Attributes:
        samples: Best first.
        notice: For the annotator, or ''.
        end: Why there are not more, when there are fewer than wanted.
        now: Unix time in s when it was taken.
        premise: As it was then.
    """

    samples: Sequence[Sample]
    notice: str
    end: Exhaustion | None
    now: float
    premise: Premise


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody asks for.

    Attributes:
        who: Claims.
        count: At most so many samples.
        volume_id: Only from this volume, '' for all.
        volumes: Those that are there; what lies in others was deleted with them.
        request_id: The same one gets the same samples again; '' for none.
        may_review: They have the permission to review.
        is_dealt: The shares of the pool choose the strategies, not they themselves.
    """

    who: Claimant
    count: int
    volume_id: str
    volumes: frozenset[str]
    request_id: str
    may_review: bool
    is_dealt: bool = True

    async def take(
        self,
        transaction: Transaction,
        premise: Premise,
        news: News,
        board: Board,
        proposal: Proposal,
        clock: Clock,
    ) -> Taken | None:
        """Take samples, and write that; None when the premise does not hold any more, or news change what is open.

        Args:
            transaction: Writes; nothing was done in it yet.
            premise: What the proposal was made from.
            news: To be applied first.
            board: What is taken.
            proposal: What to choose from.
            clock: Unix time in s.
        """
        with board.lock:
            # First of all, before this transaction's own changes: they may never be committed.
            changes = await board.catch_up(transaction, is_writing=True)
            now = clock()
            current = await transaction.pool_since(premise.pool)
            if current is None or not premise.holds(current, changes.scores):
                return None
            if not _changes_nothing_open(news, current, board, now):
                return None
            if news.records:
                current = await apply_records(transaction, current, news.records)
            premise = Premise(current, changes.scores)
            replayed = await replay(transaction, self.who.user, self.request_id)
            if replayed is not None:
                samples, notice = replayed
                end = await self._end(transaction, current, samples, now)
                return Taken(samples, notice, end, now, premise)
            await take_back(transaction, current, self.who, self.volumes, self.count, now)
            await lease_second(transaction, current, self.who, self.volumes, self.count, now)
            taken, notice = await take_batch(transaction, current, board, proposal, self, now)
        end = await self._end(transaction, current, taken, now)
        if end is not None and proposal.field.grids:
            notice = f"{notice} {end.notice(len(taken), self.count)}".strip()
        if self.request_id:
            receipt = Receipt(tuple(sample.sample_id for sample in taken), notice)
            await transaction.put_receipt(self.who.user, self.request_id, receipt)
        failpoint("sampler.claim.before_commit")
        return Taken(taken, notice, end, now, premise)

    async def _end(
        self, transaction: Transaction, pool: Pool, taken: Sequence[Sample], now: float
    ) -> Exhaustion | None:
        if len(taken) >= self.count:
            return None
        counts = await transaction.room.counts(self.who.user, self.volumes, now)
        limited = bool(pool.settings.volumes or self.volume_id)
        excluded = len(pool.settings.excluded)
        has_new = any(sample.created_at == now for sample in taken)
        # Of a request that is answered again, some may have been given up since.
        in_hand = sum(sample.held_in(self.who, now) for sample in taken)
        return Exhaustion(counts, self.who.user, self.may_review, excluded, limited, has_new, in_hand)


async def replay(transaction: Transaction, user: str, request_id: str) -> tuple[list[Sample], str] | None:
    """Samples and notice that were the answer to a request before; None when it is new."""
    receipt = await transaction.receipt(user, request_id) if request_id else None
    if receipt is None:
        return None
    found = [await transaction.sample(sample_id) for sample_id in receipt.results]
    return [sample for sample in found if sample is not None], receipt.notice


async def take_batch(
    transaction: Transaction, pool: Pool, board: Board, proposal: Proposal, claim: Claim, now: float
) -> tuple[list[Sample], str]:
    """Renew the leases of the user's session and add new samples up to the claim's count; writes them.

    The board is as it was when the transaction began; what was put in it since counts too.
    """
    written, who = transaction.written, claim.who
    lapsed = [sample for sample in board.lapse(now) if sample.sample_id not in written]
    leased = [
        sample
        for sample in sorted({**board.leased, **written}.values(), key=_by_rank)
        if sample.state is SampleState.LEASED
    ]
    clocks = pool.settings.clocks
    own = [
        sample.renewed(who.user, now, clocks)
        for sample in leased
        if sample.held_in(who, now) and sample.volume_id in claim.volumes
    ][: claim.count]
    picks = pick(
        board.occupancy.view(claim.volume_id),
        proposal.rankings,
        proposal.shares,
        claim.count - len(own),
        first=board.dealt,
        reserve=COLD_START.name,
        also_taken=[
            VolumeRegion(each.volume_id, each.region) for each in leased if each.sample_id in written
        ],
    )
    lease = Lease.begin(who, now, clocks)
    new = [
        _sample(pool, proposal, each, rank, lease, now, claim.is_dealt)
        for rank, each in enumerate(picks, len(own) + 1)
    ]
    await transaction.put_samples([*lapsed, *own, *new])
    return [*own, *new], _notice(proposal, len(new))


def _changes_nothing_open(news: News, pool: Pool, board: Board, now: float) -> bool:
    """Whether all that is new answers samples that are held: their places were taken before, and are afterwards."""
    if pool.loop.watermark < news.after:
        return False  # the database was put back
    for record in news.records:
        if record.sequence <= pool.loop.watermark:
            continue
        held = board.leased.get(record.annotation.sample_id) if isinstance(record, Committed) else None
        if held is None or held.state_at(now) is not SampleState.LEASED:
            return False
    return True


def _by_rank(sample: Sample) -> tuple[float, int, str]:
    return sample.created_at, sample.rank, sample.sample_id


def _sample(
    pool: Pool, proposal: Proposal, pick: Pick, rank: int, lease: Lease, now: float, is_dealt: bool
) -> Sample:
    strategy = find_strategy(pick.strategy)
    layer = proposal.layers.get((strategy.shown, pick.volume_id))
    sample_id = new_id()
    return Sample(
        sample_id=sample_id,
        project_id=pool.project_id,
        volume_id=pick.volume_id,
        region=pick.region,
        state=SampleState.LEASED,
        strategy=pick.strategy,
        created_at=now,
        score=pick.score,
        rank=rank,
        model="" if strategy.cold_start else proposal.model,
        score_layer=layer.name if layer else "",
        score_downsampling=layer.downsampling if layer else WHOLE,
        seed=pool.settings.seed,
        lease=lease,
        notice=proposal.notice,
        wants_second=pool.settings.wants_second(sample_id),
        dealt=is_dealt,
    )


def _notice(proposal: Proposal, new: int) -> str:
    if not proposal.field.grids:
        return "there is no volume to sample from: import one, or name another in the pool."
    return proposal.notice if new else ""
