"""Which of the weights seen on the way are kept: those that do best on what was held out, the parent's among
them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from biosegment_trainer.learning.annotated_tile import count, spread, tiles_of
from biosegment_trainer.learning.dataset import TrainingPart
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.learning.optimisation import Checkpoint, Run

_PER_RUN = 10
"""Validations in a run, unless their distance is given."""

_SETTLING = 0.5
"""Share of a run after which validations without gain count."""


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
        tiles = [tile for part in parts for tile in tiles_of(part, network)]
        self._tiles = spread(tiles, max_voxels)
        found = {int(value) for tile in self._tiles for value in np.unique(tile.labels)}
        self.values = sorted(found & {c.value for c in classes if c.value})
        """Classes that occur."""

    def measure(self, run: Run) -> Confusion:
        """Counts of the averaged weights at working resolution."""
        confusion = Confusion(run.classes)
        for tile in self._tiles:
            count(run, tile, confusion)
        return confusion


class Selection:
    """Validates a run as it goes, and keeps the best weights, or the last ones that are as good.

    Args:
        run: Before its first step.
        held: What is held out.
        from_parent: Whether the weights that the run starts with are a parent's, which are kept until a child is
            as good.

    Attributes:
        parent_score: Mean IoU of the parent; None without one.
        parent_summary: `iou/<class>` and `dice/<class>` of the parent; empty without one.
    """

    def __init__(self, run: Run, held: HeldOut, from_parent: bool) -> None:
        self._run, self._held, self._config = run, held, run.config.validation
        self.parent_score: float | None = None
        self.parent_summary: dict[str, float] = {}
        self._best = -1.0
        self._step = -1
        self._weights = run.averaged_model().weights
        self._summary: dict[str, float] = {}
        self._score: float | None = None
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
    def score(self) -> float | None:
        """Mean IoU of the weights that are kept, over the classes that are annotated; None before a validation."""
        return self._score

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
            self.parent_score, self.parent_summary = self._latest, dict(self._summary)

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
            self._step, self._score, self._summary = run.step, score, confusion.summary()
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
                "parent_summary": dict(self.parent_summary),
                "score": self._score,
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
        self.parent_summary, self._score = dict(state["parent_summary"]), state["score"]
        self._best, self._step, self._summary = state["best"], state["step"], dict(state["summary"])
        self._weights = {name: tensor.clone() for name, tensor in state["weights"].items()}
        self._misses, self._checks = state["misses"], state["checks"]
