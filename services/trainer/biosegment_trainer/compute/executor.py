"""What the jobs need from whatever computes."""

from __future__ import annotations

import asyncio
from typing import Protocol

from biosegment_trainer.compute.task import Outcome, Task


class Executor(Protocol):
    """Runs tasks where there are CPUs or GPUs."""

    async def run(self, task: Task, cancelled: asyncio.Event, timeout_s: float) -> Outcome:
        """Run a task to its end.

        Args:
            task: What to do.
            cancelled: Once set, a worker that does not stop by itself within seconds is killed.
            timeout_s: Longest time.

        Raises:
            JobCrashed: The worker died without a word.
            DeadlineExceeded: JOB_TOO_SLOW.
        """
        ...

    async def close(self) -> None:
        """Stop everything that runs."""
        ...
