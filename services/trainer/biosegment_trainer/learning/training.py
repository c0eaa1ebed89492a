"""Fine-tuning: from annotated regions and a parent's weights to a child's weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment_trainer.learning.augmentation import AugmentationConfig, augment
from biosegment_trainer.learning.dataset import (
    AnnotatedRegion,
    Batch,
    PatchSampler,
    TrainingSlice,
    training_slices,
)
from biosegment_trainer.learning.loss import channel_table, segmentation_loss
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import (
    LabelClass,
    NetworkConfig,
    NetworkModel,
    inherited_weights,
    pick_device,
    require_classes,
)
from biosegment_trainer.learning.validation import Split, ValidationConfig, split

Checkpoint = dict[str, Any]
_CHECKPOINT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One training run.

    Attributes:
        network: Used when there is no parent; a child has its parent's network.
        steps: Optimiser steps at most.
        max_seconds: Wall clock at most, checkpointed time included; None for no limit. The learning rate
            then follows whichever of steps and seconds is further, and the result depends on the machine's
            speed.
        batch_size: Patches a step.
        patch_size: Edge of a patch in working pixels, a multiple of the network's stride.
        learning_rate: Peak of the one-cycle schedule.
        warmup: Share of the run in which the rate rises.
        weight_decay: AdamW's.
        ema_decay: Of the averaged weights, which are the result: single rounds would swing by 0.1 to 0.2 IoU.
        foreground_share: Share of patches that are centred on a class.
        checkpoint_steps: Steps between checkpoints.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    steps: int = 200
    max_seconds: float | None = None
    batch_size: int = 8
    patch_size: int = 96
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 1e-4
    ema_decay: float = 0.99
    foreground_share: float = 0.4
    checkpoint_steps: int = 100
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.patch_size, self.checkpoint_steps) < 1:
            raise InvalidArgument(
                "BAD_TRAINING", "steps, batch_size, patch_size and checkpoint_steps must be positive"
            )
        if (
            not 0 < self.learning_rate < 1
            or not 0 <= self.ema_decay < 1
            or not 0 <= self.foreground_share <= 1
        ):
            raise InvalidArgument(
                "BAD_TRAINING", "learning_rate, ema_decay or foreground_share is out of range"
            )
        if not 0 < self.warmup < 1 or (self.max_seconds is not None and self.max_seconds <= 0):
            raise InvalidArgument(
                "BAD_TRAINING", f"warmup {self.warmup} or max_seconds {self.max_seconds} out of range"
            )


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a run stands: `fraction` 0..1 of steps or seconds, whichever is further; `loss` of the last
    step.
    """

    step: int
    steps: int
    fraction: float
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """What a run leaves for the model's record.

    Attributes:
        steps: Optimiser steps done, over all attempts.
        seconds: Wall clock of the steps, over all attempts.
        final_loss: Mean loss over the last tenth of the run.
        training_regions: Annotations that trained.
        validation_regions: Annotations that were held out.
        validation: `iou/<class>` and `dice/<class>` at working resolution on the held-out ones; empty
            without them.
        validation_note: Why there is no validation; empty when there is.
        stopped: `should_stop` ended the run early.
    """

    steps: int
    seconds: float
    final_loss: float
    training_regions: int
    validation_regions: int
    validation: dict[str, float]
    validation_note: str
    stopped: bool


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
) -> TrainedModel:
    """Train a model; the same arguments on the same machine give the same weights.

    Every step draws its patches and its chance from (seed, step) alone. A run that resumes from a checkpoint
    therefore ends where the uninterrupted one would have.

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

    Raises:
        InvalidArgument: NO_ANNOTATIONS, NO_CLASSES, BAD_TRAINING, BAD_WEIGHTS.
        FailedPrecondition: CHECKPOINT_MISMATCH when the checkpoint is of another run.
    """
    named = require_classes(classes)
    parts = split(examples, config.validation)
    with torch.random.fork_rng(devices=[]):
        run = _Run(config, parent, named, seed, pick_device(device))
        if resume_from is not None:
            run.restore(resume_from)
        sampler = PatchSampler(
            training_slices(parts.training, named), config.patch_size, config.foreground_share
        )
        stopped = _loop(run, sampler, on_progress, on_checkpoint, should_stop or (lambda: False))
        model = run.averaged_model()
        return TrainedModel(model, _metrics(run, parts, model, stopped))


def _loop(
    run: _Run,
    sampler: PatchSampler,
    on_progress: Callable[[TrainingProgress], None] | None,
    on_checkpoint: Callable[[Checkpoint], None] | None,
    should_stop: Callable[[], bool],
) -> bool:
    while not run.finished:
        stop = should_stop()
        if on_checkpoint and run.step and (stop or run.step % run.config.checkpoint_steps == 0):
            on_checkpoint(run.checkpoint())
        if stop:
            return True
        run.advance(sampler)
        if on_progress:
            on_progress(run.progress())
    return False


