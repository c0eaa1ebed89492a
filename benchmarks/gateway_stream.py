"""Reads a region from two addresses in turn: a part of `benchmarks.gateway`, in a process of its own.

usage: python -m benchmarks.gateway_stream DIRECT TOKEN GATEWAY TOKEN VOLUME REPEATS
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time

from biosegment.client import AsyncClient
from biosegment.client.connection import Connection
from biosegment.supervisor import MALLOC


async def read_both(ways: dict[str, Connection], name: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of each read, in turn, after one that warms up."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    clients = {way: AsyncClient(connection) for way, connection in ways.items()}
    for _ in range(1 + repeats):
        for way, client in clients.items():
            began = time.perf_counter()
            array = await client.volumes.read(name)
            seconds[way].append(time.perf_counter() - began)
            del array
    for client in clients.values():
        await client.close()
    return {way: samples[1:] for way, samples in seconds.items()}


def run_client(direct: Connection, gateway: Connection, name: str, repeats: int) -> dict[str, list[float]]:
    """The samples of a client process with the malloc settings of the services."""
    arguments = [direct.address, direct.token, gateway.address, gateway.token, name, str(repeats)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gateway_stream", *arguments],
        env={**os.environ, **MALLOC},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    samples: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return samples


def main() -> int:
    """Be the client."""
    direct, direct_token, gateway, gateway_token, name, repeats = sys.argv[1:]
    ways = {"direct": Connection(direct, direct_token), "gateway": Connection(gateway, gateway_token)}
    print(json.dumps(asyncio.run(read_both(ways, name, int(repeats)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
