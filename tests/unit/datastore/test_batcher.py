from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from biosegment_datastore.annotations.batcher import Batcher

from biosegment.errors import Unavailable


class Recorder:
    """Doubles numbers, one batch at a time; -1 fails its batch, negative ones fail by themselves."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def run(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if -1 in items:
            raise OSError("the whole batch")
        return [ValueError(str(item)) if item < 0 else 2 * item for item in items]


async def test_what_is_asked_for_meanwhile_is_one_batch_in_order_and_of_limited_size() -> None:
    recorder = Recorder()
    batcher: Batcher[int, int] = Batcher(recorder.run, largest=3)
    calls = [asyncio.create_task(batcher(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls += [asyncio.create_task(batcher(number)) for number in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    recorder.gate.set()
    assert await asyncio.gather(*calls) == [2, 4, 6, 8, 10]
    assert recorder.batches == [[1], [2, 3, 4], [5]]


async def test_each_item_fails_by_itself_even_when_one_fails_its_whole_batch() -> None:
    recorder = Recorder()
    recorder.gate.set()
    batcher: Batcher[int, int] = Batcher(recorder.run)
    results = await asyncio.gather(*(batcher(number) for number in (5, -1, 6, -7)), return_exceptions=True)
    assert results[0] == 10
    assert isinstance(results[1], OSError)
    assert results[2] == 12
    assert isinstance(results[3], ValueError)
    assert recorder.batches == [[5, -1, 6, -7], [5], [-1], [6], [-7]]


async def test_a_cancelled_caller_takes_its_waiting_item_along_and_disturbs_nobody() -> None:
    recorder = Recorder()
    batcher: Batcher[int, int] = Batcher(recorder.run)
    under_way = asyncio.create_task(batcher(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting, other = asyncio.create_task(batcher(2)), asyncio.create_task(batcher(3))
    await asyncio.sleep(0)
    for task in (under_way, waiting):
        task.cancel()
    await asyncio.sleep(0)
    recorder.gate.set()
    assert await other == 6
    for task in (under_way, waiting):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorder.batches == [[1], [3]]
    assert await batcher(4) == 8


async def test_after_a_batch_of_several_the_next_one_waits_for_as_many_but_not_for_ever() -> None:
    recorder = Recorder()
    recorder.gate.set()
    batcher: Batcher[int, int] = Batcher(recorder.run, gather_s=60)
    await asyncio.gather(*(batcher(number) for number in (1, 2, 3)))
    first = asyncio.create_task(batcher(4))
    await asyncio.sleep(0.01)
    assert recorder.batches == [[1, 2, 3]]
    assert list(await asyncio.gather(first, batcher(5), batcher(6))) == [8, 10, 12]
    assert recorder.batches == [[1, 2, 3], [4, 5, 6]]
    hasty: Batcher[int, int] = Batcher(recorder.run, gather_s=0.01)
    await asyncio.gather(*(hasty(number) for number in (1, 2, 3)))
    assert await hasty(7) == 14  # after a while, alone
    assert await hasty(8) == 16
    assert recorder.batches[3:] == [[7], [8]]


async def test_an_outage_is_asked_about_twice_and_not_once_for_every_caller() -> None:
    batches: list[list[int]] = []

    async def run(items: Sequence[int]) -> Sequence[int | Exception]:
        batches.append(list(items))
        raise Unavailable("DATABASE_UNAVAILABLE", "away")

    batcher: Batcher[int, int] = Batcher(run)
    results = await asyncio.gather(*(batcher(number) for number in range(5)), return_exceptions=True)
    assert [type(each) for each in results] == [Unavailable] * 5
    assert batches == [[0, 1, 2, 3, 4], [0]]
