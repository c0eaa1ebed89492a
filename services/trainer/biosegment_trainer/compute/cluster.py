"""A connected Ray, for jobs that keep workers of their own on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from biosegment.errors import Internal
from biosegment.jobs import JobCrashed, Resources

_T = TypeVar("_T")
TRAINING_SHARE: Final = 0.55
STARTER_SHARE: Final = 0.01
INTERACTION_SHARE: Final = 0.02
_WORKER_BYTES: Final = 3_000_000_000
"""What a worker of a prediction is taken to need where no memory is reserved; `benchmarks.prediction_memory` shows how
little of it the default network takes."""
_PREDICTIONS_SHARE: Final = 0.4
"""Of a GPU, as Ray sees it: one holds a training, alone or as one of several processes, and one worker of each
prediction, never two trainings. The little that is left over is for the tasks that start several processes, and for
the actor that answers clicks."""


class Cluster(Protocol):
    """A Ray that stays connected while it is held: `async with executor.cluster() as cluster`.

    Attributes:
        lost: Set when the cluster is gone, with everything that ran on it.
        predictions: That may run at once.
    """

    lost: asyncio.Event
    predictions: int

    def call(self, function: Callable[[Any], _T]) -> Awaitable[_T]:
        """Call `function(ray)` in the one thread that speaks to Ray; it should return within seconds.

        Raises:
            JobCrashed: The cluster was lost since it was taken; nothing on it lives any more.
        """
        ...

    async def nodes(self) -> tuple[Resources, ...]:
        """What each living node has, the largest first."""
        ...

    async def workers(self, resources: Resources) -> int:
        """How many workers a prediction can have beside a training, which they must not block; at least 1."""
        ...

    async def worker(self, job: Resources, most: int) -> Resources:
        """What each worker of a prediction reserves, at least 1 and at most `most` of them, that share what it has."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """How jobs share nodes.

    Attributes:
        predictions: That may run at once, each with workers of its own.
        trainings: That may run at once on this machine; 0: one for each GPU, one where there is none.
        is_local: Each lane has CPUs of its own, all those of this machine; a cluster's are counted once.
    """

    predictions: int = 1
    trainings: int = 0
    is_local: bool = True

    def head_cpus(self, machine: Resources) -> int:
        """CPUs that a Ray on this machine is told to have: how many jobs run is the queue's decision, not Ray's."""
        in_turn = -(-self.trainings // max(1, machine.gpus))
        return machine.cpus * (max(1, in_turn) + self.predictions)

    def workers(self, worker: Resources, nodes: Sequence[Resources]) -> int:
        """As `Cluster.workers`."""
        if self.is_local or worker.gpus:
            return max(1, sum(self._beside_trainings(worker, node) for node in nodes))
        # Where a node's CPUs are counted once, a training needs those of one worker.
        slots = sum(_times(worker, node) for node in nodes)
        return max(1, (slots - 1) // self.predictions)

    def worker(self, job: Resources, most: int, nodes: Sequence[Resources]) -> Resources:
        """As `Cluster.worker`: on this machine, without a GPU, as few CPUs each as there is memory for workers.

        Beside the network much of a worker's work is done by one thread; several workers do that at the same time.
        """
        if not self.is_local or job.gpus:
            return job
        cpus = max(1, job.cpus)
        small = replace(job, cpus=1, memory_bytes=job.memory_bytes or _WORKER_BYTES)
        workers = max(1, min(most, cpus, self.workers(small, nodes)))
        # Those that fit when each has its share rounded up divide all CPUs anew.
        fitting = cpus // -(-cpus // workers)
        return replace(job, cpus=cpus // fitting)

    def _beside_trainings(self, worker: Resources, node: Resources) -> int:
        # They have CPUs and shares of GPUs of their own, but no memory.
        most = _times(replace(worker, memory_bytes=0), node)
        if not worker.memory_bytes:
            return most
        trainings = (self.trainings if self.is_local else 0) or max(1, node.gpus)
        left = node.memory_bytes // worker.memory_bytes - trainings
        return min(most, max(0, left) // self.predictions)


def _times(small: Resources, node: Resources) -> int:
    bounds = [
        have // want
        for want, have in zip(
            (max(1, small.cpus), small.gpus, small.memory_bytes),
            (node.cpus, node.gpus, node.memory_bytes),
            strict=True,
        )
        if want
    ]
    return min(bounds)


def prediction_share(predictions: int) -> float:
    """Of a GPU for a worker of each of so many predictions at once; Ray counts ten-thousandths."""
    return int(_PREDICTIONS_SHARE * 10_000) // predictions / 10_000


def ray_options(resources: Resources, gpu_share: float = TRAINING_SHARE) -> dict[str, Any]:
    """Options of a Ray task or actor that reserves `resources`; Ray itself never repeats it.

    Args:
        resources: Of one task or actor.
        gpu_share: Of a GPU, when just one is asked for; several are reserved whole.
    """
    options: dict[str, Any] = {
        "num_cpus": max(1, resources.cpus),
        "num_gpus": gpu_share if resources.gpus == 1 else resources.gpus,
    }
    if resources.memory_bytes:
        options["memory"] = resources.memory_bytes
    return options


def failure(ray: Any, error: BaseException) -> Exception:
    """What a failed task or actor call means: JobCrashed when its process died, Internal for a mistake of ours."""
    said = (str(error).strip().splitlines() or ["no word"])[0][:200]
    # An actor that fails while it is made dies of our mistake too, which Ray quotes.
    if isinstance(error, ray.exceptions.RayTaskError) or "error raised in its creation task" in said:
        last = str(error).strip().splitlines()[-1][:300]
        return Internal("WORKER_FAILED", f"the worker failed: {last}")
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return JobCrashed(f"the worker used more memory than its node has: {said}")
    return JobCrashed(f"the worker died: {said}", lost=_is_lost(ray, error))


def _is_lost(ray: Any, error: BaseException) -> bool:
    """Whether the node died rather than the worker alone."""
    kinds = ray.exceptions
    if isinstance(error, ConnectionError):
        return True
    if isinstance(error, (kinds.NodeDiedError, kinds.LocalRayletDiedError, kinds.RaySystemError)):
        return True
    if isinstance(error, (kinds.ActorDiedError, kinds.ActorUnavailableError)):
        # Ray says only in words why an actor died.
        return "node" in str(error) and ("node was dead" in str(error) or "node has died" in str(error))
    return False
