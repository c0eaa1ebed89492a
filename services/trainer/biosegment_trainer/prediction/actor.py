"""What lives on Ray for as long as a prediction goes on. Importing this module loads neither torch nor Ray."""

from __future__ import annotations

import queue
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
    """Computes one block after the other, with models that are loaded once.

    Args:
        task: The job.
        at_once: Blocks that are under way at a time, so that one is read and another written while a GPU computes.
    """

    def __init__(self, task: PredictTask, at_once: int) -> None:
        self._task = task
        self._at_once = at_once
        self._reporter = Reporter(task.callback)
        self._idle: queue.SimpleQueue[BlockWorker] = queue.SimpleQueue()

    def prepare(self) -> Outcome:
        """Load the models."""
        from biosegment_trainer.prediction.worker import BlockWorker

        failpoint("trainer.worker.began")
        # It says nothing of progress, which the job itself knows. It asks whether the attempt still counts: an orphan
        # must not go on for hours. It ends with the process.
        self._reporter.__enter__()
        try:
            for _ in range(self._at_once):
                self._idle.put(BlockWorker(self._task, self._reporter))
        except BiosegmentError as error:
            return Outcome(error=error)
        return Outcome()

    def alive(self) -> None:
        """Answered beside a computation, by whoever is neither frozen nor cut off."""

    def predict(self, block: BlockId) -> Outcome:
        """Compute, write and record a block; only mistakes of ours raise."""
        import torch

        # Of the calling thread, of which there are several.
        torch.set_num_threads(self._task.threads)
        worker = self._idle.get()
        try:
            worker.predict(block)
        except Stopped:
            return Outcome(cancelled=True)
        except BiosegmentError as error:
            return Outcome(error=error)
        finally:
            self._idle.put(worker)
        return Outcome()
