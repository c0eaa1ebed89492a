"""A connected Ray, for jobs that keep workers of their own on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from biosegment.errors import Internal
from biosegment.jobs import JobCrashed, Resources

_T = TypeVar("_T")
TRAINING_SHARE: Final = 0.6
PREDICTION_SHARE: Final = 0.4
"""Of a GPU, as Ray sees it: one holds a training and one worker of a prediction, never two trainings."""


class Cluster(Protocol):
    """A Ray that stays connected while it is held: `async with executor.cluster() as cluster`.

    Attributes:
        lost: Set when the cluster is gone, with everything that ran on it.
    """

    lost: asyncio.Event

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
        """How many workers of that size can run at once beside a training, which they must not block; at least 1."""
        ...


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
    if isinstance(error, ray.exceptions.RayTaskError):
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
