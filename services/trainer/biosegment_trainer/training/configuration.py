"""From a task's options to the configuration of a run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from biosegment_trainer.compute.task import LearnTask, TrainTask
from biosegment_trainer.learning.architecture import NetworkConfig
from biosegment_trainer.learning.optimisation import TrainingConfig
from biosegment_trainer.learning.pretraining import MaskConfig
from biosegment_trainer.training.choice import choose
from biosegment_trainer.training.option import Option

_FEWEST_STEPS = 200
_STEPS_PER_ANNOTATION = 12.5
_MOST_STEPS = 1000

_ELSEWHERE = ("working_resolution_nm", "workers")
"""Options that say what a task is, not how it is done."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What a task asks for.

    Attributes:
        config: How to train.
        mask: What to blank, in pretraining.
        remarks: What was asked for and cannot be, for the log and the model's record.
    """

    config: TrainingConfig
    mask: MaskConfig
    remarks: tuple[str, ...]


def configured(task: LearnTask, parent: NetworkConfig | None) -> Configured:
    """The configuration for a task, whose option names were checked; values out of range are refused here.

    Args:
        task: What is asked for.
        parent: Network of the model to start from.
    """
    chosen, remarks = choose(task.options, task.voxel_size_nm, task.working_resolution_nm, parent)
    fields: dict[str, Any] = {
        "network": chosen.network,
        "patch_size": chosen.patch_size,
        "patch_depth": chosen.patch_depth,
        "batch_size": chosen.batch_size * task.workers,
        "shards": task.workers,
    }
    parts: dict[str, dict[str, Option]] = {}
    for name, value in task.options.items():
        part, _, inner = name.rpartition(".")
        if part and part != "network":
            parts.setdefault(part, {})[inner] = value
        elif not part and name not in _ELSEWHERE:
            fields[name] = value
    if task.max_steps:
        fields["steps"] = task.max_steps
    elif isinstance(task, TrainTask):
        fields["steps"] = default_steps(len(task.annotations))
    if task.max_seconds:
        fields["max_seconds"] = task.max_seconds
    mask: Any = parts.pop("mask", {})
    base = TrainingConfig()
    for part, changes in parts.items():
        values: Any = changes
        fields[part] = dataclasses.replace(getattr(base, part), **values)
    return Configured(dataclasses.replace(base, **fields), MaskConfig(**mask), remarks)


def default_steps(annotations: int) -> int:
    """Steps of a training that nobody chose them for: few for the first annotations, which are soon learned, and what
    fits into the minute and a half that an annotator waits for a fine-tune on two cores for 80 and more.
    """
    return min(max(_FEWEST_STEPS, round(_STEPS_PER_ANNOTATION * annotations)), _MOST_STEPS)
