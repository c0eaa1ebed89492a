"""Disagreement of neighbouring slices.

The volume's counterpart of the disagreement between views in Y. Siddiqui, J. Valentin and M. Niessner, "ViewAL: active
learning with viewpoint entropy for semantic segmentation", CVPR 2020, arXiv 1911.11789.
"""

from __future__ import annotations

from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies.strategy import Candidates, Strategy


def rank(candidates: Candidates) -> Ranking:
    """Windows by how much of the probability moves to the neighbouring slices (after ViewAL, 2020), most first."""
    return by_score(candidates.scores["slice_disagreement"], candidates.seed)


STRATEGY = Strategy(
    "slice_disagreement",
    "Largest difference to the neighbouring slices, after ViewAL. Siddiqui et al., CVPR 2020, arXiv 1911.11789.",
    rank,
    ("slice_disagreement",),
)
