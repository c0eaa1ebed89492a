"""One attempt to train or pretrain: goes on from a checkpoint, reports, writes the model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from biosegment.errors import FailedPrecondition
from biosegment.failpoint import failpoint
from biosegment.storage.objects import BlockingObjects
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import not_finite
from biosegment_trainer.learning.optimisation import Checkpoint, TrainingProgress
from biosegment_trainer.registry.bundle_files import upload_bundle
from biosegment_trainer.training.checkpoint import Checkpoints

_T = TypeVar("_T")


class Attempt:
    """Between a run of the learning core and the platform.

    Args:
        checkpoints: Where they lie.
        reporter: Hears of progress.
        first: Fraction of the task at which steps begin; they end at 0.98.
    """

    def __init__(self, checkpoints: Checkpoints, reporter: Reporter, first: float) -> None:
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._first = first

    def resumed(self, work: Callable[[Checkpoint | None], _T]) -> _T:
        """Do `work` from the newest checkpoint that fits it."""
        resume = self._checkpoints.newest()
        if resume is None:
            return work(None)
        key, content = resume
        try:
            self._reporter.log(f"resuming at step {content['step']} from {key}")
            return work(content)
        except FailedPrecondition as error:
            if error.reason != "CHECKPOINT_MISMATCH":
                raise
            self._reporter.log(f"starting afresh: {error.message}")
            return work(None)

    def on_progress(self, progress: TrainingProgress) -> None:
        """Report a step."""
        metrics = {"loss": progress.loss}
        if progress.validation_iou is not None:
            metrics["validation_iou"] = progress.validation_iou
        fraction = self._first + (0.98 - self._first) * progress.fraction
        self._reporter.progress(fraction, "training", progress.step, progress.steps, "steps", **metrics)

    def on_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep a checkpoint, unless the attempt is over."""
        if not self._reporter.should_stop:
            self._checkpoints.write(checkpoint)

    def should_stop(self) -> bool:
        """Whether the job was cancelled or taken over."""
        return self._reporter.should_stop


def write_model(bundle: ModelBundle, objects: BlockingObjects, key: str, reporter: Reporter) -> str:
    """Write a bundle below `key`; returns the SHA-256 of its weights.

    Raises:
        FailedPrecondition: DIVERGED when its weights are not finite: nothing could read it.
    """
    reporter.check()
    spoilt = not_finite(bundle.model.weights)
    if spoilt:
        raise FailedPrecondition(
            "DIVERGED",
            f"{len(spoilt)} tensors of the model are not finite, first {spoilt[0]}; lower learning_rate or "
            "weight_decay and train again",
        )
    reporter.progress(0.99, "writing the model")
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        write_bundle(bundle, Path(folder))
        reporter.check()
        digest = upload_bundle(objects, Path(folder), key)
        failpoint("trainer.worker.bundle_written")
    return digest
