from __future__ import annotations

import numpy as np
import pytest
from biosegment_datastore.annotations import comparison
from biosegment_datastore.annotations.annotation import NO_INSTANCE, Annotation, AnnotationKind
from biosegment_datastore.annotations.comparison import Comparison, Overlap, compare
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from biosegment.volume import Region


def annotation(region: Region, scope: tuple[int, ...] = (2, 3), kind: str = "dense") -> Annotation:
    return Annotation(
        "p", "v", "a", 1, region, AnnotationKind(kind), scope, "ann", 0, "", "", "", 0.0, "", {}, "", ""
    )


BOX = Region.of_shape((2, 3, 4))
SCOPES = st.sampled_from([(2,), (3,), (2, 3), (2, 3, 4)])


def _directly(
    first: Annotation, one: np.ndarray, second: Annotation, other: np.ndarray
) -> tuple[int, int, dict[int, list[int]]]:
    """Voxel by voxel."""
    shared = [value for value in first.class_scope if value in second.class_scope]
    compared, agreed, classes = 0, 0, {value: [0, 0] for value in shared}
    for z, y, x in np.ndindex(*one.shape):
        position = tuple(start + step for start, step in zip(first.region.start, (z, y, x), strict=True))
        there = tuple(at - start for at, start in zip(position, second.region.start, strict=True))
        if any(not 0 <= at < size for at, size in zip(there, other.shape, strict=True)):
            continue
        a, b = int(one[z, y, x]), int(other[there])
        if not shared or 0 in (a, b):
            continue
        compared += 1
        agreed += all((a == value) == (b == value) for value in shared)
        for value in shared:
            classes[value][0] += a == value and b == value
            classes[value][1] += value in (a, b)
    return compared, agreed, classes if compared else {}


@given(data=st.data(), scopes=st.tuples(SCOPES, SCOPES), slab=st.sampled_from([1, 5, 12, 1 << 20]))
def test_a_comparison_is_what_counting_voxel_by_voxel_gives(
    data: st.DataObject, scopes: tuple[tuple[int, ...], tuple[int, ...]], slab: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_SLAB_VOXELS", slab)
        shift = data.draw(st.tuples(*(st.integers(-2, 2) for _ in range(3))))
        pairs = []
        for scope, region in zip(
            scopes, (BOX.shifted((2, 2, 2)), BOX.shifted((2, 2, 2)).shifted(shift)), strict=True
        ):
            values = st.sampled_from([0, 1, *scope])
            pairs.append(
                (annotation(region, scope), data.draw(arrays.arrays(np.uint8, (2, 3, 4), elements=values)))
            )
        (first, one), (second, other) = pairs
        made = compare(first, one, second, other)
    found = (made.compared_voxels, made.agreed_voxels, {
        value: [each.intersection_voxels, each.union_voxels] for value, each in made.classes.items()
    })  # fmt: skip
    assert found == _directly(first, one, second, other)


def test_two_who_find_nothing_agree_and_say_so_by_an_empty_union() -> None:
    background = np.ones(BOX.shape, np.uint8)
    made = compare(annotation(BOX, (2,)), background, annotation(BOX, (2,)), background)
    assert made == Comparison(24, 24, {2: Overlap(0, 0)})


def test_scribbles_that_meet_nowhere_and_classes_that_nobody_shares_compare_nothing() -> None:
    left, right = np.zeros(BOX.shape, np.uint8), np.zeros(BOX.shape, np.uint8)
    left[..., :2], right[..., 2:] = 2, 2
    assert compare(annotation(BOX), left, annotation(BOX), right) == Comparison(0, 0, {})
    assert compare(annotation(BOX, (2,)), left, annotation(BOX, (3,)), left + 1) == Comparison(0, 0, {})


def test_instances_are_compared_as_their_class() -> None:
    ids = np.array([[[7, 9, 0, NO_INSTANCE]]], np.uint32)
    values = np.array([[[2, 1, 2, 1]]], np.uint8)
    row = Region.of_shape((1, 1, 4))
    made = compare(annotation(row, (2,), "instances"), ids, annotation(row, (2,)), values)
    assert made == Comparison(3, 2, {2: Overlap(1, 2)})
