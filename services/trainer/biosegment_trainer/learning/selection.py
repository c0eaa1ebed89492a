"""Which of the weights seen on the way are kept: those that do best on what was held out, the parent's among
them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment_trainer.learning.dataset import TrainingPart
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.learning.optimisation import Checkpoint, Run

_TILE = {2: (1, 256, 256), 3: (16, 96, 96)}
"""Working voxels of a tile that count, by number of the network's axes; it sees a halo around them."""

_PER_RUN = 10
"""Validations in a run, unless their distance is given."""

_SETTLING = 0.5
"""Share of a run after which validations without gain count."""


@dataclass(frozen=True, slots=True)
class _Span:
    """One tile along one axis: `core` and `window` in the part, `inner` is the core in the window, which is
    mirrored by `fill` voxels at its end to a multiple of the network's stride.
    """

    core: slice
    window: slice
    inner: slice
    fill: int

    @property
    def length(self) -> int:
        return int(self.window.stop - self.window.start) + self.fill


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A window of a held-out part, cut out when it is needed: windows overlap, and may be many.

    Attributes:
        part: What it is of.
        axes: Where, along z, y and x; a 2D network sees all slices of the part and is asked about the only one
            with labels.
        planar: Whether the network is 2D.
    """

    part: TrainingPart
    axes: tuple[_Span, _Span, _Span]
    planar: bool

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Of the core: uint8 (z, y, x)."""
        return self.part.labels[tuple(axis.core for axis in self.axes)]

    @property
    def voxels(self) -> int:
        """Working voxels that are computed."""
        deep, *wide = (axis.length for axis in self.axes)
        return int(np.prod(wide)) * (1 if self.planar else deep)

    @property
    def core(self) -> tuple[slice, ...]:
        """Where the labels lie in the window."""
        return tuple(axis.inner for axis in self.axes[self.planar :])

    def batch(self) -> Tensor:
        """The window as a batch of one."""
        windows = [axis.window for axis in self.axes]
        after = [(0, axis.fill) for axis in self.axes]
        if self.planar:
            windows[0], after[0] = slice(None), (0, 0)
        image = torch.from_numpy(np.pad(self.part.image[tuple(windows)], after, mode="symmetric"))
        return image[None] if self.planar else image[None, None]


class HeldOut:
    """What was held out, cut into tiles.

    Args:
        parts: The held-out parts.
        classes: Of the model.
        network: What looks at them.
        max_voxels: As in `ValidationConfig`.
    """

    def __init__(
        self,
        parts: Sequence[TrainingPart],
        classes: Sequence[LabelClass],
        network: NetworkConfig,
        max_voxels: int,
    ) -> None:
        tiles = [tile for part in parts for tile in _tiles(part, network)]
        cost = sum(tile.voxels for tile in tiles)
        if cost > max_voxels:
            count = max(1, int(len(tiles) * max_voxels / cost))
            tiles = [tiles[i] for i in np.linspace(0, len(tiles) - 1, count).round().astype(int)]
        self._tiles = tiles
        found = {int(value) for tile in tiles for value in np.unique(tile.labels)}
        self.values = sorted(found & {c.value for c in classes if c.value})
        """Classes that occur."""

    def measure(self, run: Run) -> Confusion:
        """Counts of the averaged weights at working resolution."""
        confusion = Confusion(run.classes)
        values = np.array(NetworkModel(run.network, run.classes, {}).label_values, np.uint8)
        for tile in self._tiles:
            with torch.inference_mode():
                logits = run.forward(run.teacher, run.to_device(tile.batch()))
            best = values[logits[0].argmax(0).cpu().numpy()][tile.core]
            looked_for = zip(run.classes, tile.part.scope[1:], strict=True)
            scope = frozenset(c.value for c, inside in looked_for if inside)
            confusion.add(tile.labels, best[None] if tile.planar else best, scope)
        return confusion


