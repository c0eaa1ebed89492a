"""Self-supervised pretraining: a network learns a tissue's looks before anybody has annotated it.

Cells of a patch are blanked, the rest is shown with noise, blur and other light, and the network paints what was
there; only blanked voxels count. This is inpainting as in D. Pathak et al.: Context encoders: feature learning by
inpainting, CVPR 2016 (arXiv 1604.07379), with the many small random cells of K. He et al.: Masked autoencoders are
scalable vision learners, CVPR 2022 (arXiv 2111.06377), for a convolutional network whose body a segmentation then
takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import InvalidArgument
from biosegment.volume import NOT_ANNOTATED, Index, Region
from biosegment_trainer.learning.augmentation import deform, tarnish
from biosegment_trainer.learning.group import Group
from biosegment_trainer.learning.network import NetworkModel, pick_device
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.optimisation import (
    Checkpoint,
    Run,
    TrainingConfig,
    TrainingProgress,
    optimise,
)
from biosegment_trainer.learning.resolution import downsample_raw

_BLOCK_PATCHES = 2
"""Edges of a block, in edges of a patch: what is decoded serves many patches."""

_TRIES = 8


@dataclass(frozen=True, slots=True)
class MaskConfig:
    """What is blanked, and how much is looked at.

    Attributes:
        share: Share of cells that are blanked.
        cell: Edge of a cell in working voxels.
        blocks: Places in the volumes from which all patches come; they are held in memory.
    """

    share: float = 0.5
    cell: int = 8
    blocks: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.cell < 1 or self.blocks < 1:
            raise InvalidArgument(
                "BAD_PRETRAINING", f"{self}: share is in 0..1, cell and blocks are at least 1"
            )


@dataclass(frozen=True, slots=True, eq=False)
class RawVolume:
    """Where patches come from.

    Attributes:
        read: Reads raw voxels of a level-0 region inside the volume.
        shape: (z, y, x).
        statistics: Of every slice.
        factor: Voxels per working pixel in y and x.
    """

    read: Callable[[Region], NDArray[np.generic]]
    shape: tuple[int, int, int]
    statistics: SliceStatistics
    factor: int


@dataclass(frozen=True, slots=True)
class PretrainedModel:
    """The averaged weights, and how they came about.

    Attributes:
        model: Without classes; its one channel paints what it sees.
        steps: Optimiser steps done, over all attempts.
        seconds: Wall clock of the steps, over all attempts.
        final_loss: Mean squared error of blanked voxels over the last tenth of the run, in deviations: 1 for a
            network that knows nothing.
        stopped: `should_stop` ended the run early.
    """

    model: NetworkModel
    steps: int
    seconds: float
    final_loss: float
    stopped: bool


def pretrain(
    config: TrainingConfig,
    mask: MaskConfig,
    volumes: Sequence[RawVolume],
    *,
    seed: int,
    resume_from: Checkpoint | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str | None = None,
    group: Group | None = None,
) -> PretrainedModel:
    """Pretrain a network; the same arguments on the same machine give the same weights.

    Args:
        config: How to train; shares of foreground, consistency and validation mean nothing here.
        mask: What is blanked.
        volumes: At least one.
        seed: Source of all chance, not negative.
        resume_from: A checkpoint of the same run.
        on_progress: Called after every step.
        on_checkpoint: As in `training.train`.
        should_stop: Asked before every block and step.
        device: As in `training.train`.
        group: As in `training.train`.

    Raises:
        InvalidArgument: NO_VOLUMES, BAD_TRAINING.
        FailedPrecondition: CHECKPOINT_MISMATCH when the checkpoint is of another run; DIVERGED when the loss or the
            weights are no longer finite.
    """
    if not volumes:
        raise InvalidArgument("NO_VOLUMES", "no volume to learn from; name at least one")
    with torch.random.fork_rng(devices=[]):
        run = Run(config, None, (), seed, pick_device(device), group)
        if resume_from is not None:
            run.restore(resume_from)
        blocks = list(_blocks(volumes, run, mask.blocks, should_stop or (lambda: False)))
        stopped = optimise(
            run,
            _Inpainting(run, blocks, mask),
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
            should_stop=should_stop,
        )
        tail = run.losses[-max(1, len(run.losses) // 10) :]
        loss = float(np.mean(tail)) if tail else float("nan")
        return PretrainedModel(run.averaged_model(), run.step, run.seconds, loss, stopped)


def _blocks(
    volumes: Sequence[RawVolume], run: Run, count: int, should_stop: Callable[[], bool]
) -> Iterator[NDArray[np.float32]]:
    """Normalised blocks (z, y, x) at working resolution from anywhere in the volumes, larger ones more often;
    blank ones only where nothing else is found.
    """
    rng = np.random.default_rng([run.seed, 0])
    sizes = np.array([float(np.prod(volume.shape)) for volume in volumes])
    for _ in range(count):
        if should_stop():
            return
        volume = volumes[int(rng.choice(len(volumes), p=sizes / sizes.sum()))]
        for _ in range(_TRIES):
            block = _block(volume, run, rng)
            if block.std() > 0.05:
                break
        yield block


def _block(volume: RawVolume, run: Run, rng: np.random.Generator) -> NDArray[np.float32]:
    deep = run.network.input_slices if run.network.spatial_dims == 2 else _BLOCK_PATCHES * run.patch[0]
    edge = _BLOCK_PATCHES * run.patch[-1] * volume.factor
    starts, stops = [], []
    for length, size, step in zip(
        (deep, edge, edge), volume.shape, (1, volume.factor, volume.factor), strict=True
    ):
        start = int(rng.integers(max(0, size - length) // step + 1)) * step
        starts.append(start)
        stops.append(min(start + length, size))
    region = Region(Index(*starts), Index(*stops))
    image = downsample_raw(volume.read(region), volume.factor)
    image = normalise(image, volume.statistics[starts[0] : stops[0]])
    wanted = (deep if run.network.spatial_dims == 2 else run.patch[0], run.patch[-1], run.patch[-1])
    short = [(0, max(0, want - have)) for want, have in zip(wanted, image.shape, strict=True)]
    return np.pad(image, short, mode="symmetric") if any(after for _, after in short) else image


class _Inpainting:
    """Blanked voxels as they were."""

    def __init__(self, run: Run, blocks: Sequence[NDArray[np.float32]], mask: MaskConfig) -> None:
        self._blocks, self._mask = blocks, mask
        self._planar = run.network.spatial_dims == 2
        self._count = run.config.batch_size // run.config.shards

    def loss(self, run: Run, rng: np.random.Generator) -> Tensor:
        """As `Objective.loss`."""
        images = torch.from_numpy(np.stack([self._patch(run, rng) for _ in range(self._count)]))
        if not self._planar:
            images = images.unsqueeze(1)
        space = images.shape[-run.network.spatial_dims :]
        # There are no labels; the shape alone says which slice is asked about.
        nothing = torch.full((self._count, *space), NOT_ANNOTATED, dtype=torch.uint8)
        clean, nothing = deform(images, nothing, run.config.augmentation, rng)
        hidden = self._cells(space, rng).unsqueeze(1)
        seen = tarnish(clean, nothing, run.config.augmentation, rng).masked_fill(hidden, 0.0)
        painted = run.forward(run.module, run.to_device(seen))
        # All slices that a 2.5D network sees are blanked alike, else it would copy what its neighbour shows.
        truth = clean[:, clean.shape[1] // 2 : clean.shape[1] // 2 + 1]
        asked = run.to_device(hidden.float())
        error = (painted - run.to_device(truth)).square() * asked
        return error.sum() / asked.sum().clamp(min=1)

    def _patch(self, run: Run, rng: np.random.Generator) -> NDArray[np.float32]:
        block = self._blocks[int(rng.integers(len(self._blocks)))]
        shape = (block.shape[0], *run.patch) if self._planar else run.patch
        starts = [int(rng.integers(have - want + 1)) for have, want in zip(block.shape, shape, strict=True)]
        return block[tuple(slice(start, start + n) for start, n in zip(starts, shape, strict=True))]

    def _cells(self, space: Sequence[int], rng: np.random.Generator) -> Tensor:
        """True in blanked cells, whose raster is shifted by chance: bool (N, ...)."""
        cell = self._mask.cell
        hidden = rng.random((self._count, *(n // cell + 2 for n in space))) < self._mask.share
        for axis, length in enumerate(space, start=1):
            start = int(rng.integers(cell))
            hidden = np.take(hidden.repeat(cell, axis), range(start, start + length), axis)
        return torch.from_numpy(hidden)
