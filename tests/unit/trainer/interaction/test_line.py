"""The line of requests, with a segmenter that answers when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from biosegment_trainer.compute.ray_connection import RaySettings
from biosegment_trainer.compute.ray_executor import RayExecutor
from biosegment_trainer.interaction.actor import RaySegmenter
from biosegment_trainer.interaction.desk import WhereverSegmenter
from biosegment_trainer.interaction.line import LineLimits, SegmentLine
from biosegment_trainer.interaction.task import SegmenterConfig

from biosegment.errors import Conflict, ResourceExhausted, Unavailable
from biosegment.jobs import JobCrashed, Resources
from biosegment.settings import ObjectStoreSettings

CONFIG = SegmenterConfig(ObjectStoreSettings(object_store_url="file:///nowhere"), 1)
WAITING = 3


class Gated:
    """`Segmenter` that says what it was asked, once it may."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.warmed = 0

    async def segment(self, task: Any) -> Any:
        self.asked.append(task)
        await self.gate.wait()
        return task

    async def warm(self) -> None:
        self.warmed += 1

    async def close(self) -> None:
        pass


class Counter:
    """A line with whoever stands in it."""

    def __init__(self, line: SegmentLine, segmenter: Gated) -> None:
        self.line, self.segmenter = line, segmenter
        self.tasks: list[asyncio.Task[Any]] = []

    async def come(self, task: Any, user: str = "ada", session: str = "") -> asyncio.Task[Any]:
        async def stand() -> Any:
            with self.line.enter(user, session) as place:
                return await self.line.segment(task, place)

        self.tasks.append(asyncio.create_task(stand()))
        await settled()
        return self.tasks[-1]


async def settled() -> None:
    """Until everybody waits for something that only the test can give."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def counter() -> AsyncIterator[Counter]:
    segmenter = Gated()
    line = SegmentLine(segmenter, LineLimits(WAITING, 60, 0))
    running = asyncio.create_task(line.run())
    found = Counter(line, segmenter)
    try:
        yield found
    finally:
        for task in (*found.tasks, running):
            task.cancel()
        await asyncio.gather(*found.tasks, running, return_exceptions=True)


async def test_few_wait_and_who_gives_up_makes_room():
    async with counter() as at:
        served = await at.come("a")
        others = [await at.come(name) for name in "bcd"]
        with pytest.raises(ResourceExhausted, match="3 requests wait") as busy:
            await (await at.come("e"))
        assert busy.value.reason == "BUSY"
        others.pop().cancel()
        await settled()
        others.append(await at.come("f"))
        at.segmenter.gate.set()
        assert await asyncio.gather(served, *others) == ["a", "b", "c", "f"]
        assert at.segmenter.asked == ["a", "b", "c", "f"]


async def test_of_a_session_only_the_newest_waits_and_it_costs_no_place():
    async with counter() as at:
        served = await at.come("a", session="s")
        others = [await at.come(name) for name in "bc"]
        older = await at.come("d", session="s")
        newer = await at.come("e", session="s")
        with pytest.raises(Conflict) as superseded:
            await older
        assert superseded.value.reason == "SUPERSEDED"
        # The same word of another user is another session, for which there is no place.
        with pytest.raises(ResourceExhausted):
            await (await at.come("f", "ann", "s"))
        at.segmenter.gate.set()
        assert await asyncio.gather(served, *others, newer) == ["a", "b", "c", "e"]
        assert at.segmenter.asked == ["a", "b", "c", "e"]


async def test_who_announces_requests_has_the_segmenter_started_while_nobody_waits_for_it():
    async with counter() as at:
        await settled()
        assert at.segmenter.warmed == 0
        at.line.announce()
        at.line.announce()
        await settled()
        assert (at.segmenter.warmed, at.segmenter.asked) == (1, [])
        at.segmenter.gate.set()
        assert await (await at.come("a")) == "a"


async def test_who_was_superseded_hears_of_it_before_it_reads_voxels():
    line = SegmentLine(Gated(), LineLimits(WAITING, 60, 0))
    with line.enter("ada", "s") as older:
        line.require_newest(older)
        with line.enter("ada", "s") as newer:
            with pytest.raises(Conflict) as superseded:
                line.require_newest(older)
            assert superseded.value.reason == "SUPERSEDED"
            with pytest.raises(Conflict):
                await line.segment("older", older)  # type: ignore[arg-type]
            line.require_newest(newer)


async def test_a_session_does_not_let_more_in_than_the_line_holds():
    line = SegmentLine(Gated(), LineLimits(WAITING, 60, 0))
    inside: list[Any] = []

    def enter(count: int) -> None:
        for _ in range(count):
            place = line.enter("ada", "s")
            place.__enter__()
            inside.append(place)

    # None of them hears of anything yet: all still read what they need.
    with pytest.raises(ResourceExhausted) as busy:
        enter(500)
    assert busy.value.reason == "BUSY"
    assert WAITING < len(inside) <= 2 * WAITING + 1
    inside.pop().__exit__(None, None, None)
    enter(1)


class Lost(RayExecutor):
    """A Ray that stops when something is asked of it."""

    def __init__(self) -> None:
        super().__init__(RaySettings(cpus=1))

    @asynccontextmanager
    async def cluster(self) -> AsyncIterator[Any]:
        yield self

    @property
    def lost(self) -> asyncio.Event:
        return asyncio.Event()

    async def call(self, function: Any) -> Any:
        raise JobCrashed("Ray stopped, with everything that ran on it", lost=True)

    async def nodes(self) -> tuple[Resources, ...]:
        return (Resources(1, 1, 0),)


async def test_a_ray_that_stops_while_the_actor_starts_does_not_end_the_line():
    segmenter = RaySegmenter(CONFIG, Lost())
    line = SegmentLine(segmenter, LineLimits(WAITING, 60, 0, warm=True))
    running = asyncio.create_task(line.run())
    try:
        with line.enter("ada", "") as place, pytest.raises(Unavailable) as refused:
            await line.segment("a", place)  # type: ignore[arg-type]
        assert refused.value.reason == "SEGMENTER_UNAVAILABLE"
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_where_ray_stops_while_the_actor_starts_the_process_takes_over():
    process = Gated()
    process.gate.set()
    segmenter = WhereverSegmenter(RaySegmenter(CONFIG, Lost()), process, Lost())
    task: Any = "a"
    answer: Any = await segmenter.segment(task)
    assert answer == "a"
    assert process.warmed == 1
