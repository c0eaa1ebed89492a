"""Optimiser steps: what a training and a pretraining have in common."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment_trainer.learning.augmentation import AugmentationConfig
from biosegment_trainer.learning.group import Alone, Group
from biosegment_trainer.learning.network import (
    LabelClass,
    NetworkConfig,
    NetworkModel,
    inherited_weights,
    not_finite,
)
from biosegment_trainer.learning.precision import has_bfloat16
from biosegment_trainer.learning.validation import ValidationConfig

Checkpoint = dict[str, Any]
_CHECKPOINT_FORMAT = 3


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One training run.

    Attributes:
        network: Used when there is no parent; a child has its parent's network, with the `input_slices` of this
            one when they are more than one.
        steps: Optimiser steps at most.
        max_seconds: Wall clock at most, checkpointed time included; None for no limit. The learning rate
            then follows whichever of steps and seconds is further, and the result depends on the machine's
            speed.
        batch_size: Patches a step.
        patch_size: Edge of a patch in working pixels, a multiple of the network's stride.
        patch_depth: Slices of a patch for 3D networks, a multiple of the network's stride in z.
        learning_rate: Peak of the one-cycle schedule.
        warmup: Share of the run in which the rate rises.
        weight_decay: AdamW's.
        ema_decay: Of the averaged weights, which are the result: single rounds would swing by 0.1 to 0.2 IoU.
        foreground_share: Share of patches that are centred on a class.
        checkpoint_steps: Steps between checkpoints.
        consistency: Weight of agreement with the averaged weights where nobody annotated, reached at
            two fifths of the run; 0 switches it off.
        shards: A batch is drawn, and batch norm measured, in so many parts of equal size. Several processes
            share them; the result does not depend on how many do.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    steps: int = 200
    max_seconds: float | None = None
    batch_size: int = 8
    patch_size: int = 96
    patch_depth: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 1e-4
    ema_decay: float = 0.99
    foreground_share: float = 0.4
    checkpoint_steps: int = 100
    consistency: float = 0.0
    shards: int = 1
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch_size, self.patch_size, self.patch_depth, self.checkpoint_steps)
        if min(counts) < 1:
            raise InvalidArgument(
                "BAD_TRAINING",
                "steps, batch_size, patch_size, patch_depth and checkpoint_steps must be positive",
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
        if not 0 <= self.consistency <= 100 or self.shards < 1 or self.batch_size % self.shards:
            raise InvalidArgument(
                "BAD_TRAINING",
                f"consistency {self.consistency} must be in 0..100, and batch_size {self.batch_size} a multiple "
                f"of shards {self.shards}",
            )

    def patch(self, network: NetworkConfig) -> tuple[int, ...]:
        """Shape of a patch in the network's axes; InvalidArgument BAD_TRAINING when it, or a batch of it, does not
        suit the network.
        """
        shape = network.patch(self.patch_depth, self.patch_size)
        network.require_batch(shape, self.batch_size // self.shards)
        return shape


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a run stands.

    Attributes:
        step: Steps done.
        steps: Steps at most.
        fraction: 0..1 of steps or seconds, whichever is further.
        loss: Of the last step.
        seconds: Wall clock of the steps.
        validation_iou: Of the last validation; None when there has been none.
    """

    step: int
    steps: int
    fraction: float
    loss: float
    seconds: float
    validation_iou: float | None = None


class Objective(Protocol):
    """What a step makes smaller."""

    def loss(self, run: Run, rng: np.random.Generator) -> Tensor:
        """A scalar for one shard of a batch; `rng` is its only source of chance, beside torch's own for
        dropout.
        """
        ...


