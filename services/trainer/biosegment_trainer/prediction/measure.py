"""Names of the measures, known without loading torch; `learning.measures` computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from biosegment.errors import InvalidArgument

MEASURES: Final = {
    "entropy": "Shannon entropy of the class probabilities in nats, 0..ln(1 + classes).",
    "least_confidence": "1 minus the largest class probability.",
    "margin": "1 minus the gap between the two largest class probabilities.",
    "class_probability": "Probability that a voxel is not background.",
}


def require_measures(names: Sequence[str]) -> None:
    """Raise InvalidArgument UNKNOWN_MEASURE or DUPLICATE_MEASURE."""
    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        raise InvalidArgument("UNKNOWN_MEASURE", f"measures {unknown} are unknown; known: {sorted(MEASURES)}")
    if len(set(names)) < len(names):
        raise InvalidArgument("DUPLICATE_MEASURE", f"measures {list(names)} name one twice; name each once")
