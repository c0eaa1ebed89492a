"""How far two annotations agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from biosegment.volume import NOT_ANNOTATED, Index, Region
from biosegment_datastore.annotations.annotation import Annotation, Ids, Labels, class_labels

_SLAB_VOXELS: Final = 4 << 20
_VALUES: Final = 256


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxels where both annotations say a class, and where at least one of them does; only where both say something."""

    intersection_voxels: int
    union_voxels: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two annotations beside each other.

    Attributes:
        compared_voxels: Where both say something.
        agreed_voxels: Of those, where they say the same of each class that both looked for.
        classes: By the classes that both looked for; empty when there is no voxel to compare.
    """

    compared_voxels: int
    agreed_voxels: int
    classes: dict[int, Overlap]


def compare(first: Annotation, one: Labels | Ids, second: Annotation, other: Labels | Ids) -> Comparison:
    """Compare two annotations of one volume.

    A voxel where one of them says nothing (0) is left out. A class that only one of them looked for is no class for the
    other, which says 'none of these' there: so such a class is neither compared nor held against them.

    Args:
        first: An annotation.
        one: Its labels, (z, y, x), class values or ids of instances.
        second: Another one.
        other: Its labels.
    """
    shared = sorted(set(first.class_scope) & set(second.class_scope))
    region = first.region.intersection(second.region)
    if region is None or not shared:
        return Comparison(0, 0, {})
    counts = np.zeros((_VALUES, _VALUES), np.int64)
    for slab in _slabs(region):
        counts += _joint(_part(first, one, slab), _part(second, other, slab))
    counts[NOT_ANNOTATED] = 0
    counts[:, NOT_ANNOTATED] = 0
    compared = int(counts.sum())
    if not compared:
        return Comparison(0, 0, {})
    classes = {}
    for value in shared:
        both = int(counts[value, value])
        classes[value] = Overlap(both, int(counts[value].sum() + counts[:, value].sum()) - both)
    same = np.equal.outer(_folded(shared), _folded(shared))
    return Comparison(compared, int(counts[same].sum()), classes)


def _folded(shared: list[int]) -> npt.NDArray[np.int64]:
    """Class values with all that are not shared as one."""
    values = np.arange(_VALUES)
    return np.where(np.isin(values, shared), values, -1)


def _slabs(region: Region) -> Iterator[Region]:
    """Thin ones, so that what is made of them stays small."""
    _, y, x = region.shape
    rows = max(1, min(y, _SLAB_VOXELS // x))
    depth = max(1, _SLAB_VOXELS // (rows * x)) if rows == y else 1
    (z0, y0, x0), stop = region.start, region.stop
    for start_z in range(z0, stop.z, depth):
        for start_y in range(y0, stop.y, rows):
            end = Index(min(start_z + depth, stop.z), min(start_y + rows, stop.y), stop.x)
            yield Region(Index(start_z, start_y, x0), end)


def _part(annotation: Annotation, labels: Labels | Ids, slab: Region) -> npt.NDArray[np.int64]:
    inside = tuple(
        slice(start - origin, stop - origin)
        for start, stop, origin in zip(slab.start, slab.stop, annotation.region.start, strict=True)
    )
    return class_labels(labels[inside], annotation.class_scope).astype(np.int64)


def _joint(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Voxels by both values."""
    pairs = np.bincount((one * _VALUES + other).reshape(-1), minlength=_VALUES * _VALUES)
    return pairs.reshape(_VALUES, _VALUES).astype(np.int64)
