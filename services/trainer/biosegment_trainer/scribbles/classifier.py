"""A classifier of pixels that learns from a few thousand of them in tenths of a second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

Float32 = NDArray[np.float32]
_ROWS: Final = 1 << 15


class PixelClassifier:
    """A random forest (Breiman 2001), classes balanced.

    Args:
        seed: Source of all chance.
        threads: How many may compute at once; the answer does not depend on it.
    """

    def __init__(self, seed: int, threads: int) -> None:
        self._forest = RandomForestClassifier(
            50, min_samples_leaf=3, class_weight="balanced", random_state=seed, n_jobs=threads
        )
        self._threads = threads

    def fit(self, features: Float32, values: NDArray[np.uint8]) -> None:
        """Learn from pixels: features float32 (n, channels), their values (n,)."""
        self._forest.fit(features, values)

    def probabilities(self, features: Float32) -> Float32:
        """Of each value, in ascending order: float32 (values, n) for features (channels, n)."""
        starts = range(0, features.shape[1], _ROWS)

        def part(start: int) -> Float32:
            rows = np.ascontiguousarray(features[:, start : start + _ROWS].T)
            total = sum(tree.predict_proba(rows) for tree in self._forest.estimators_)
            return np.asarray(total.T / len(self._forest.estimators_), np.float32)

        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(part, starts)), 1)
