"""Per-voxel quantities that strategies rank by, computed from class probabilities and pooled onto the score
grid.

To add one, write a function from what was seen of a tile to a map, and register it. Larger always means more worth
looking at, except for the embedding, which only says what is alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from biosegment.errors import InvalidArgument

CELL = 16
"""Edge of a score cell in working pixels."""
EMBEDDING_SIZE: Final = 32
"""Values of an embedding, whatever the network."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of some slices of a tile; what several measures need is computed once.

    Attributes:
        probabilities: float32 (N, 1 + C, y, x), sum 1; the mean when there are several passes.
        before: The same of each slice's neighbour below; the slice itself where the volume begins. None unless a
            measure needs neighbours.
        after: Of the neighbour above.
        pass_entropy: float32 (N, y, x), mean of the passes' entropies. None unless a measure compares passes.
        pass_squares: float32 (N, 1 + C, y, x), mean of the passes' squared probabilities. None likewise.
        reach: float32 (N, y, x), norm of what the last layer sees. None unless a measure needs it.
        cells: float32 (N, EMBEDDING_SIZE, cells y, cells x). None likewise.
    """

    probabilities: Tensor
    before: Tensor | None = None
    after: Tensor | None = None
    pass_entropy: Tensor | None = None
    pass_squares: Tensor | None = None
    reach: Tensor | None = None
    cells: Tensor | None = None

    @cached_property
    def entropy(self) -> Tensor:
        """Of the mean prediction, (N, y, x)."""
        return entropy_of(self.probabilities)

    @cached_property
    def largest(self) -> Tensor:
        """The largest class probability, (N, y, x)."""
        p = self.probabilities
        found = torch.maximum(p[:, 0], p[:, 1])
        for channel in range(2, p.shape[1]):
            torch.maximum(found, p[:, channel], out=found)
        return found

    @cached_property
    def second(self) -> Tensor:
        """The second largest class probability, (N, y, x)."""
        p = self.probabilities
        if p.shape[1] == 2:
            return torch.minimum(p[:, 0], p[:, 1])
        return p.topk(2, dim=1).values[:, 1]


def entropy_of(p: Tensor) -> Tensor:
    """Shannon entropy in nats of float (N, 1 + C, y, x), 0..ln(1 + C); 0 log 0 is 0."""
    total: Tensor = torch.special.entr(p[:, 0])
    for channel in range(1, p.shape[1]):
        total += torch.special.entr(p[:, channel])
    return total.clamp_(max=math.log(p.shape[1]))


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity and what it is computed from.

    Attributes:
        name: How it is asked for.
        compute: Takes the evidence; returns float (N, y, x), or (N, channels, y, x), or with `is_pooled` (N, channels,
            cells y, cells x).
        needs_passes: It compares passes; two at least.
        needs_neighbours: It compares slices.
        needs_reach: It uses `Evidence.reach`.
        is_pooled: It has one value a cell and not one a pixel; uses `Evidence.cells`.
        per_class: It has a channel for each class.
    """

    name: str
    compute: Callable[[Evidence], Tensor]
    needs_passes: bool = False
    needs_neighbours: bool = False
    needs_reach: bool = False
    is_pooled: bool = False
    per_class: bool = False

    def channels(self, class_count: int) -> int:
        """Values for each score cell of a model with so many classes."""
        return class_count if self.per_class else EMBEDDING_SIZE if self.is_pooled else 1


def entropy(seen: Evidence) -> Tensor:
    """Shannon entropy of the prediction in nats (Shannon 1948; Lewis and Gale 1994)."""
    return seen.entropy


def least_confidence(seen: Evidence) -> Tensor:
    """1 - the largest probability, 0..C / (1 + C) (Lewis and Gale 1994)."""
    return 1 - seen.largest


def margin(seen: Evidence) -> Tensor:
    """1 - (largest - second largest probability), 0..1 (Scheffer et al. 2001): unlike the textbook's, larger is more
    uncertain.
    """
    return 1 - (seen.largest - seen.second)


def class_probability(seen: Evidence) -> Tensor:
    """Probability that a voxel is not background, 0..1."""
    return 1 - seen.probabilities[:, 0]


