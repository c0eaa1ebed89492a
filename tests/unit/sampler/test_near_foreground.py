from __future__ import annotations

import numpy as np
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.grid import CandidateField, CandidateGrid
from biosegment_sampler.domain.neighbourhood import nearest
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.strategies import STRATEGIES, Candidates

from biosegment.volume import Index, Region

FIELD = CandidateField(
    [
        CandidateGrid.over("a", Index(30, 320, 320), Index(1, 32, 32)),
        CandidateGrid.over("b", Index(20, 96, 96), Index(1, 32, 32)),
    ]
)


def order_near(positives: np.ndarray, seed: int = 0) -> list[int]:
    candidates = Candidates(
        FIELD, {}, lambda numbers: np.full((len(numbers), 1), np.nan), positives=positives, seed=seed
    )
    order: list[int] = STRATEGIES["near_foreground"].rank(candidates).order.tolist()
    return order


def place(number: int) -> tuple[str, np.ndarray]:
    volume, region = FIELD.locate(number)
    step = np.array([1, 16, 16])
    return volume, np.array(region.start) // step


def test_windows_near_positives_come_first_by_steps_and_nothing_else_comes() -> None:
    positives = nearest(
        FIELD,
        [
            VolumeRegion("a", Region.of_shape((1, 32, 32), (15, 160, 160))),
            VolumeRegion("b", Region.of_shape((1, 32, 32), (3, 0, 0))),
        ],
    )
    middles = [place(int(number)) for number in positives]

    def steps(number: int) -> int:
        volume, here = place(number)
        return min(int(np.abs(here - there).sum()) for other, there in middles if other == volume)

    order = order_near(positives)
    distances = [steps(number) for number in order]
    assert distances == sorted(distances)
    assert distances[:2] == [0, 0]
    # All windows within eight steps, found by looking at each one.
    reachable = [number for number in range(len(FIELD)) if steps(number) <= 8]
    assert sorted(order) == reachable
    assert order != order_near(positives, seed=1)


def test_without_positives_there_is_nothing_near() -> None:
    assert order_near(np.zeros(0, np.int64)) == []


def test_the_nearest_candidates_of_a_region_are_those_by_brute_force() -> None:
    grid = FIELD.grids[0]
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = Index(*(int(rng.integers(0, size - 20)) for size in Index(30, 320, 320)))
        region = Region.of_shape((1, 20, 12), start)
        (found,) = nearest(FIELD, [VolumeRegion("a", region)])
        middle = (np.array(region.start) + np.array(region.stop)) / 2

        def distance(number: int, middle: np.ndarray = middle) -> float:
            window = grid.region(number)
            return float(np.abs((np.array(window.start) + np.array(window.stop)) / 2 - middle).max())

        first = region.start.z * grid.counts.y * grid.counts.x
        in_slice = range(first, first + grid.counts.y * grid.counts.x)
        assert distance(int(found)) == min(map(distance, in_slice))


def test_a_large_region_has_windows_side_by_side_and_an_unknown_volume_none() -> None:
    region = Region.of_shape((2, 96, 64), (4, 32, 64))
    found = nearest(FIELD, [VolumeRegion("a", region), VolumeRegion("elsewhere", region)])
    starts = sorted(tuple(FIELD.locate(int(number))[1].start) for number in found)
    assert starts == [(z, y, x) for z in (4, 5) for y in (32, 64, 96) for x in (64, 96)]


def test_only_classes_that_are_shown_make_an_annotation_a_positive() -> None:
    def annotation(counts: dict[int, int]) -> Annotation:
        region = Region.of_shape((1, 8, 8))
        return Annotation("a", 1, "v", region, "ann", "", 0.0, counts, 0.0)

    assert annotation({1: 50, 2: 14}).shows_class
    assert annotation({3: 1}).shows_class
    assert not annotation({1: 64}).shows_class
    assert not annotation({0: 60, 1: 4, 2: 0}).shows_class
