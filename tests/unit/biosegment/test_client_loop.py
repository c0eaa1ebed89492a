from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from biosegment.client.loop import BackgroundLoop


async def _begin(work: Coroutine[None, None, bool]) -> asyncio.Task[bool]:
    task = asyncio.get_running_loop().create_task(work)
    await asyncio.sleep(0)
    return task


def test_what_still_runs_is_ended_when_the_loop_is_closed() -> None:
    loop = BackgroundLoop()
    cleaned: list[bool] = []

    async def forever() -> bool:
        try:
            return await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # cleaning up takes a turn of the loop
            cleaned.append(True)

    task = loop.run(_begin(forever()))
    loop.close()
    assert task.cancelled()
    assert cleaned == [True]
    assert loop.is_closed
