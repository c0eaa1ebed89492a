"""Following the datastore's feed of annotation records."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from biosegment.failpoint import failpoint
from biosegment_sampler.domain.annotation import Annotation, Committed, Record, Reverted
from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.domain.sample import SampleState
from biosegment_sampler.ports import Datastore, Ledger, Transaction

_PAGE: Final = 500


class AnnotationFeed:
    """Applies records to samples and labelled regions, each exactly once.

    The number of the last applied record is written in the same transaction as what the record changed, so that a
    process that dies anywhere goes on at the right place.
    """

    def __init__(self, ledger: Ledger, datastore: Datastore) -> None:
        self._ledger = ledger
        self._datastore = datastore
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def pull(self, pool: Pool) -> Pool:
        """Apply all records that there are now; returns the pool as it is then.

        Raises:
            Unavailable: The datastore cannot be reached.
            NotFound: PROJECT_NOT_FOUND.
        """
        async with self._turns[pool.project_id]:
            watermark = pool.loop.watermark
            while True:
                records = await self._datastore.records(pool.project_id, watermark, _PAGE)
                if records:
                    pool = await self._apply(pool, records)
                    watermark = pool.loop.watermark
                if len(records) < _PAGE:
                    return pool

    async def _apply(self, pool: Pool, records: Sequence[Record]) -> Pool:
        async with self._ledger.write(pool.project_id) as transaction:
            current = await transaction.pool() or pool
            latest = current.loop.last_annotation_at
            for record in records:
                # Another process may have been faster.
                if record.sequence > current.loop.watermark:
                    latest = max(latest, await _apply_record(transaction, record))
            watermark = max(current.loop.watermark, records[-1].sequence)
            loop = replace(current.loop, watermark=watermark, last_annotation_at=latest)
            pool = replace(current, loop=loop)
            await transaction.put_pool(pool)
        failpoint("sampler.feed.applied")
        return pool


async def _apply_record(transaction: Transaction, record: Record) -> float:
    """Apply one record; returns the time of the annotation that it brought, 0 when none."""
    if isinstance(record, Committed):
        await transaction.put_annotation(record.annotation)
        await _settle_sample(transaction, record.annotation)
        return record.annotation.created_at
    before = await transaction.annotation(record.annotation)
    if before is None:
        return 0.0
    after = before.reverted() if isinstance(record, Reverted) else before.reviewed(record.accepted)
    await transaction.put_annotation(after)
    await _settle_sample(transaction, after)
    return 0.0


async def _settle_sample(transaction: Transaction, changed: Annotation) -> None:
    """Bring the state of the answered sample in line with the annotations that hold for it."""
    sample = await transaction.sample(changed.sample_id) if changed.sample_id else None
    if sample is None:
        return
    holding = [item for item in await transaction.annotations_of_sample(sample.sample_id) if item.state.holds]
    if holding:
        await transaction.put_samples([sample.annotated(holding[-1].name)])
    elif sample.state is SampleState.ANNOTATED:
        await transaction.put_samples([sample.reopened()])
