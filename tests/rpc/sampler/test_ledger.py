from __future__ import annotations

import asyncio
from dataclasses import replace

from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.pool import Loop, Pool, PoolSettings, StrategyShare, VolumeRegion
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import Receipt, ScoreLayer
from biosegment_sampler.sql import SqlLedger

from biosegment.volume import Index, Region

BOX = Region.of_shape((1, 8, 8), (2, 3, 4))


def sample(number: int, state: SampleState, expires_at: float, holder: str = "ann") -> Sample:
    return Sample(
        f"s{number}", "p", "v", BOX, state, "random", 1.0, lease=Lease(holder, 1.0, expires_at), seed=2**40
    )


async def test_what_is_written_is_read(ledger: SqlLedger) -> None:
    settings = PoolSettings(
        strategies=(StrategyShare("random", 0.25), StrategyShare("margin", 0.75)),
        volumes=("v",),
        excluded=(VolumeRegion("v", BOX),),
        sample_shape=Index(1, 9, 9),
        seed=-3,
    )
    pool = Pool("p", settings, Loop(nonce="n", watermark=5, failure="x", last_annotation_at=1.5), 4)
    note = Annotation("n1", 5, "v", BOX, "ann", "s1", 2.5, {1: 3, 2: 61}, 7.0)
    layer = ScoreLayer("l1", "v", "entropy", "file:///l1", Index(1, 32, 32))
    async with ledger.write("p") as transaction:
        await transaction.put_pool(pool)
        await transaction.put_samples([sample(1, SampleState.LEASED, 50.0)])
        await transaction.put_annotation(note)
        await transaction.put_score_layers("models/m", [layer])
        await transaction.put_receipt("ann", "r", Receipt(("s1",), "hello"))
    async with ledger.read("p") as transaction:
        assert await transaction.pool() == pool
        assert await transaction.sample("s1") == sample(1, SampleState.LEASED, 50.0)
        assert await transaction.annotation("n1") == note
        assert list(await transaction.score_layers("models/m")) == [layer]
        assert await transaction.receipt("ann", "r") == Receipt(("s1",), "hello")
        assert await transaction.receipt("bob", "r") is None
    async with ledger.read("q") as transaction:
        assert await transaction.pool() is None
        assert await transaction.sample("s1") is None
    assert await ledger.projects() == ["p"]


async def test_states_are_those_of_the_moment(ledger: SqlLedger) -> None:
    items = [
        sample(1, SampleState.LEASED, 50.0),
        sample(2, SampleState.LEASED, 500.0),
        sample(3, SampleState.SKIPPED, 0.0),
        sample(4, SampleState.ANNOTATED, 0.0),
    ]
    async with ledger.write("p") as transaction:
        await transaction.put_samples([items[0], *(replace(item, dealt=True) for item in items[1:])])
        await transaction.put_samples([replace(items[3], annotation="a", dealt=True)])
    async with ledger.read("p") as transaction:
        states = await transaction.samples_by_state(100.0)
        assert dict(states) == {"open": 1, "leased": 1, "skipped": 1, "annotated": 1}
        leased = await transaction.list_samples(frozenset({SampleState.LEASED}), "", "", 10, 100.0)
        assert [item.sample_id for item in leased] == ["s2"]
        held = await transaction.list_samples(frozenset(), "ann", "", 10, 20.0)
        assert [item.sample_id for item in held] == ["s2", "s1"]
        page = await transaction.list_samples(frozenset(), "", "s3", 1, 20.0)
        assert [item.sample_id for item in page] == ["s2"]
        changes = await transaction.log.since(None)
        assert {item.sample_id for item in changes.samples} == {"s1", "s2", "s3"}
        assert changes.dealt == 3


async def test_writers_of_one_project_come_one_after_the_other(ledger: SqlLedger) -> None:
    async with ledger.write("p") as transaction:
        await transaction.put_pool(Pool("p"))

    async def count_up() -> None:
        async with ledger.write("p") as transaction:
            pool = await transaction.pool()
            assert pool is not None
            await asyncio.sleep(0.001)
            await transaction.put_pool(replace(pool, revision=pool.revision + 1))

    await asyncio.gather(*(count_up() for _ in range(30)))
    async with ledger.read("p") as transaction:
        pool = await transaction.pool()
    assert pool is not None
    assert pool.revision == 31
