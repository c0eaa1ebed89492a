"""Fine-tuning: from annotated regions and a parent's weights to a child's weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from biosegment_trainer.learning.augmentation import deform, tarnish
from biosegment_trainer.learning.dataset import AnnotatedRegion, PatchSampler, training_parts
from biosegment_trainer.learning.group import Group
from biosegment_trainer.learning.loss import channel_table, consistency_loss, segmentation_loss
from biosegment_trainer.learning.network import LabelClass, NetworkModel, pick_device, require_classes
from biosegment_trainer.learning.optimisation import (
    Checkpoint,
    Run,
    TrainingConfig,
    TrainingProgress,
    one_cycle,
    optimise,
)
from biosegment_trainer.learning.selection import HeldOut, Selection
from biosegment_trainer.learning.validation import Split, split

_RAMP = 0.4
"""Share of a run over which the consistency term grows: averaged weights know nothing at first."""


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """What a run leaves for the model's record.

    Attributes:
        steps: Optimiser steps done, over all attempts.
        seconds: Wall clock of steps and validations, over all attempts.
        final_loss: Mean loss over the last tenth of the run.
        training_regions: Annotations that trained.
        validation_regions: Annotations that were held out.
        validation: `iou/<class>` and `dice/<class>` at working resolution on the held-out ones, of the weights
            that are returned; empty without them.
        validation_note: Why there is no validation; empty when there is.
        validation_iou: Mean IoU of the returned weights over the classes that the held-out ones show; None without
            them.
        parent_iou: The same of the parent, on the same ones; None without a parent or validation.
        parent_validation: As `validation`, of the parent.
        parent_kept: The parent was better than all that was trained, and its weights are what is returned.
        stopped_early: Nothing was to be gained any more; the learning rate had not come down yet.
        stopped: `should_stop` ended the run early.
        withheld: Region ids that neither trained nor had trained the parent: held out, or too near to what is.
    """

    steps: int
    seconds: float
    final_loss: float
    training_regions: int
    validation_regions: int
    validation: dict[str, float]
    validation_note: str
    validation_iou: float | None
    parent_iou: float | None
    parent_validation: dict[str, float]
    parent_kept: bool
    stopped_early: bool
    stopped: bool
    withheld: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The averaged weights and how they came about."""

    model: NetworkModel
    metrics: TrainingMetrics


def train(
    config: TrainingConfig,
    examples: Sequence[AnnotatedRegion],
    parent: NetworkModel | None,
    *,
    classes: Sequence[LabelClass],
    seed: int,
    resume_from: Checkpoint | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str | None = None,
    group: Group | None = None,
) -> TrainedModel:
    """Train a model; the same arguments on the same machine give the same weights.

    Every step draws its patches and its chance from (seed, step) alone. A run that resumes from a checkpoint
    therefore ends where the uninterrupted one would have. The weights returned are those that did best on the
    held-out annotations, and the parent's when none did as well.

    Args:
        config: How to train.
        examples: What to train on; nothing is written to them.
        parent: Where to start: all its weights are taken over, head rows by class name. None starts fresh.
        classes: The child's classes, in channel order.
        seed: Source of all chance, not negative.
        resume_from: A checkpoint of the same run (same seed, configuration, classes).
        on_progress: Called after every step.
        on_checkpoint: Called every `checkpoint_steps` and when stopped, with tensors on the CPU that are the
            receiver's to keep.
        should_stop: Asked before every step.
        device: `cpu` or `cuda`; None takes CUDA where there is one.
        group: The processes that train together, each of which calls this with the same arguments; only the
            leader validates and is asked and told. What the others return is not validated.

    Raises:
        InvalidArgument: NO_ANNOTATIONS, NO_CLASSES, BAD_TRAINING, BAD_WEIGHTS.
        FailedPrecondition: CHECKPOINT_MISMATCH when the checkpoint is of another run; DIVERGED when the loss or the
            weights are no longer finite.
    """
    named = require_classes(classes)
    parts = split(examples, config.validation, named)
    with torch.random.fork_rng(devices=[]):
        run = Run(config, parent, named, seed, pick_device(device), group)
        sampler = PatchSampler(
            training_parts(parts.training, named, run.network), run.patch, config.foreground_share
        )
        parts, selection = _selection(run, parts, parent is not None)
        if resume_from is not None:
            run.restore(resume_from)
            if selection:
                selection.restore(resume_from)
        elif selection:
            selection.begin()

        def progress() -> TrainingProgress:
            return dataclasses.replace(run.progress(), validation_iou=selection.latest if selection else None)

        stopped = optimise(
            run,
            _Segmentation(run, sampler),
            after_step=selection.after_step if selection else lambda: False,
            state=selection.state if selection else dict,
            progress=progress,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
            should_stop=should_stop,
        )
        model = selection.model if selection and not stopped else run.averaged_model()
        return TrainedModel(model, _metrics(run, parts, examples, selection, stopped))


