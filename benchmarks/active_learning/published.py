"""What others reported, read off the figures of their paper (± 0.003)."""

from __future__ import annotations

from typing import Final

SOURCE: Final = "J. Roels, Y. Saeys, arXiv 1911.05548"
STRATEGIES: Final = ("random", "entropy", "least_confidence", "bald", "coreset", "kmeans")
"""Columns of the table; single runs, no intervals."""
IOU: Final[dict[str, dict[int, tuple[float, ...]]]] = {
    "epfl": {
        100: (0.733, 0.813, 0.767, 0.808, 0.747, 0.709),
        200: (0.778, 0.821, 0.823, 0.824, 0.785, 0.747),
    },
    "vnc": {
        100: (0.374, 0.643, 0.544, 0.588, 0.406, 0.466),
        200: (0.600, 0.765, 0.757, 0.746, 0.640, 0.587),
    },
}
FULL: Final = {"epfl": 0.858, "vnc": 0.816}
"""With all labels of the training volume."""
