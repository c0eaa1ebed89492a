"""What lives on Ray for as long as a prediction goes on. Importing this module loads neither torch nor Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biosegment.errors import BiosegmentError
from biosegment.failpoint import failpoint
from biosegment_trainer.compute.report import Reporter, Stopped
from biosegment_trainer.compute.task import Outcome
from biosegment_trainer.prediction.block import BlockId
from biosegment_trainer.prediction.task import PredictTask

if TYPE_CHECKING:
    from biosegment_trainer.prediction.worker import BlockWorker


class BlockActor:
    """Computes one block after the other, with a model that is loaded once."""

    def __init__(self, task: PredictTask) -> None:
        self._task = task
        self._worker: BlockWorker | None = None

    def prepare(self) -> Outcome:
        """Load the model."""
        import torch

        from biosegment_trainer.prediction.worker import BlockWorker

        torch.set_num_threads(self._task.threads)
        failpoint("trainer.worker.began")
        # It says nothing of progress, which the job itself knows. It asks whether the attempt still counts: an orphan
        # must not go on for hours. It ends with the process.
        reporter = Reporter(self._task.callback).__enter__()
        try:
            self._worker = BlockWorker(self._task, reporter)
        except BiosegmentError as error:
            return Outcome(error=error)
        return Outcome()

    def predict(self, block: BlockId) -> Outcome:
        """Compute, write and record a block; only mistakes of ours raise."""
        assert self._worker is not None
        try:
            self._worker.predict(block)
        except Stopped:
            return Outcome(cancelled=True)
        except BiosegmentError as error:
            return Outcome(error=error)
        return Outcome()
