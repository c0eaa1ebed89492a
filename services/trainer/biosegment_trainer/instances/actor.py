"""What lives on Ray for as long as an instances job goes on. Importing this module loads neither SciPy nor Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biosegment.errors import BiosegmentError
from biosegment.failpoint import failpoint
from biosegment_trainer.compute.report import Reporter, Stopped
from biosegment_trainer.compute.task import Outcome
from biosegment_trainer.instances.task import InstancesTask
from biosegment_trainer.prediction.block import BlockId

if TYPE_CHECKING:
    from biosegment_trainer.instances.worker import InstancesWorker


class InstancesActor:
    """Does one piece of work after the other; `BlockPool` calls it as it calls a `BlockActor`.

    Args:
        task: The job.
        at_once: Calls at a time; one, as it computes on CPUs alone.
    """

    def __init__(self, task: InstancesTask, at_once: int) -> None:
        self._task = task
        self._reporter = Reporter(task.callback)
        self._worker: InstancesWorker | None = None

    def prepare(self) -> Outcome:
        """Load what computes."""
        from biosegment_trainer.instances.worker import InstancesWorker

        failpoint("trainer.worker.began")
        # It says nothing of progress, and only asks whether the attempt still counts. It ends with the process.
        self._reporter.__enter__()
        try:
            self._worker = InstancesWorker(self._task, self._reporter.check)
        except BiosegmentError as error:
            return Outcome(error=error)
        return Outcome()

    def alive(self) -> None:
        """Answered beside a computation, by whoever is neither frozen nor cut off."""

    def predict(self, block: BlockId) -> Outcome:
        """Do a piece of work, whose `part` is the place of its stage; only mistakes of ours raise."""
        assert self._worker is not None
        try:
            self._worker.compute(self._task.stages[block.part], block.number)
        except Stopped:
            return Outcome(cancelled=True)
        except BiosegmentError as error:
            return Outcome(error=error)
        return Outcome()
