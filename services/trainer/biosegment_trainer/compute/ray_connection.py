"""The connection to Ray: of a head started on this machine, or of a cluster by its address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc
import structlog

from biosegment.errors import Unavailable
from biosegment.jobs import Resources
from biosegment_trainer.compute.cluster import Room
from biosegment_trainer.compute.machine import machine
from biosegment_trainer.compute.ray_folder import prepare, remove
from biosegment_trainer.compute.ray_head import HeadOptions, RayHead, prepare_environment

_SILENT_FOR_S: Final = 3.0
_PROBE_WITHIN_S: Final = 2.0
_ASK_HEAD: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_ASK_CLIENT: Final = "/ray.rpc.RayletDriver/ClusterInfo"
_log = structlog.get_logger("biosegment_trainer.ray")


@dataclass(frozen=True, slots=True)
class RaySettings:
    """How to reach or start Ray; fields as in `TrainerSettings`, `temp_dir` is set for a local Ray.

    `trainings` and `predictions` are those at the same time.
    """

    address: str = ""
    cpus: int = 0
    temp_dir: str = ""
    token: str = field(default="", repr=False)
    idle_s: float = 0.0
    trainings: int = 0
    predictions: int = 1


class RayConnection:
    """Connects and disconnects; all but `answers` in one and the same thread.

    Attributes:
        machine: What this machine has.
        room: How jobs share it, or the cluster.
        generation: Grows when a connection is left; what was made over an older one is gone.
    """

    def __init__(self, settings: RaySettings) -> None:
        self.machine = machine(settings.cpus)
        self.room = Room(settings.predictions, settings.trainings, is_local=not settings.address)
        self.generation = 0
        self._settings = settings
        self._head: RayHead | None = None
        self._ray: Any = None
        self._missed_s = 0.0

    @property
    def is_local(self) -> bool:
        return not self._settings.address

    def connect(self) -> Any:
        """The ray module, connected; the same connection as before while that is alive.

        Raises:
            Unavailable: RAY_UNAVAILABLE with what Ray said; RAY_REFUSED when it does not take the token.
        """
        if self._ray is not None and (self._head is None or self._head.is_alive):
            return self._ray
        if self._ray is not None:
            _log.warning("ray_head_lost")
            self.leave()
        address = self._settings.address or self._start()
        if not self.is_local:
            self._knock()
        prepare_environment(self._settings.token, is_local=self.is_local)
        import ray

        try:
            ray.init(address=address, namespace="biosegment", log_to_driver=False, configure_logging=False)
        except Exception as error:
            with contextlib.suppress(Exception):
                ray.shutdown()
            raise Unavailable(
                "RAY_UNAVAILABLE", f"cannot use Ray at {address}: {str(error)[:500]}"
            ) from error
        _log.info("ray_ready", address=address)
        self._ray, self._missed_s = ray, 0.0
        return ray

    def nodes(self, ray: Any) -> tuple[Resources, ...]:
        """What the living nodes have, the largest first."""
        found = [
            Resources(
                int(node["Resources"].get("CPU", 0)),
                int(node["Resources"].get("GPU", 0)),
                int(node["Resources"].get("memory", 0)),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        return tuple(sorted(found, key=lambda node: (node.gpus, node.cpus, node.memory_bytes), reverse=True))

    async def answers(self) -> bool:
        """Whether Ray is still there; an address may be silent for some seconds before it counts as gone."""
        if self._head is not None:
            return self._head.is_alive
        try:
            async with asyncio.timeout(_PROBE_WITHIN_S):
                _, writer = await asyncio.open_connection(*self._host_and_port())
        except (OSError, TimeoutError):
            self._missed_s = self._missed_s or time.monotonic()
            return time.monotonic() - self._missed_s < _SILENT_FOR_S
        writer.close()
        self._missed_s = 0.0
        return True

    def give_up(self, generation: int) -> None:
        """Leave a connection that does not answer, unless it was left already."""
        if generation == self.generation:
            _log.warning("ray_lost")
            self.leave()

    def leave(self) -> None:
        """Disconnect, and stop a local Ray."""
        self.generation += 1
        if self._ray is not None:
            with contextlib.suppress(Exception):
                self._ray.shutdown()
            self._ray = None
        if self._head is not None:
            self._head.stop()
            self._head = None
            _log.info("ray_stopped")

    def sweep(self) -> None:
        """End what a local Ray of an earlier process of this trainer left behind."""
        if self.is_local:
            prepare(Path(self._settings.temp_dir))

    def close(self) -> None:
        """Leave for good."""
        self.leave()
        if self.is_local:
            remove(Path(self._settings.temp_dir))

    def _knock(self) -> None:
        """See whether somebody answers and takes the token: Ray itself tries for minutes and does not say why."""
        address = self._settings.address
        try:
            socket.create_connection(self._host_and_port(), _PROBE_WITHIN_S).close()
        except OSError as error:
            raise Unavailable("RAY_UNAVAILABLE", f"nobody answers at {address}: {error}") from error
        token = self._settings.token or os.environ.get("RAY_AUTH_TOKEN", "")
        method = _ASK_CLIENT if address.startswith("ray://") else _ASK_HEAD
        with grpc.insecure_channel(address.removeprefix("ray://")) as channel:
            metadata: Any = (("authorization", f"Bearer {token}"),) if token else None
            try:
                cast(Any, channel.unary_unary(method))(b"", timeout=_PROBE_WITHIN_S, metadata=metadata)
            except grpc.RpcError as error:
                # Whatever else it does not like, ray.init will say.
                if cast(grpc.Call, error).code() is grpc.StatusCode.UNAUTHENTICATED:
                    raise Unavailable(
                        "RAY_REFUSED",
                        f"Ray at {address} does not take this trainer's token; set RAY_TOKEN to that of the cluster",
                    ) from None

    def _host_and_port(self) -> tuple[str, int]:
        host, _, port = self._settings.address.rpartition("://")[2].rpartition(":")
        return host, int(port)

    def _start(self) -> str:
        folder = Path(self._settings.temp_dir)
        prepare(folder)
        here = self.machine
        options = HeadOptions(self.room.head_cpus(here), here.gpus, here.memory_bytes, str(folder))
        self._head = RayHead(options)
        return self._head.address
