"""Segmentation quality from counts that add up block by block."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment.volume import NOT_ANNOTATED
from biosegment_trainer.learning.network import LabelClass


@dataclass(slots=True)
class Confusion:
    """Streaming counts for each class; `add` any number of blocks, then ask.

    Attributes:
        classes: The classes to count.
        both: Voxels that truth and prediction give to the class, by class value.
        truth: Voxels that the truth gives to it.
        predicted: Voxels that the prediction gives to it.
    """

    classes: tuple[LabelClass, ...]
    both: dict[int, int] = field(default_factory=dict)
    truth: dict[int, int] = field(default_factory=dict)
    predicted: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        truth: NDArray[np.uint8],
        prediction: NDArray[np.uint8],
        scope: Sequence[int] | Set[int] | None = None,
    ) -> None:
        """Count one block.

        Args:
            truth: Label values of any shape; 0 counts nowhere.
            prediction: Label values of the same shape.
            scope: Class values that the annotator looked for; only they are counted. None means all.
        """
        if truth.shape != prediction.shape:
            raise InvalidArgument(
                "BAD_SHAPE", f"truth {truth.shape} and prediction {prediction.shape} must agree"
            )
        known = truth != NOT_ANNOTATED
        for value in (c.value for c in self.classes if scope is None or c.value in scope):
            is_true, is_predicted = truth == value, (prediction == value) & known
            self.both[value] = self.both.get(value, 0) + int(np.count_nonzero(is_true & is_predicted))
            self.truth[value] = self.truth.get(value, 0) + int(np.count_nonzero(is_true))
            self.predicted[value] = self.predicted.get(value, 0) + int(np.count_nonzero(is_predicted))

    def iou(self, value: int) -> float:
        """Intersection over union of a class; NaN when neither truth nor prediction has it."""
        both = self.both.get(value, 0)
        union = self.truth.get(value, 0) + self.predicted.get(value, 0) - both
        return both / union if union else float("nan")

    def dice(self, value: int) -> float:
        """2 |A and B| / (|A| + |B|) of a class; NaN when neither has it."""
        total = self.truth.get(value, 0) + self.predicted.get(value, 0)
        return 2 * self.both.get(value, 0) / total if total else float("nan")

    def summary(self) -> dict[str, float]:
        """`iou/<name>` and `dice/<name>` of the classes that occur."""
        counted = [c for c in self.classes if self.truth.get(c.value, 0) + self.predicted.get(c.value, 0)]
        return {f"iou/{c.name}": self.iou(c.value) for c in counted} | {
            f"dice/{c.name}": self.dice(c.value) for c in counted
        }
