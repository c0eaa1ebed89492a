"""Taking a batch of samples, inside of one transaction."""

from __future__ import annotations

from biosegment.ids import new_id
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.pool import Pool, VolumeRegion
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.domain.selection import Pick, select
from biosegment_sampler.ports import Occupied, Transaction
from biosegment_sampler.proposal import Proposal
from biosegment_sampler.strategies import COLD_START, find_strategy


async def take_batch(
    transaction: Transaction,
    pool: Pool,
    proposal: Proposal,
    user: str,
    count: int,
    volume_id: str,
    now: float,
) -> tuple[list[Sample], str]:
    """Renew the user's own leases and add new samples up to `count`; writes them."""
    leased = await transaction.samples_leased()
    await transaction.put_samples(
        sample.expired() for sample in leased if sample.state_at(now) is SampleState.OPEN
    )
    duration_s = pool.settings.lease_duration_s
    own = [
        sample.renewed(user, now, duration_s)
        for sample in leased
        if sample.held_by(user, now) and volume_id in ("", sample.volume_id)
    ][:count]
    occupied = await transaction.occupied(now)
    picks = select(
        proposal.field,
        proposal.rankings,
        proposal.shares,
        count - len(own),
        taken=taken_regions(pool, occupied),
        near=_near(occupied),
        slice_distance=pool.settings.slice_distance,
        chosen_before=await transaction.chosen_counts(),
        reserve=COLD_START.name,
    )
    lease = Lease(user, now, now + duration_s)
    new = [_sample(pool, proposal, pick, rank, lease, now) for rank, pick in enumerate(picks, len(own) + 1)]
    await transaction.put_samples([*own, *new])
    samples = [*own, *new]
    return samples, _notice(proposal, len(own), len(new), count)


def _sample(pool: Pool, proposal: Proposal, pick: Pick, rank: int, lease: Lease, now: float) -> Sample:
    measures = find_strategy(pick.strategy).measures
    return Sample(
        sample_id=new_id(),
        project_id=pool.project_id,
        volume_id=pick.volume_id,
        region=pick.region,
        state=SampleState.LEASED,
        strategy=pick.strategy,
        created_at=now,
        score=pick.score,
        rank=rank,
        model=proposal.model if measures else "",
        score_layer=proposal.layers.get((measures[0], pick.volume_id), "") if measures else "",
        seed=pool.settings.seed,
        lease=lease,
        notice=proposal.notice,
    )


def _near(occupied: Occupied) -> list[VolumeRegion]:
    """What the scores do not know of yet."""
    return [
        *(VolumeRegion(sample.volume_id, sample.region) for sample in occupied.leased),
        *(
            VolumeRegion(item.volume_id, item.region)
            for item in occupied.labelled
            if not item.in_latest_model
        ),
    ]


def _notice(proposal: Proposal, own: int, new: int, count: int) -> str:
    parts = []
    if new or not own:
        parts.append(proposal.notice)
    if not proposal.field.grids:
        parts.append("there is no volume to sample from: import one, or name another in the pool.")
    elif own + new < count:
        parts.append(
            f"{own + new} of {count} samples: the rest of the pool is labelled, held, skipped or excluded; wait, "
            "release skipped samples, or choose a region of your own."
        )
    return " ".join(part for part in parts if part)


def taken_regions(pool: Pool, occupied: Occupied) -> list[VolumeRegion]:
    """What no new sample may touch."""
    return [
        *(VolumeRegion(sample.volume_id, sample.region) for sample in occupied.leased),
        *(VolumeRegion(item.volume_id, item.region) for item in occupied.labelled),
        *occupied.skipped,
        *pool.settings.excluded,
    ]
