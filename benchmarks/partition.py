"""How alike two partitions of voxels into objects are, and how many objects of one are found in the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]


def overlaps(one: Ids, two: Ids) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of ids that share voxels, 0 included, and how many; voxels that are 0 in both are left out."""
    either = (one != 0) | (two != 0)
    pairs = one[either].astype(np.uint64) << np.uint64(32) | two[either].astype(np.uint64)
    values, counts = np.unique(pairs, return_counts=True)
    first, second = values >> np.uint64(32), values & np.uint64(0xFFFFFFFF)
    return first.astype(np.int64), second.astype(np.int64), counts.astype(np.int64)


def same_partition(one: Ids, two: Ids) -> bool:
    """Whether two arrays of ids part the voxels in the same way, whatever the numbers."""
    first, second, _ = overlaps(one, two)
    if not (first.all() and second.all()):
        return False
    return len(np.unique(first)) == len(first) == len(np.unique(second))


def variation_of_information(one: Ids, two: Ids) -> float:
    """In bits, over the voxels that are not 0 in both: H(one | two) + H(two | one).

    Meila, "Comparing clusterings: an information based distance" (Journal of Multivariate Analysis 98, 2007).
    """
    first, second, counts = overlaps(one, two)
    if not len(counts):
        return 0.0
    joint = counts / counts.sum()

    def entropy(p: NDArray[np.float64]) -> float:
        return float(-(p * np.log2(p)).sum())

    def marginal(ids: NDArray[np.int64]) -> NDArray[np.float64]:
        inverse = np.unique(ids, return_inverse=True)[1].ravel()
        return np.bincount(inverse, weights=joint).astype(np.float64)

    return 2 * entropy(joint) - entropy(marginal(first)) - entropy(marginal(second))


def f1_at_half(found: Ids, truth: Ids) -> tuple[float, int, int, int]:
    """F1 of objects that share more than half of their union, and how many were matched, found and true.

    At more than one half no object has two partners, so that there is nothing to choose.
    """
    first, second, counts = overlaps(found, truth)
    sizes_found, sizes_truth = np.bincount(found.ravel()), np.bincount(truth.ravel())
    real = (first > 0) & (second > 0)
    shared = counts[real]
    union = sizes_found[first[real]] + sizes_truth[second[real]] - shared
    matched = int((2 * shared > union).sum())
    number_found = int((sizes_found[1:] > 0).sum())
    number_truth = int((sizes_truth[1:] > 0).sum())
    f1 = 2 * matched / max(1, number_found + number_truth)
    return f1, matched, number_found, number_truth
