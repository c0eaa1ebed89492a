"""Following the datastore's feed of annotation records."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from biosegment.failpoint import failpoint
from biosegment_sampler.domain.annotation import Annotation, Committed, Record, Reverted
from biosegment_sampler.domain.event import Action, Event
from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.ports import Datastore, Ledger, Transaction

_PAGE: Final = 500
_FEW: Final = 20


@dataclass(frozen=True, slots=True)
class News:
    """Records that may not be applied yet.

    Attributes:
        after: Number of the record before the first of them.
        records: In order; some may have been applied meanwhile.
    """

    after: int
    records: Sequence[Record] = ()


class AnnotationFeed:
    """Applies records to samples and labelled regions, each exactly once.

    The number of the last applied record is written in the same transaction as what the record changed, so that a
    process that dies anywhere goes on at the right place.
    """

    def __init__(self, ledger: Ledger, datastore: Datastore) -> None:
        self._ledger = ledger
        self._datastore = datastore
        self._next: dict[str, asyncio.Task[Pool]] = {}
        self._asking: dict[str, asyncio.Task[News]] = {}
        self._questions: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def pull(self, pool: Pool) -> Pool:
        """Apply all records that there are now; returns the pool as it is then.

        Whoever comes while one is under way waits for the next one, and all of them share it.

        Raises:
            Unavailable: The datastore cannot be reached.
            NotFound: PROJECT_NOT_FOUND.
        """
        waiting = self._next.get(pool.project_id)
        if waiting is None:
            waiting = self._next[pool.project_id] = asyncio.create_task(self._pull(pool))
        pulled = await asyncio.shield(waiting)
        # Who came first may have read older settings.
        return pulled if pulled.revision >= pool.revision else replace(pool, loop=pulled.loop)

    async def news(self, pool: Pool) -> News | None:
        """What `pull` would apply now, for who does so in a transaction of their own; None when it is too much.

        As there, whoever comes while one question is under way shares the next one. Errors as there.
        """
        waiting = self._asking.get(pool.project_id)
        if waiting is None:
            waiting = self._asking[pool.project_id] = asyncio.create_task(self._ask(pool))
        news = await asyncio.shield(waiting)
        return news if len(news.records) <= _FEW else None

    async def _ask(self, pool: Pool) -> News:
        async with self._questions[pool.project_id]:
            self._asking.pop(pool.project_id)
            after = pool.loop.watermark
            return News(after, await self._datastore.records(pool.project_id, after, _FEW + 1))

    async def _pull(self, pool: Pool) -> Pool:
        async with self._turns[pool.project_id]:
            self._next.pop(pool.project_id)
            watermark = pool.loop.watermark
            while True:
                records = await self._datastore.records(pool.project_id, watermark, _PAGE)
                if records:
                    pool = await self._apply(pool, records)
                    watermark = pool.loop.watermark
                if len(records) < _PAGE:
                    return pool

    async def _apply(self, pool: Pool, records: Sequence[Record]) -> Pool:
        # What a power cut loses of it is pulled again.
        applied = await self._ledger.write_at_once(
            pool.project_id, lambda transaction: _apply_since(transaction, pool, records), lazily=True
        )
        failpoint("sampler.feed.applied")
        return applied


async def _apply_since(transaction: Transaction, pool: Pool, records: Sequence[Record]) -> Pool:
    return await apply_records(transaction, await transaction.pool_since(pool) or pool, records)


async def apply_records(transaction: Transaction, current: Pool, records: Sequence[Record]) -> Pool:
    """Apply those of some records that were not applied yet to the `current` pool; returns it as it is then."""
    latest = current.loop.last_annotation_at
    for record in records:
        # Another process may have been faster.
        if record.sequence > current.loop.watermark:
            latest = max(latest, await _apply_record(transaction, record))
    watermark = max(current.loop.watermark, records[-1].sequence)
    await transaction.follow(watermark, latest)
    return replace(current, loop=replace(current.loop, watermark=watermark, last_annotation_at=latest))


async def _apply_record(transaction: Transaction, record: Record) -> float:
    """Apply one record; returns the time of the annotation that it brought, 0 when none."""
    if isinstance(record, Committed):
        new = record.annotation
        await transaction.put_annotation(new)
        await _settle_sample(transaction, new, Event(new.created_at, new.author, Action.ANNOTATED, new.name))
        return new.created_at
    before = await transaction.annotation(record.annotation)
    if before is None:
        return 0.0
    if isinstance(record, Reverted):
        after = before.reverted()
        event = Event(record.time, record.author, Action.REVERTED, before.name)
    else:
        after = before.reviewed(record.accepted)
        action = Action.ACCEPTED if record.accepted else Action.REJECTED
        event = Event(record.time, record.author, action, record.comment)
    await transaction.put_annotation(after)
    await transaction.room.drop_reviews([after.name])
    await _settle_sample(transaction, after, event)
    return 0.0


async def _settle_sample(transaction: Transaction, changed: Annotation, event: Event) -> None:
    """Bring the state of the answered sample in line with the annotations that hold for it."""
    sample = await transaction.sample(changed.sample_id) if changed.sample_id else None
    if sample is None:
        return
    annotations = await transaction.annotations_of_sample(sample.sample_id)
    if event.action is Action.ANNOTATED:
        # Nobody need judge what its author has corrected.
        await transaction.room.drop_reviews(
            item.name
            for item in annotations
            if item.author == changed.author and item.sequence < changed.sequence
        )
    holding = [item for item in annotations if item.state.holds]
    last = holding[-1].name if holding else ""
    committed_by = changed.author if event.action is Action.ANNOTATED else ""
    settled = sample.settled(last, len({item.author for item in holding}), committed_by)
    noted = settled.noted(event.time, event.user, event.action, event.text)
    await transaction.put_samples([noted])