class Run:
    """The state of a run between two steps.

    Args:
        config: How it is trained.
        parent: Where it starts; None starts with fresh weights.
        classes: Of the result, in channel order; empty for pretraining.
        seed: Of all chance.
        device: Where it computes.
        group: The processes that share the work.

    Attributes:
        step: Steps done.
        seconds: Wall clock of the steps and validations, over all attempts; the leader's.
        losses: Of every step.
    """

    def __init__(
        self,
        config: TrainingConfig,
        parent: NetworkModel | None,
        classes: tuple[LabelClass, ...],
        seed: int,
        device: torch.device,
        group: Group | None = None,
    ) -> None:
        self.config = config
        self.network = child_network(parent.network if parent else None, config.network)
        self.patch = config.patch(self.network)
        self.classes, self.seed, self.device = classes, seed, device
        self.group: Group = group or Alone()
        if config.shards < self.group.size or config.shards % self.group.size:
            raise InvalidArgument(
                "BAD_TRAINING",
                f"{config.shards} shards cannot be shared by {self.group.size} processes; use a multiple",
            )
        torch.manual_seed(seed)
        self.module = self.network.build(len(classes))
        if parent:
            self.module.load_state_dict(inherited_weights(parent, classes, self.module.state_dict()))
        self._memory_format = _memory_format(self.module, self.network.spatial_dims, device)
        self.module.to(device).to(memory_format=self._memory_format).train()  # type: ignore[call-overload]
        self.teacher = copy.deepcopy(self.module).eval().requires_grad_(False)
        # Both stay the networks' own tensors, whatever is loaded into them.
        self._average, self._weights = self.teacher.state_dict(), self.module.state_dict()
        self._optimiser = torch.optim.AdamW(
            _parameter_groups(self.module, config.weight_decay), lr=config.learning_rate, fused=True
        )
        self._mixed = has_bfloat16(device)
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []

    @property
    def leads(self) -> bool:
        """Whether this process validates, reports and writes."""
        return self.group.rank == 0

    @property
    def fraction(self) -> float:
        by_time = self.seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        return min(1.0, max(self.step / self.config.steps, by_time))

    @property
    def finished(self) -> bool:
        return self.fraction >= 1.0

    def progress(self) -> TrainingProgress:
        return TrainingProgress(self.step, self.config.steps, self.fraction, self.losses[-1], self.seconds)

    def follow_leader(self, stop: bool) -> bool:
        """Take over the leader's clock, which the learning rate may follow, and its word whether to stop."""
        said, self.seconds = self.group.agree([float(stop), self.seconds])
        return bool(said)

    def advance(self, objective: Objective) -> None:
        """One optimiser step, all of whose chance comes from (seed, step, shard); FailedPrecondition DIVERGED."""
        begin = time.perf_counter()
        rate = self.config.learning_rate * one_cycle(self.fraction, self.config.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        # All processes know the same sum, so that all of them stop here.
        loss = self._gradients(objective)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is not finite at step {self.step + 1}")
        self.losses.append(loss)
        nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self._optimiser.step()
        self._update_average()
        self.step += 1
        self.seconds += time.perf_counter() - begin

    def _gradients(self, objective: Objective) -> float:
        """Mean gradients, and batch norm's mean statistics, over all shards; returns the mean loss."""
        count = self.config.shards
        buffers = list(self.module.buffers()) if count > 1 else []
        before = [b.clone() for b in buffers]
        measured = [b for b in buffers if b.is_floating_point()]
        means = [torch.zeros_like(b) for b in measured]
        total = torch.zeros((), device=self.device)
        for shard in range(self.group.rank, count, self.group.size):
            for buffer, old in zip(buffers, before, strict=True):
                buffer.copy_(old)
            # One shard draws as if there were none: a trailing 0 changes nothing in a seed sequence.
            rng = np.random.default_rng([self.seed, self.step, shard])
            torch.manual_seed(int(rng.integers(2**62)))  # dropout
            loss = objective.loss(self, rng) / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            for mean, buffer in zip(means, measured, strict=True):
                mean += buffer / count
        if count > 1:
            gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
            self.group.sum([*gradients, *means, total])
            for buffer, mean in zip(measured, means, strict=True):
                buffer.copy_(mean)
        return float(total)

    def to_device(self, tensor: Tensor) -> Tensor:
        """A batch's tensor where the network is, copied while the GPU still works on something else."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def forward(self, module: nn.Module, images: Tensor) -> Tensor:
        """Logits of images on the device, float32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._mixed):
            found: Tensor = module(images.contiguous(memory_format=self._memory_format))
        return found.float()

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average must forget the start quickly, or a short run would return mostly that.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        pairs = [(self._average[name], tensor) for name, tensor in self._weights.items()]
        measured = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, weights = zip(*measured, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, count in pairs:
            if not average.is_floating_point():
                average.copy_(count)

    def averaged_model(self) -> NetworkModel:
        """The result so far; FailedPrecondition DIVERGED when it is none."""
        weights = {name: t.detach().cpu().contiguous().clone() for name, t in self._average.items()}
        # The last step can spoil what no later loss shows, and a batch norm's statistics enter no loss.
        if not_finite(weights):
            raise self._diverged(f"the weights are not finite after step {self.step}")
        return NetworkModel(self.network, self.classes, weights)

    def _diverged(self, what: str) -> FailedPrecondition:
        config = self.config
        return FailedPrecondition(
            "DIVERGED",
            f"{what} of {config.steps}; lower learning_rate {config.learning_rate:g} "
            f"(or weight_decay {config.weight_decay:g}) and train again",
        )

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
            "model": _on_cpu(self.module.state_dict()),
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
        self.module.load_state_dict(checkpoint["model"])
        self.teacher.load_state_dict(checkpoint["average"])
        self._optimiser.load_state_dict(_on_cpu(checkpoint["optimiser"]))
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self.losses = list(checkpoint["losses"])

    def _identity(self) -> str:
        return f"seed {self.seed}; {self.config}; {self.network}; {self.classes}"


def optimise(
    run: Run,
    objective: Objective,
    *,
    after_step: Callable[[], bool] = lambda: False,
    state: Callable[[], Checkpoint] = dict,
    progress: Callable[[], TrainingProgress] | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Take steps until the run is finished; True when it was told to stop before.

    Args:
        run: At its first step, or restored.
        objective: What a step makes smaller.
        after_step: Called by the leader after each step; True ends the run: nothing is to be gained any more.
        state: What a checkpoint holds beside the run.
        progress: What `on_progress` is told; the run's own by default.
        on_progress: As in `train`, of the leader alone.
        on_checkpoint: As in `train`, of the leader alone.
        should_stop: As in `train`, of the leader alone.

    Raises:
        FailedPrecondition: DIVERGED.
    """
    settled = False
    while not run.finished and not settled:
        stop = run.follow_leader(run.leads and should_stop is not None and should_stop())
        due = run.step > 0 and (stop or run.step % run.config.checkpoint_steps == 0)
        if run.leads and on_checkpoint and due:
            on_checkpoint(run.checkpoint() | state())
        if stop:
            return True
        run.advance(objective)
        settled = run.follow_leader(run.leads and after_step())
        if run.leads and on_progress:
            on_progress((progress or run.progress)())
    return False


def child_network(parent: NetworkConfig | None, wanted: NetworkConfig) -> NetworkConfig:
    """The network of a run: the parent's, with as many slices as are asked for if that is more than one."""
    if parent is None:
        return wanted
    if parent.spatial_dims == 2 and wanted.input_slices > 1:
        return dataclasses.replace(parent, input_slices=wanted.input_slices)
    return parent


def _memory_format(module: nn.Module, spatial_dims: int, device: torch.device) -> torch.memory_format:
    """Channels last: on a CPU, too, steps take a fifth less time in 2D and nearly half less in 3D.

    But not where a convolution skips voxels (its stride is larger than its kernel): with channels last, the CPU's
    gradient of one with kernel 1 and stride 2 writes beyond its memory (PyTorch 2.13).
    """
    skips = (
        any(s > k for k, s in zip(layer.kernel_size, layer.stride, strict=True))
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Conv3d)
    )
    if device.type == "cpu" and any(skips):
        return torch.contiguous_format
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


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
