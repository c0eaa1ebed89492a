"""What the jobs need from whatever computes."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from biosegment.jobs import Resources
from biosegment_trainer.compute.cluster import Cluster
from biosegment_trainer.compute.task import Outcome, Task


class Executor(Protocol):
    """Runs tasks where there are CPUs or GPUs."""

    @property
    def is_local(self) -> bool:
        """Whether Ray is started on this machine, not reached by an address."""
        ...

    async def run(
        self, task: Task, resources: Resources, cancelled: asyncio.Event, timeout_s: float
    ) -> Outcome:
        """Run a task to its end.

        Args:
            task: What to do.
            resources: What it reserves on one node.
            cancelled: Once set, a worker that does not stop by itself within seconds is killed.
            timeout_s: Longest time.

        Raises:
            JobCrashed: The worker died without a word, or its node did.
            DeadlineExceeded: JOB_TOO_SLOW.
            Unavailable: RAY_UNAVAILABLE.
        """
        ...

    async def connect(self) -> None:
        """Start Ray or connect to it, so that holding it takes no time; Unavailable RAY_UNAVAILABLE or RAY_REFUSED."""
        ...

    def cluster(self) -> AbstractAsyncContextManager[Cluster]:
        """Hold the cluster, for jobs with workers of their own; Unavailable RAY_UNAVAILABLE.

        End your workers before you leave: whoever holds nothing for a while has Ray stopped.
        """
        ...

    async def nodes(self) -> tuple[Resources, ...]:
        """What each node has, the largest first; of a local Ray also while it has not been started."""
        ...

    async def close(self) -> None:
        """Stop everything that runs."""
        ...
