"""From a task's options to the configuration of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biosegment_trainer.compute.task import LearnTask, TrainTask
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.optimisation import TrainingConfig
from biosegment_trainer.learning.plan import Plan, kind_of, plan, plan_for
from biosegment_trainer.learning.pretraining import MaskConfig
from biosegment_trainer.training.option import Option, channels_of

_PLANNED = ("network.kind", "network.family", "network.slices")
_NAMES = {
    "DynUNet": {"norm": "norm_name"},
    "SegResNet": {"dropout": "dropout_prob"},
    "SwinUNETR": {"norm": "norm_name", "dropout": "drop_rate"},
}
"""What some families call their norm and dropout."""

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
    chosen, remarks = _plan(task, parent)
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


def _plan(task: LearnTask, parent: NetworkConfig | None) -> tuple[Plan, tuple[str, ...]]:
    options, resolution = task.options, task.working_resolution_nm
    if parent is None:
        chosen = plan(
            task.voxel_size_nm,
            resolution,
            str(options.get("network.kind", "2d")),
            str(options.get("network.family", "UNet")),
            int(options.get("network.slices", 0)),
            _arguments(options),
        )
        return chosen, ()
    # A 2D network can learn to look at its neighbours; all else about it is in its weights.
    wanted = parent
    if options.get("network.kind") == "2.5d" and parent.spatial_dims == 2:
        slices = plan(task.voxel_size_nm, resolution, "2.5d", slices=int(options.get("network.slices", 0)))
        wanted = dataclasses.replace(parent, input_slices=slices.network.input_slices)
    chosen = plan_for(wanted, task.voxel_size_nm, resolution)
    ignored = sorted(
        name for name in options if name.startswith("network.") and not _holds(name, options, chosen)
    )
    if not ignored:
        return chosen, ()
    return chosen, (
        f"{ignored} are ignored: the parent's network stays, a {kind_of(parent)} {parent.family}",
    )


def _holds(name: str, options: Mapping[str, Option], chosen: Plan) -> bool:
    """Whether a wish about the network is true of the parent's anyway."""
    match name:
        case "network.kind":
            return options[name] in (chosen.kind, "auto")
        case "network.family":
            return options[name] == chosen.network.family
        case "network.slices":
            return options[name] == chosen.network.input_slices
        case "network.channels":
            return channels_of(str(options[name])) == list(chosen.network.arguments.get("channels", ()))
        case _:
            return options[name] == chosen.network.arguments.get(name.partition(".")[2])


def _arguments(options: Mapping[str, Option]) -> dict[str, Any]:
    """Options that are arguments of the network's constructor."""
    family = options.get("network.family", "UNet")
    names = _NAMES.get(str(family), {})
    found: dict[str, Any] = {}
    for name, value in options.items():
        part, _, inner = name.rpartition(".")
        if part == "network" and name not in _PLANNED:
            found[names.get(inner, inner)] = channels_of(str(value)) if inner == "channels" else value
    return found
