from __future__ import annotations

import subprocess
import sys

_LEAVE_PENDING = """
import asyncio
import sys

import grpc.aio

from biosegment.rpc.runtime import keep_grpc


async def leave_pending() -> None:
    try:
        async with asyncio.timeout(0.5), grpc.aio.insecure_channel("") as channel:
            await channel.channel_ready()
    except TimeoutError:
        print("given up")


keep_grpc()
asyncio.run(leave_pending())
"""


def test_a_process_ends_although_an_operation_of_grpc_is_pending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEAVE_PENDING], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert done.stdout == "given up\n"