def _metrics(run: _Run, parts: Split, model: NetworkModel, stopped: bool) -> TrainingMetrics:
    tail = run.losses[-max(1, len(run.losses) // 10) :]
    confusion = _validate(model, training_slices(parts.validation, model.classes), run.device)
    return TrainingMetrics(
        steps=run.step,
        seconds=run.seconds,
        final_loss=float(np.mean(tail)) if tail else float("nan"),
        training_regions=len(parts.training),
        validation_regions=len(parts.validation),
        validation=confusion.summary(),
        validation_note=parts.reason,
        stopped=stopped,
    )


class _Run:
    """The state of a run between two steps."""

    def __init__(
        self,
        config: TrainingConfig,
        parent: NetworkModel | None,
        classes: tuple[LabelClass, ...],
        seed: int,
        device: torch.device,
    ) -> None:
        self.config = config
        self.network = parent.network if parent else config.network
        if config.patch_size % self.network.stride[1]:
            raise InvalidArgument(
                "BAD_TRAINING",
                f"patch_size {config.patch_size} must be a multiple of {self.network.stride[1]}",
            )
        self.classes, self.seed, self.device = classes, seed, device
        torch.manual_seed(seed)
        self._module = self.network.build(len(classes))
        if parent:
            self._module.load_state_dict(inherited_weights(parent, classes, self._module.state_dict()))
        self._module.to(device).train()
        self._average = {name: t.detach().clone() for name, t in self._module.state_dict().items()}
        self._optimiser = torch.optim.AdamW(
            _parameter_groups(self._module, config.weight_decay), lr=config.learning_rate
        )
        self._table = channel_table([c.value for c in classes]).to(device)
        # bfloat16 only where the hardware has it: on plain CPUs it is about 45 times as slow as float32.
        self._mixed = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []

    @property
    def fraction(self) -> float:
        by_time = self.seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        return min(1.0, max(self.step / self.config.steps, by_time))

    @property
    def finished(self) -> bool:
        return self.fraction >= 1.0

    def progress(self) -> TrainingProgress:
        return TrainingProgress(self.step, self.config.steps, self.fraction, self.losses[-1], self.seconds)

    def advance(self, sampler: PatchSampler) -> None:
        """One optimiser step, all of whose chance comes from (seed, step)."""
        begin = time.perf_counter()
        rng = np.random.default_rng([self.seed, self.step])
        torch.manual_seed(int(rng.integers(2**62)))  # dropout
        drawn = sampler.draw(self.config.batch_size, rng)
        images, labels = augment(drawn.images, drawn.labels, self.config.augmentation, rng)
        loss = self._loss(Batch(images, labels, drawn.scope))
        rate = self.config.learning_rate * one_cycle(self.fraction, self.config.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._module.parameters(), 5.0)
        self._optimiser.step()
        self._update_average()
        self.losses.append(float(loss.detach()))
        self.step += 1
        self.seconds += time.perf_counter() - begin

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._mixed):
            logits = self._module(batch.images.to(self.device))
        labels, scope = batch.labels.to(self.device), batch.scope.to(self.device)
        return segmentation_loss(logits, labels, scope, self._table)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average must forget the start quickly, or a short run would return mostly that.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self._module.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor, 1 - decay)
            else:
                self._average[name].copy_(tensor)

    def averaged_model(self) -> NetworkModel:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self._average.items()}
        return NetworkModel(self.network, self.classes, weights)

    def checkpoint(self) -> Checkpoint:
        """Everything that `restore` needs; readable with `torch.load(..., weights_only=True)`.

        There are no generator states in it because a step's chance comes from (seed, step).
        """
        return {
            "format": _CHECKPOINT_FORMAT,
            "run": self._identity(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": list(self.losses),
            "model": _on_cpu(self._module.state_dict()),
            "average": _on_cpu(self._average),
            "optimiser": _on_cpu(self._optimiser.state_dict()),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        found = checkpoint.get("run"), checkpoint.get("format")
        if found != (self._identity(), _CHECKPOINT_FORMAT):
            raise FailedPrecondition(
                "CHECKPOINT_MISMATCH",
                f"the checkpoint is of run {found[0]}, not of {self._identity()}; start afresh",
            )
        self._module.load_state_dict(checkpoint["model"])
        self._average = {name: t.to(self.device).clone() for name, t in checkpoint["average"].items()}
        self._optimiser.load_state_dict(_on_cpu(checkpoint["optimiser"]))
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self.losses = list(checkpoint["losses"])

    def _identity(self) -> str:
        return f"seed {self.seed}; {self.config}; {self.network}; {self.classes}"


def one_cycle(fraction: float, warmup: float) -> float:
    """Learning rate relative to its peak: a linear rise, then half a cosine down to 0.001."""
    if fraction < warmup:
        return 0.04 + 0.96 * fraction / warmup
    return float(0.001 + 0.999 * 0.5 * (1 + np.cos(np.pi * (fraction - warmup) / (1 - warmup))))


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay convolutions only: biases, norms and PReLU slopes have no reason to shrink."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    rest = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _on_cpu(value: Any) -> Any:
    """A copy of nested dicts and lists whose tensors are the CPU's own."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value


def _validate(model: NetworkModel, slices: Sequence[TrainingSlice], device: torch.device) -> Confusion:
    """Counts on held-out slices at working resolution."""
    confusion = Confusion(model.classes)
    module = model.build(device)
    values = np.array([1, *(c.value for c in model.classes)], np.uint8)
    for part in slices:
        height, width = part.image.shape
        stride = model.network.stride[1]
        padded = np.pad(part.image, ((0, -height % stride), (0, -width % stride)), mode="symmetric")
        with torch.inference_mode():
            logits = module(torch.from_numpy(padded)[None, None].to(device))
        labels = values[logits[0, :, :height, :width].argmax(0).cpu().numpy()]
        scope = frozenset(c.value for c, inside in zip(model.classes, part.scope[1:], strict=True) if inside)
        confusion.add(part.labels, labels, scope)
    return confusion
