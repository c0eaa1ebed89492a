"""A Ray cluster of several nodes on this machine, in a process of its own: `python -m tests.rpc.trainer.ray_cluster`.

It answers each line of its standard input with one: `add` adds a node of one CPU, `kill` kills its server as a power
cut would, `quit` ends all. Ray forks its servers, which a process with threads of gRPC should not do.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

import psutil

TOKEN = secrets.token_hex(16)


class RayCluster:
    """A cluster as a test uses it.

    Attributes:
        address: Of its head, which takes no work.
        token: That it asks for.
    """

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address
        self.token = TOKEN

    @classmethod
    async def start(cls, port: int, log: Path) -> RayCluster:
        """Start a head on a port, and one node."""
        environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            # Loopback only.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.rpc.trainer.ray_cluster",
                str(port),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
            )
        cluster = cls(process, "")
        cluster.address = await cluster._answer()
        await cluster.say("add")
        return cluster

    async def say(self, word: str) -> str:
        """Do something and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        await self._process.stdin.drain()
        return await self._answer()

    async def _answer(self) -> str:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(b"cluster: "):
                return line.removeprefix(b"cluster: ").decode().strip()
        raise AssertionError("the cluster has ended")

    def processes(self) -> list[psutil.Process]:
        """All that belong to it, itself first."""
        mine = psutil.Process(self._process.pid)
        return [mine, *mine.children(recursive=True)]

    async def kill(self) -> None:
        """Kill everything at once."""
        for process in self.processes():
            process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def close(self) -> None:
        if self._process.returncode is None:
            family = self.processes()
            await self.say("quit")
            await self._process.wait()
            for process in family:
                if process.is_running():
                    process.kill()


def main() -> None:
    from ray.cluster_utils import Cluster

    def say(answer: str) -> None:
        print(f"cluster: {answer}", flush=True)

    memory = 100 << 20
    head = {
        "num_cpus": 0,
        "gcs_server_port": int(sys.argv[1]),
        "object_store_memory": memory,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = []
    say(cluster.address)
    for line in sys.stdin:
        match line.strip():
            case "add":
                nodes.append(cluster.add_node(num_cpus=1, object_store_memory=memory))
                say("added")
            case "kill":
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                say("killed")
            case "quit":
                cluster.shutdown()
                say("ended")
                return


if __name__ == "__main__":
    main()