def class_entropy(seen: Evidence) -> Tensor:
    """Entropy times the probability of each class (ClaSP PE, arXiv 2601.13677): uncertain, and of that class."""
    return seen.entropy.unsqueeze(1) * seen.probabilities[:, 1:]


def gradient_embedding(seen: Evidence) -> Tensor:
    """Norm of BADGE's gradient embedding (Ash et al. 2020): of the cross-entropy against the likeliest class, with
    regard to the last layer's weights.

    The gradient is the outer product of p - onehot(argmax p) and what the layer sees, and the norm of that is the
    product of theirs.
    """
    assert seen.reach is not None
    p = seen.probabilities
    # |p - e|^2 = |p|^2 - 2 p_max + 1
    squares = p[:, 0].square()
    for channel in range(1, p.shape[1]):
        squares.addcmul_(p[:, channel], p[:, channel])
    return (squares - 2 * seen.largest + 1).clamp_(min=0).sqrt_() * seen.reach


def slice_disagreement(seen: Evidence) -> Tensor:
    """Mean total variation distance to the predictions of the two neighbouring slices, 0..1.

    The volume's counterpart of the disagreement between views (ViewAL, Siddiqui et al. 2020); where the volume ends,
    the missing neighbour agrees.
    """
    assert seen.before is not None
    assert seen.after is not None
    p = seen.probabilities
    if p.shape[1] == 2:
        total = (p[:, 1] - seen.before[:, 1]).abs_()
        return total.add_((p[:, 1] - seen.after[:, 1]).abs_()).mul_(0.5)
    return ((p - seen.before).abs().sum(1) + (p - seen.after).abs().sum(1)) / 4


def mutual_information(seen: Evidence) -> Tensor:
    """Entropy of the mean prediction minus the mean entropy of the passes, in nats: BALD (Houlsby et al. 2011; Gal et
    al. 2017), what passes disagree about and not what all of them doubt.
    """
    assert seen.pass_entropy is not None
    return (seen.entropy - seen.pass_entropy).clamp_(min=0)


def disagreement(seen: Evidence) -> Tensor:
    """Deviation of the probabilities over the passes (Gal and Ghahramani 2016; for test-time augmentation Wang et al.
    2019): root of half of the variances' sum, which for one class is the deviation of its probability.
    """
    assert seen.pass_squares is not None
    variance = (seen.pass_squares - seen.probabilities.square()).sum(1)
    return (variance / 2).clamp_(min=0).sqrt_()


def embedding(seen: Evidence) -> Tensor:
    """Features of the network's coarsest level, as core-set selection uses them (Sener and Savarese 2018)."""
    assert seen.cells is not None
    return seen.cells


MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for measure in (
        Measure("entropy", entropy),
        Measure("least_confidence", least_confidence),
        Measure("margin", margin),
        Measure("class_probability", class_probability),
        Measure("class_entropy", class_entropy, per_class=True),
        Measure("gradient_embedding", gradient_embedding, needs_reach=True),
        Measure("slice_disagreement", slice_disagreement, needs_neighbours=True),
        Measure("mutual_information", mutual_information, needs_passes=True),
        Measure("disagreement", disagreement, needs_passes=True),
        Measure("embedding", embedding, is_pooled=True),
    )
}


def require_measures(names: Sequence[str]) -> tuple[Measure, ...]:
    """The named measures; raises InvalidArgument UNKNOWN_MEASURE."""
    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        raise InvalidArgument("UNKNOWN_MEASURE", f"measures {unknown} are unknown; known: {sorted(MEASURES)}")
    return tuple(MEASURES[name] for name in names)


def pool(values: Tensor, cell: int = CELL) -> Tensor:
    """Means over `cell` x `cell` pixels: (N, y, x) -> float16 (N, ceil(y / cell), ceil(x / cell)).

    A cell that the border cuts is the mean over the pixels that it has.
    """
    count, height, width = values.shape
    if height % cell or width % cell:
        sums = F.avg_pool2d(values.float().unsqueeze(1), cell, ceil_mode=True, count_include_pad=False)
        return sums.squeeze(1).half()
    # Rows first: whole rows add up six times as fast as `avg_pool2d` does it.
    rows = values.float().reshape(count, height // cell, cell, width).sum(2)
    return (rows.view(count, height // cell, width // cell, cell).sum(3) / cell**2).half()
