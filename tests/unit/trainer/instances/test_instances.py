from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from biosegment_trainer.instances.block import BlockCut, Faces
from biosegment_trainer.instances.distance import capped_distance
from biosegment_trainer.instances.joining import BlockObjects, join
from biosegment_trainer.instances.labelling import components
from biosegment_trainer.instances.task import Stage
from biosegment_trainer.instances.worker import InstancesWorker
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from benchmarks.partition import f1_at_half, same_partition, variation_of_information
from biosegment.errors import FailedPrecondition
from biosegment.volume import Index, Region
from tests.unit.trainer.instances.bench import Bench, components_of, watershed_of

STRUCTURES = {6: ndimage.generate_binary_structure(3, 1), 26: ndimage.generate_binary_structure(3, 3)}


def whole_components(mask, connectivity):
    return ndimage.label(mask, STRUCTURES[connectivity])[0]


def by_blocks(mask, block, connectivity):
    """Objects of a volume of which each block is labelled alone, in memory."""
    cut = BlockCut(Index(*mask.shape), Index(*block), Region.of_shape(mask.shape))
    labelled = {
        number: components(mask[cut.with_seam(number).slices], connectivity) for number in cut.numbers()
    }

    def found(number):
        core, seam = cut.core(number), cut.with_seam(number)
        own = labelled[number][core.relative_to(seam).slices]
        sizes = np.bincount(own.ravel(), minlength=int(labelled[number].max()) + 1)
        return BlockObjects(sizes, Faces.of(labelled[number], core, seam), np.empty(0, np.uint32))

    joined = join(cut, found, 0)
    ids = np.zeros(mask.shape, np.uint32)
    for number in cut.numbers():
        core, seam = cut.core(number), cut.with_seam(number)
        ids[core.slices] = joined.tables[number][labelled[number][core.relative_to(seam).slices]]
    return ids, joined.objects


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    pieces=st.tuples(*[st.integers(1, 4)] * 3),
    density=st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    connectivity=st.sampled_from([6, 26]),
    seed=st.integers(0, 1000),
)
def test_components_by_blocks_are_those_of_the_whole(shape, pieces, density, connectivity, seed):
    block = tuple(-(-size // parts) for size, parts in zip(shape, pieces, strict=True))
    mask = np.random.default_rng(seed).random(shape) < density
    ids, objects = by_blocks(mask, block, connectivity)
    assert same_partition(ids, whole_components(mask, connectivity))
    assert set(np.unique(ids)) - {0} == set(range(1, objects + 1))


def test_the_numbers_of_objects_depend_neither_on_the_order_of_blocks_nor_on_the_number_of_workers(tmp_path):
    mask = np.random.default_rng(3).random((12, 20, 18)) < 0.3
    bench = Bench(tmp_path, np.where(mask, np.uint8(2), np.uint8(1)), (6, 10, 9))
    ids = bench.run(bench.task(components_of(26)), workers=3, seed=1)
    assert same_partition(ids, whole_components(mask, 26))
    np.testing.assert_array_equal(bench.run(bench.task(components_of(26)), workers=1, seed=2), ids)
    np.testing.assert_array_equal(by_blocks(mask, (6, 10, 9), 26)[0], ids)


def test_an_object_through_corners_of_blocks_is_one_only_where_corners_count(tmp_path):
    labels = np.ones((12, 12, 12), np.uint8)
    for i in range(12):
        labels[i, i, i] = 2
        labels[i, 11 - i, i] = 2
    bench = Bench(tmp_path, labels, (6, 4, 6))
    ids = bench.run(bench.task(components_of(26)))
    assert same_partition(ids, whole_components(labels == 2, 26))
    assert ids.max() < 4
    by_faces = bench.run(bench.task(components_of(6)))
    assert same_partition(by_faces, whole_components(labels == 2, 6))
    assert by_faces.max() > 10


def test_legs_that_join_only_in_the_last_block_are_one_object_and_count_together(tmp_path):
    labels = np.ones((4, 8, 40), np.uint8)
    labels[1, 1, :] = labels[1, 6, :] = labels[1, 1:7, 39] = 2  # a U over five blocks
    labels[3, 3, 18:22] = 2  # four voxels, two in each of two blocks
    labels[3, 7, 0:3] = 2
    bench = Bench(tmp_path, labels, (4, 4, 10))
    ids = bench.run(bench.task(components_of(6)))
    assert ids.max() == 3
    assert len(np.unique(ids[1, [1, 6]])) == 1
    large = bench.run(bench.task(components_of(6, min_size=4)))
    assert large.max() == 2
    assert (large[3, 3, 18:22] > 0).all()
    assert (large[3, 7] == 0).all()
    assert bench.run(bench.task(components_of(6, min_size=5))).max() == 1


def test_what_lies_outside_of_the_region_stays_empty_and_does_not_connect(tmp_path):
    labels = np.full((6, 6, 20), 2, np.uint8)
    labels[:, 2:4, 4:16] = 1
    bench = Bench(tmp_path, labels, (3, 3, 5))
    region = Region(Index(1, 0, 5), Index(5, 6, 15))
    ids = bench.run(bench.task(components_of(26), region))
    expected = np.zeros_like(ids)
    expected[region.slices] = whole_components(labels[region.slices] == 2, 26)
    assert expected.max() == 2
    assert same_partition(ids, expected)


def test_more_objects_than_a_layer_holds_are_refused(tmp_path):
    labels = np.ones((4, 4, 4), np.uint8)
    labels[::2, ::2, ::2] = 2
    bench = Bench(tmp_path, labels, (2, 2, 2))
    assert bench.run(bench.task(components_of(6)), max_objects=8).max() == 8
    with pytest.raises(FailedPrecondition) as refused:
        bench.run(bench.task(components_of(6)), max_objects=7)
    assert refused.value.reason == "TOO_MANY_OBJECTS"


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
    cap=st.sampled_from([0.7, 2.0, 6.0]),
    seed=st.integers(0, 1000),
)
def test_distances_are_the_euclidean_ones_up_to_the_cap(shape, spacing, cap, seed):
    mask = ndimage.binary_opening(np.random.default_rng(seed).random(shape) < 0.97)
    mask.flat[0] = False
    expected = np.minimum(ndimage.distance_transform_edt(mask, sampling=spacing), cap)
    np.testing.assert_allclose(capped_distance(mask, spacing, cap), expected, rtol=1e-5)


def blobs(shape, spacing, seed, count=60):
    """Balls of 5 to 9 units that touch here and there, some of them too small for a seed."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    grid = np.indices(shape).transpose(1, 2, 3, 0) * np.array(spacing)
    for _ in range(count):
        centre = rng.random(3) * shape * spacing
        mask |= ((grid - centre) ** 2).sum(-1) < rng.uniform(3, 9) ** 2
    return mask


def whole_watershed(mask, spacing, distance):
    """The plain algorithm on the whole volume: SciPy's distances, scikit-image's watershed."""
    depth = np.minimum(ndimage.distance_transform_edt(mask, sampling=spacing), distance)
    seeds, count = ndimage.label(depth >= distance, STRUCTURES[26])
    ids = watershed(-depth, seeds, connectivity=3, mask=mask)
    rest = ndimage.label(mask & (ids == 0), STRUCTURES[26])[0]
    return np.where(rest > 0, rest + count, ids)


@pytest.mark.parametrize("spacing", [(1.0, 0.93, 1.07), (2.1, 1.0, 1.13)])
def test_a_watershed_by_blocks_is_nearly_that_of_the_whole(tmp_path, spacing):
    # Edges without a common measure: where distances are equal, the order in which voxels are flooded is arbitrary.
    shape = (40, 90, 100) if spacing[0] == 1 else (26, 90, 100)
    mask = blobs(shape, spacing, 1)
    bench = Bench(tmp_path, np.where(mask, np.uint8(2), np.uint8(1)), (16, 40, 32))
    ids = bench.run(bench.task(watershed_of(4.0, spacing)), workers=3, seed=2)
    expected = whole_watershed(mask, spacing, 4.0)
    assert len(np.unique(expected)) > whole_components(mask, 26).max() + 5  # it parts something
    assert ((ids > 0) == mask).all()
    assert variation_of_information(ids, expected) <= 0.01
    again = bench.run(bench.task(watershed_of(4.0, spacing)), seed=5)
    np.testing.assert_array_equal(again, ids)
    in_one_block = Bench(tmp_path / "one", bench.labels, shape)
    assert same_partition(in_one_block.run(in_one_block.task(watershed_of(4.0, spacing))), ids)


def test_two_balls_are_parted_at_their_neck_and_a_thin_tail_longer_than_any_halo_stays_with_its_ball(
    tmp_path,
):
    z, y, x = np.indices((20, 30, 200))
    mask = np.zeros(z.shape, bool)
    for centre in (10, 24):
        mask |= (z - 10) ** 2 + (y - 10) ** 2 + (x - centre) ** 2 < 64
    mask[10, 10, 24:198] = True  # a tail of the second
    mask[10, 25, 5:150] = True  # too thin for any seed
    bench = Bench(tmp_path, np.where(mask, np.uint8(2), np.uint8(0)), (20, 30, 20))
    ids = bench.run(bench.task(watershed_of(5.0)))
    assert ids.max() == 3
    assert ids[10, 10, 10] != ids[10, 10, 24]
    assert set(np.unique(ids[10, 10, 24:198])) == {ids[10, 10, 24]}
    assert len(np.unique(ids[10, 25, 5:150])) == 1
    assert same_partition(ids, whole_watershed(mask, (1, 1, 1), 5.0))
    assert bench.run(bench.task(watershed_of(5.0, min_size=146))).max() == 2


@pytest.mark.parametrize("graded", [False, True])
def test_a_boundary_parts_what_is_one_component(tmp_path, graded):
    labels = np.full((12, 30, 60), 2, np.uint8)
    labels[0] = 1
    boundary = np.zeros(labels.shape, np.uint8)
    boundary[:, :, 29:32] = 250 if graded else 2
    bench = Bench(tmp_path, labels, (12, 16, 20))
    source = bench.put("boundary", boundary)
    if graded:
        source = type(source)("boundary", 128, 255, True)
    ids = bench.run(bench.task(watershed_of(3.0), boundary=source))
    assert ids.max() == 2
    assert ((ids > 0) == (labels == 2)).all()
    assert len(np.unique(ids[1:, :, :29])) == len(np.unique(ids[1:, :, 32:])) == 1


def test_a_source_that_was_made_anew_is_looked_through_anew(tmp_path):
    old, new = np.ones((4, 6, 20), np.uint8), np.ones((4, 6, 20), np.uint8)
    old[1, 1, :], new[2, 2:4, 3:8], new[3, 5, 9:12] = 2, 2, 2
    bench = Bench(tmp_path, old, (4, 6, 10))
    one = bench.task(components_of(26))
    worker = InstancesWorker(one)
    for stage in (Stage.LABEL, Stage.JOIN):
        for number in one.numbers(stage):
            worker.compute(stage, number)
    # The next attempt of the same job does only what is not done.
    two = replace(one, callback=replace(one.callback, attempt=2), source=bench.put("anew", new))
    bench.create(two)
    ids = bench.go_on(two)
    assert same_partition(ids, whole_components(new == 2, 26))
    # Of the same source it is not looked through again.
    kept = replace(one, callback=two.callback)
    assert kept.prefix == one.prefix
    assert same_partition(bench.go_on(kept), whole_components(old == 2, 26))


def test_measures_of_likeness_know_the_plain_cases():
    one = np.array([[[0, 1, 1, 2, 2, 2, 3, 3]]])
    assert same_partition(one, one * 7)
    assert not same_partition(one, one > 0)
    assert variation_of_information(one, one * 7) == pytest.approx(0)
    halves, whole = np.array([[[1, 1, 2, 2]]]), np.array([[[5, 5, 5, 5]]])
    assert variation_of_information(halves, whole) == pytest.approx(1)
    truth = np.array(
        [[[1, 1, 1, 2, 2, 0, 0, 4]]]
    )  # 1: 2 of 3; 2: 2 of 3; 3 is one of two; 4 is not found alone
    f1, *counts = f1_at_half(one, truth)
    assert f1 == pytest.approx(4 / 6)
    assert counts == [2, 3, 3]