def _selection(run: Run, parts: Split, from_parent: bool) -> tuple[Split, Selection | None]:
    if not parts.validation or not run.leads:
        return parts, None
    held = HeldOut(
        training_parts(parts.validation, run.classes, run.network),
        run.classes,
        run.network,
        run.config.validation.max_voxels,
    )
    if not held.values:
        reason = "the annotations that are held out show none of the classes"
        return dataclasses.replace(parts, reason=reason), None
    return parts, Selection(run, held, from_parent)


def _metrics(
    run: Run,
    parts: Split,
    examples: Sequence[AnnotatedRegion],
    selection: Selection | None,
    stopped: bool,
) -> TrainingMetrics:
    tail = run.losses[-max(1, len(run.losses) // 10) :]
    trained = {region.region_id for region in parts.training}
    return TrainingMetrics(
        steps=run.step,
        seconds=run.seconds,
        final_loss=float(np.mean(tail)) if tail else float("nan"),
        training_regions=len(parts.training),
        validation_regions=len(parts.validation),
        validation=selection.summary if selection else {},
        validation_note=parts.reason,
        validation_iou=selection.score if selection else None,
        parent_iou=selection.parent_score if selection else None,
        parent_validation=selection.parent_summary if selection else {},
        parent_kept=selection is not None and selection.keeps_parent and not stopped,
        stopped_early=not stopped and not run.finished,
        stopped=stopped,
        withheld=tuple(r.region_id for r in examples if r.region_id not in trained and not r.seen_by_parent),
    )


class _Segmentation:
    """Annotated voxels as labelled, and the others as the averaged weights see them, if that is asked for."""

    def __init__(self, run: Run, sampler: PatchSampler) -> None:
        self._sampler = sampler
        self._count = run.config.batch_size // run.config.shards
        self._table = channel_table([c.value for c in run.classes]).to(run.device)

    def loss(self, run: Run, rng: np.random.Generator) -> Tensor:
        """As `Objective.loss`."""
        config = run.config
        drawn = self._sampler.draw(self._count, rng)
        clean, labels = deform(drawn.images, drawn.labels, config.augmentation, rng)
        images = tarnish(clean, labels, config.augmentation, rng)
        logits = run.forward(run.module, run.to_device(images))
        known, scope = run.to_device(labels), run.to_device(drawn.scope)
        loss = segmentation_loss(logits, known, scope, self._table)
        if not config.consistency:
            return loss
        with torch.no_grad():
            # The teacher sees the same tissue in better light.
            teacher = run.forward(run.teacher, run.to_device(clean))
        return loss + config.consistency * ramp(run.fraction) * consistency_loss(logits, teacher, known)


def ramp(fraction: float) -> float:
    """Weight of the consistency term relative to its full one, as in the paper: exp(-5 (1 - t)^2)."""
    return float(np.exp(-5.0 * (1.0 - min(1.0, fraction / _RAMP)) ** 2))


__all__ = [
    "Checkpoint",
    "TrainedModel",
    "TrainingConfig",
    "TrainingMetrics",
    "TrainingProgress",
    "one_cycle",
    "train",
]
