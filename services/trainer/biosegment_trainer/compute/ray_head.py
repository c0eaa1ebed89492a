"""The head of a local Ray, as a process of its own: `python -m biosegment_trainer.compute.ray_head`.

Ray starts its servers by forking. In the trainer, threads of gRPC may hold locks at that moment, for which the forked
child then waits for ever, before it has become a server; here nothing else runs. The head lives until its standard
input is closed, as it is when the trainer ends in whatever way, and takes Ray's servers and workers with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Timer
from typing import Final

from biosegment.errors import Unavailable

_OBJECT_STORE_BYTES: Final = 256 << 20
_START_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 10.0
_OWN_TOKEN: Final = secrets.token_hex(32)


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What the head is started with.

    Attributes:
        cpus: Of the node.
        gpus: Of the node.
        memory_bytes: Of the node, for tasks that reserve memory.
        temp_dir: Folder of Ray's sockets and logs.
    """

    cpus: int
    gpus: int
    memory_bytes: int
    temp_dir: str


class RayHead:
    """A running head."""

    def __init__(self, options: HeadOptions) -> None:
        """Start it and wait until it can be connected to.

        Raises:
            Unavailable: RAY_UNAVAILABLE with what it said.
        """
        prepare_environment("", is_local=True)
        self._errors = Path(options.temp_dir) / "head.log"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "biosegment_trainer.compute.ray_head", json.dumps(asdict(options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.address = self._read_address()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End it and all that it started."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_address(self) -> str:
        assert self._process.stdout is not None
        limit = Timer(_START_WITHIN_S, self._process.kill)
        limit.start()
        try:
            # Whatever else prints here is not ours.
            for line in self._process.stdout:
                if line.startswith(b"ray head at "):
                    return line.removeprefix(b"ray head at ").decode().strip()
        finally:
            limit.cancel()
        self._process.wait()
        said = self._errors.read_text(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(
            "RAY_UNAVAILABLE",
            f"Ray did not start on this machine within {_START_WITHIN_S:.0f} s: {' '.join(said)[:300] or 'no word'}",
        )


def prepare_environment(token: str, *, is_local: bool) -> None:
    """Before Ray is imported, for this process and those that it starts.

    Args:
        token: Of a cluster by address; '' leaves what the operator has set in Ray's own variables.
        is_local: Ray on this machine: loopback only, with a token of this process's own.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray's client reads its token once, so that a head that is started again needs the same.
    token = _OWN_TOKEN if is_local else token
    if token:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = token
    if is_local:
        # Ray's switch for "one machine only": its servers bind to 127.0.0.1 instead of all interfaces.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # They suit a gRPC server; a worker that never gives memory back would hold its largest block for ever.
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        del os.environ[name]


def main() -> None:
    """Start Ray, print its address, and hold it until standard input ends."""
    options = HeadOptions(**json.loads(sys.argv[1]))
    import ray

    context = ray.init(
        address="local",
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        _memory=options.memory_bytes,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=options.temp_dir,
    )
    print(f"ray head at {context.address_info['gcs_address']}", flush=True)
    sys.stdin.buffer.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