def _tiles(part: TrainingPart, network: NetworkConfig) -> Iterator[_Tile]:
    places = np.nonzero(part.labels)
    spans = []
    for axis, (found, size) in enumerate(zip(places, part.labels.shape, strict=True)):
        edge, stride, halo = _TILE[network.spatial_dims][axis], network.stride[axis], network.halo[axis]
        first, last = int(found.min()), int(found.max()) + 1
        spans.append([_span(at, min(at + edge, last), size, stride, halo) for at in range(first, last, edge)])
    for depth, rows, columns in itertools.product(*spans):
        tile = _Tile(part, (depth, rows, columns), network.spatial_dims == 2)
        if tile.labels.any():
            yield tile


def _span(start: int, stop: int, size: int, stride: int, halo: int) -> _Span:
    first = max(0, start - halo) // stride * stride
    last = min(size, -(-(stop + halo) // stride) * stride)
    return _Span(
        slice(start, stop), slice(first, last), slice(start - first, stop - first), (first - last) % stride
    )


class Selection:
    """Validates a run as it goes, and keeps the best weights, or the last ones that are as good.

    Args:
        run: Before its first step.
        held: What is held out.
        from_parent: Whether the weights that the run starts with are a parent's, which are kept until a child is
            as good.

    Attributes:
        parent_score: Mean IoU of the parent; None without one.
    """

    def __init__(self, run: Run, held: HeldOut, from_parent: bool) -> None:
        self._run, self._held, self._config = run, held, run.config.validation
        self.parent_score: float | None = None
        self._best = -1.0
        self._step = -1
        self._weights = run.averaged_model().weights
        self._summary: dict[str, float] = {}
        self._latest: float | None = None
        self._misses = 0
        self._checks = 0
        self._from_parent = from_parent

    @property
    def keeps_parent(self) -> bool:
        """Whether nothing that was trained is as good as the parent."""
        return self._step == 0

    @property
    def latest(self) -> float | None:
        """Mean IoU of the last validation."""
        return self._latest

    @property
    def summary(self) -> dict[str, float]:
        """`iou/<class>` and `dice/<class>` of the weights that are kept."""
        return self._summary

    @property
    def model(self) -> NetworkModel:
        """What is kept."""
        return NetworkModel(self._run.network, self._run.classes, self._weights)

    def begin(self) -> None:
        """Judge the parent."""
        if self._from_parent:
            self._validate()
            self.parent_score = self._latest

    def after_step(self) -> bool:
        """Validate when it is time; True when there is nothing to be gained any more."""
        run = self._run
        if self._config.every:
            due = run.step % self._config.every == 0
        else:
            due = run.fraction * _PER_RUN >= self._checks + 1 - 1e-9
        if not due and not run.finished:
            return False
        self._checks = int(run.fraction * _PER_RUN + 1e-9)
        self._validate()
        return 0 < self._config.patience <= self._misses

    def _validate(self) -> None:
        begin, run = time.perf_counter(), self._run
        confusion = self._held.measure(run)
        score = float(np.mean([confusion.iou(value) for value in self._held.values]))
        self._latest = score
        if score >= self._best - self._config.tolerance:
            self._step, self._summary = run.step, confusion.summary()
            self._weights = run.averaged_model().weights
        settling = run.fraction > _SETTLING
        self._misses = self._misses + 1 if settling and score <= self._best else 0
        self._best = max(self._best, score)
        run.seconds += time.perf_counter() - begin

    def state(self) -> Checkpoint:
        """For the checkpoint."""
        return {
            "selection": {
                "parent_score": self.parent_score,
                "best": self._best,
                "step": self._step,
                "weights": self._weights,
                "summary": dict(self._summary),
                "latest": self._latest,
                "misses": self._misses,
                "checks": self._checks,
            }
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """From `state`."""
        state = checkpoint["selection"]
        self.parent_score, self._latest = state["parent_score"], state["latest"]
        self._best, self._step, self._summary = state["best"], state["step"], dict(state["summary"])
        self._weights = {name: tensor.clone() for name, tensor in state["weights"].items()}
        self._misses, self._checks = state["misses"], state["checks"]
