"""What runs inside of Ray: one task of one job. Importing this module loads neither torch nor Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biosegment.errors import BiosegmentError
from biosegment.failpoint import failpoint
from biosegment_trainer.compute.report import Reporter, Stopped
from biosegment_trainer.compute.task import (
    MeasureTask,
    Outcome,
    PretrainTask,
    Task,
    TrainedBundle,
    TrainTask,
)

if TYPE_CHECKING:
    from biosegment_trainer.learning.group import Group


def run(task: Task) -> Outcome:
    """Do a task and say how it ended; only mistakes of ours raise."""
    if task.workers > 1 and not isinstance(task, MeasureTask):
        from biosegment_trainer.training.group import work_together

        return work_together(task)
    with Reporter(task.callback) as reporter:
        if isinstance(task, MeasureTask):
            return _measure(task, reporter)
        return work(task, reporter)


def _measure(task: MeasureTask, reporter: Reporter) -> Outcome:
    """Do a task that needs no network, and therefore not torch either."""
    from biosegment_trainer.objects.worker import measure_objects

    try:
        failpoint("trainer.worker.began")
        return Outcome(files=measure_objects(task, reporter))
    except Stopped:
        return Outcome(cancelled=True)
    except BiosegmentError as error:
        return Outcome(error=error)


def work(task: TrainTask | PretrainTask, reporter: Reporter, group: Group | None = None) -> Outcome:
    """Do a task, or this process's share of it."""
    import torch

    torch.set_num_threads(task.threads)
    try:
        failpoint("trainer.worker.began")
        return Outcome(bundle=_bundle(task, reporter, group))
    except Stopped:
        return Outcome(cancelled=True)
    except BiosegmentError as error:
        return Outcome(error=error)


def _bundle(task: TrainTask | PretrainTask, reporter: Reporter, group: Group | None) -> TrainedBundle | None:
    if isinstance(task, TrainTask):
        from biosegment_trainer.training.worker import train_bundle

        return train_bundle(task, reporter, group)
    from biosegment_trainer.training.pretraining_worker import pretrain_bundle

    return pretrain_bundle(task, reporter, group)
