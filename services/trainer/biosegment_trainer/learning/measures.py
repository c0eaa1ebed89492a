"""Per-voxel quantities that strategies rank by, computed from class probabilities and pooled onto the score
grid.

To add one, write a function from probabilities to a map and name it in `MEASURES`. Larger always means more
worth looking at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from biosegment.errors import InvalidArgument

CELL = 16
"""Edge of a score cell in working pixels."""

Measure = Callable[[Tensor], Tensor]
"""float (N, 1 + C, y, x) of probabilities that sum to 1 -> float (N, y, x)."""


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats, 0..ln(1 + C); 0 log 0 is 0."""
    values: Tensor = torch.special.entr(p)
    return values.sum(1).clamp(max=math.log(p.shape[1]))


def least_confidence(p: Tensor) -> Tensor:
    """1 - the largest probability, 0..C / (1 + C)."""
    return 1 - p.amax(1)


def margin(p: Tensor) -> Tensor:
    """1 - (largest - second largest probability), 0..1: unlike the textbook's, larger is more uncertain."""
    top = p.topk(2, dim=1).values
    return 1 - (top[:, 0] - top[:, 1])


def class_probability(p: Tensor) -> Tensor:
    """Probability that a voxel is not background, 0..1."""
    return 1 - p[:, 0]


MEASURES: dict[str, Measure] = {
    "entropy": entropy,
    "least_confidence": least_confidence,
    "margin": margin,
    "class_probability": class_probability,
}


def require_measures(names: Sequence[str]) -> dict[str, Measure]:
    """The named measures; raises InvalidArgument UNKNOWN_MEASURE."""
    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        raise InvalidArgument("UNKNOWN_MEASURE", f"measures {unknown} are unknown; known: {sorted(MEASURES)}")
    return {name: MEASURES[name] for name in names}


def pool(values: Tensor, cell: int = CELL) -> Tensor:
    """Means over `cell` x `cell` pixels: (N, y, x) -> float16 (N, ceil(y / cell), ceil(x / cell)).

    A cell that the border cuts is the mean over the pixels that it has.
    """
    sums = F.avg_pool2d(values.float().unsqueeze(1), cell, ceil_mode=True, count_include_pad=False)
    return sums.squeeze(1).half()
