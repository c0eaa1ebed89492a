from __future__ import annotations

import itertools

import numpy as np
import pytest
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.validation import ValidationConfig, split

from biosegment.errors import InvalidArgument
from biosegment.volume import Region

CONFIG = ValidationConfig(fraction=0.25, slab=8, gap=3, minimum=20)


@pytest.fixture
def many():
    """Small annotations anywhere in a deep volume."""

    def at(
        z: int, depth: int = 1, volume_id: str = "v", seen_by_parent: bool = False, value: int = 1
    ) -> AnnotatedRegion:
        region = Region.of_shape((depth, 8, 8), (z, 0, 0))
        labels = np.ones(region.shape, np.uint8)
        labels[0, 0, 0] = value
        return AnnotatedRegion(
            region_id=f"{z}",
            volume_id=volume_id,
            region=region,
            context=region,
            raw=np.zeros(region.shape, np.uint8),
            labels=labels,
            scope=frozenset({2, 3}),
            statistics=SliceStatistics(np.zeros(depth), np.ones(depth)),
            seen_by_parent=seen_by_parent,
        )

    return at


def test_validation_shares_no_slice_with_training_and_no_neighbour_either(many):
    regions = [many(z) for z in range(200)] + [many(z, depth=5) for z in range(0, 195, 7)]
    parts = split(regions, CONFIG)
    assert parts.reason == ""
    assert 0.1 < len(parts.validation) / len(regions) < 0.5
    for held, used in itertools.product(parts.validation, parts.training):
        gap = max(held.region.start.z - used.region.stop.z, used.region.start.z - held.region.stop.z)
        assert gap >= CONFIG.gap


def test_volumes_are_no_neighbours_of_each_other(many):
    regions = [many(z, volume_id=name) for name in "abcdef" for z in range(60)]
    parts = split(regions, CONFIG)
    held = {r.region.start.z for r in parts.validation}
    assert held & {r.region.start.z for r in parts.training}
    assert {r.volume_id for r in parts.training} == set("abcdef")


def test_more_annotations_later_hold_out_the_same_slices(many):
    few = split([many(z) for z in range(0, 200, 3)], CONFIG)
    more = split([many(z) for z in range(200)], CONFIG)
    later = {r.region.start.z for r in more.validation}
    assert {r.region.start.z for r in few.validation} <= later
    assert later.isdisjoint(r.region.start.z for r in few.training)


def test_with_few_annotations_all_of_them_train_and_the_reason_is_given(many):
    parts = split([many(z) for z in range(0, 190, 10)], CONFIG)
    assert len(parts.training) == 19
    assert "needs 20" in parts.reason


def test_what_the_parent_has_seen_or_its_neighbours_never_validates(many):
    regions = [many(z, seen_by_parent=z < 100) for z in range(200)]
    parts = split(regions, CONFIG)
    assert parts.validation
    assert all(r.region.start.z >= 100 for r in parts.validation)
    everything = split([many(z, seen_by_parent=True) for z in range(200)], CONFIG)
    assert not everything.validation
    assert "parent" in everything.reason


COMMON, RARE = LabelClass(2, "mitochondria"), LabelClass(3, "membrane")


def showing(many, rare: set[int]) -> list[AnnotatedRegion]:
    return [many(z, value=3 if z in rare else 2) for z in range(200)]


def planes(regions) -> set[int]:
    return {region.region.start.z for region in regions}


def test_a_class_of_one_held_out_slab_is_left_in_training_and_the_other_slabs_validate(many):
    before = planes(split(showing(many, set()), CONFIG).validation)
    slabs = sorted({z // CONFIG.slab for z in before})
    assert len(slabs) > 2
    only = {z for z in before if z // CONFIG.slab == slabs[0]}
    regions = showing(many, only)
    parts = split(regions, CONFIG, [COMMON, RARE])
    assert parts.reason == ""
    assert only <= planes(parts.training)
    assert planes(parts.validation) == {z for z in before if z // CONFIG.slab not in (slabs[0], slabs[0] + 1)}
    assert parts == split(regions, CONFIG, [RARE, COMMON])
    # Next to what is held out nothing trains, either.
    beside = {slabs[-1] * CONFIG.slab - 1}
    assert beside.isdisjoint(planes(split(showing(many, beside), CONFIG).training))
    assert beside <= planes(split(showing(many, beside), CONFIG, [COMMON, RARE]).training)


def test_a_class_that_is_annotated_elsewhere_too_changes_nothing(many):
    before = split(showing(many, set()), CONFIG)
    everywhere = {next(iter(planes(before.validation))), next(iter(planes(before.training)))}
    for rare in (set(), everywhere):
        parts = split(showing(many, rare), CONFIG, [COMMON, RARE, LabelClass(4, "never annotated")])
        assert planes(parts.validation) == planes(before.validation)
        assert planes(parts.training) == planes(before.training)


def test_where_any_slab_would_take_a_class_away_all_train_and_the_class_is_named(many):
    # The parent has seen all but one slab, which alone shows the new class.
    regions = [many(z, value=3 if 40 <= z < 48 else 2, seen_by_parent=z < 20 or z > 70) for z in range(100)]
    regions = [r for r in regions if r.seen_by_parent or 40 <= r.region.start.z < 48]
    parts = split(regions, CONFIG, [COMMON, RARE])
    assert parts.training == tuple(regions)
    assert not parts.validation
    assert "'membrane'" in parts.reason
    assert "mitochondria" not in parts.reason
    assert split(regions, CONFIG, [COMMON]).validation


@pytest.mark.parametrize("volume_id", list("abcdefgh"))
def test_a_shallow_volume_holds_something_out_whatever_the_hash_of_its_name(many, volume_id):
    regions = [many(z, volume_id=volume_id) for z in range(40)]
    parts = split(regions, ValidationConfig(slab=8, gap=2, minimum=20))
    assert parts.validation
    assert 2 * len(parts.training) >= len(regions)


def test_switched_off_it_says_so(many):
    assert "off" in split([many(z) for z in range(50)], ValidationConfig(fraction=0)).reason


def test_settings_out_of_range_are_refused():
    with pytest.raises(InvalidArgument):
        ValidationConfig(fraction=1.5)
