"""What runs inside of Ray: one task of one job. Importing this module loads neither torch nor Ray."""

from __future__ import annotations

from biosegment.errors import BiosegmentError
from biosegment.failpoint import failpoint
from biosegment_trainer.compute.report import Reporter, Stopped
from biosegment_trainer.compute.task import Outcome, Task


def run(task: Task) -> Outcome:
    """Do a task and say how it ended; only mistakes of ours raise."""
    import torch

    torch.set_num_threads(task.threads)
    try:
        with Reporter(task.callback) as reporter:
            failpoint("trainer.worker.began")
            from biosegment_trainer.training.worker import train_bundle

            return Outcome(bundle=train_bundle(task, reporter))
    except Stopped:
        return Outcome(cancelled=True)
    except BiosegmentError as error:
        return Outcome(error=error)
