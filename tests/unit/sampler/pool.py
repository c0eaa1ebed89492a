"""Pools for tests of strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from biosegment_sampler.domain.grid import CandidateField, CandidateGrid
from biosegment_sampler.strategies import STRATEGIES, Candidates

from biosegment.volume import Index


def flat_field(count: int) -> CandidateField:
    """So many windows on top of each other."""
    return CandidateField([CandidateGrid.over("v", Index(count, 8, 8), Index(1, 8, 8))])


def candidates_of(
    scores: Mapping[str, Any], embeddings: np.ndarray | None = None, count: int = 0, **fields: Any
) -> Candidates:
    """A pool with those scores; without embeddings none is known."""
    arrays = {name: np.asarray(values, np.float32) for name, values in scores.items()}
    lengths = [len(values) for values in arrays.values()]
    if embeddings is not None:
        lengths.append(len(embeddings))
    count = count or lengths[0]

    def embed(numbers: np.ndarray) -> np.ndarray:
        if embeddings is None:
            return np.full((len(numbers), 1), np.nan, np.float32)
        return np.asarray(embeddings, np.float32)[numbers]

    return Candidates(flat_field(count), arrays, embed, **fields)


def order_of(name: str, candidates: Candidates) -> list[int]:
    """What a strategy makes of a pool."""
    order: list[int] = STRATEGIES[name].rank(candidates).order.tolist()
    return order
