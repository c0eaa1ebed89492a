"""Names of the measures, known without loading torch; `learning.measures` computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.errors import InvalidArgument

EMBEDDING_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class MeasureInfo:
    """What a measure is, for those who choose.

    Attributes:
        description: One sentence, with the range.
        needs_passes: It compares passes, of which there must be two or more: MC dropout, test-time augmentation,
            ensemble members or planes.
        per_class: It has one value for each class.
        fixed_channels: Values for each score cell otherwise.
    """

    description: str
    needs_passes: bool = False
    per_class: bool = False
    fixed_channels: int = 1

    def channels(self, class_count: int) -> int:
        """Values for each score cell, side by side along x, of a model with so many classes."""
        return class_count if self.per_class else self.fixed_channels


INFOS: Final[Mapping[str, MeasureInfo]] = {
    "entropy": MeasureInfo("Shannon entropy of the class probabilities in nats, 0..ln(1 + classes)."),
    "least_confidence": MeasureInfo("1 minus the largest class probability."),
    "margin": MeasureInfo("1 minus the gap between the two largest class probabilities."),
    "class_probability": MeasureInfo("Probability that a voxel is not background."),
    "class_entropy": MeasureInfo(
        "Entropy times the probability of a class, one value a class.", per_class=True
    ),
    "gradient_embedding": MeasureInfo(
        "Norm of the last layer's gradient if the likeliest class were the truth, 0 or more."
    ),
    "slice_disagreement": MeasureInfo(
        "Share of the probability that moves between neighbouring slices, 0..1."
    ),
    "mutual_information": MeasureInfo(
        "Entropy of the mean prediction minus the mean entropy of the passes (BALD), in nats.",
        needs_passes=True,
    ),
    "disagreement": MeasureInfo(
        "Deviation of the class probabilities over the passes, 0..1/2 for one class.", needs_passes=True
    ),
    "embedding": MeasureInfo(
        f"Features of the network's coarsest level, {EMBEDDING_SIZE} values: what a cell looks like.",
        fixed_channels=EMBEDDING_SIZE,
    ),
}

MEASURES: Final[Mapping[str, str]] = {name: info.description for name, info in INFOS.items()}


def require_measures(names: Sequence[str]) -> None:
    """Raise InvalidArgument UNKNOWN_MEASURE or DUPLICATE_MEASURE."""
    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        raise InvalidArgument("UNKNOWN_MEASURE", f"measures {unknown} are unknown; known: {sorted(MEASURES)}")
    if len(set(names)) < len(names):
        raise InvalidArgument("DUPLICATE_MEASURE", f"measures {list(names)} name one twice; name each once")
