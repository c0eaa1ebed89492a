"""What a claimant gets before anything new is proposed: their unfinished samples, and those for a second annotator."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from biosegment.errors import FailedPrecondition
from biosegment_sampler.desk import require_not_lost
from biosegment_sampler.domain.event import SEEING
from biosegment_sampler.domain.lease import Claimant, Clocks, Purpose
from biosegment_sampler.domain.pool import Pool, VolumeRegion
from biosegment_sampler.domain.sample import Sample
from biosegment_sampler.ports import Transaction

_LOOKED_AT: Final = 500


async def take_back(
    transaction: Transaction, pool: Pool, who: Claimant, volumes: Collection[str], count: int, now: float
) -> None:
    """Lease to this window what its user had in windows that are dead, up to `count` samples with what it has.

    Only what lies in `volumes`. A window is dead when its leases have run out; one that lives keeps its own. Clients
    that do not say which window they are keep what they had, and nothing moves to or from them.
    """
    if not who.session:
        return
    mine = await transaction.room.resumable(who.user, now - pool.settings.clocks.activity_s)
    mine = [sample for sample in mine if sample.volume_id in volumes]
    has = sum(sample.held_in(who, now) for sample in mine)
    dead = [sample for sample in mine if _is_dead(sample, who, now)][: max(0, count - has)]
    back = [await revived(transaction, sample, who, pool.settings.clocks, now) for sample in dead]
    await transaction.put_samples(sample for sample in back if sample is not None)


async def revived(
    transaction: Transaction, sample: Sample, who: Claimant, clocks: Clocks, now: float, *, idle: bool = False
) -> Sample | None:
    """The sample with its user's lease prolonged, in the window of `who`; None when it is lost."""
    assert sample.lease is not None
    try:
        if not sample.held_by(who.user, now):
            await require_not_lost(transaction, sample, who.user, now)
        moved = replace(sample, lease=sample.lease.moved(who, now))
        return moved.renewed(who.user, now, clocks, idle=idle)
    except FailedPrecondition:
        return None


async def lease_second(
    transaction: Transaction, pool: Pool, who: Claimant, volumes: Collection[str], count: int, now: float
) -> None:
    """Lease annotated samples of `volumes` to a second annotator, up to `count` with what they hold in this window."""
    if not pool.settings.second_annotator_share:
        return
    leased = await transaction.samples_leased()
    has = sum(sample.held_in(who, now) and sample.volume_id in volumes for sample in leased)
    wanted = count - has
    if wanted <= 0:
        return
    for sample in await transaction.room.wanting_second(who.user, volumes, _LOOKED_AT):
        place = VolumeRegion(sample.volume_id, sample.region)
        has_seen = any(each.user == who.user and each.action in SEEING for each in sample.events)
        if has_seen or await transaction.room.held_by_others(place, who.user, now):
            continue
        await transaction.put_samples([sample.leased(who, now, pool.settings.clocks, Purpose.SECOND)])
        wanted -= 1
        if not wanted:
            return


def _is_dead(sample: Sample, who: Claimant, now: float) -> bool:
    lease = sample.lease
    if lease is None or not lease.session or sample.held_in(who, now):
        return False
    return now >= lease.expires_at
