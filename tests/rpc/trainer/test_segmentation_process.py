"""The process that segments, without a trainer around it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import psutil
import pytest

pytestmark = pytest.mark.timeout(300)

PARENT = """
import asyncio, sys
from biosegment.settings import ObjectStoreSettings
from biosegment_trainer.interaction.process import ProcessSegmenter
from biosegment_trainer.interaction.task import SegmenterConfig

async def main():
    store = ObjectStoreSettings(object_store_url="file:///nowhere")
    segmenter = ProcessSegmenter(SegmenterConfig(store, 1), 0)
    await segmenter.warm()
    print("child", segmenter.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_process_ends_with_the_one_that_started_it():
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(240):
        while not (line := await parent.stdout.readline()).startswith(b"child"):
            assert line
    child = psutil.Process(int(line.split()[1]))
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(20):
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)
