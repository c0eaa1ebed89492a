from __future__ import annotations

import numpy as np
from biosegment_sampler.domain.grid import CandidateField, CandidateGrid
from biosegment_sampler.domain.occupancy import BATCH, NEAR, TAKEN, Hold, Occupancy
from biosegment_sampler.domain.pool import StrategyShare, VolumeRegion
from biosegment_sampler.domain.ranking import in_order
from biosegment_sampler.domain.selection import select
from hypothesis import given, settings
from hypothesis import strategies as st

from biosegment.volume import Index, Region

SHAPE = Index(12, 60, 50)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    start = [draw(st.integers(0, size - 1)) for size in SHAPE]
    stop = [draw(st.integers(low + 1, size)) for low, size in zip(start, SHAPE, strict=True)]
    return Region(Index(*start), Index(*stop))


@st.composite
def fields(draw: st.DrawFn) -> CandidateField:
    window = Index(draw(st.integers(1, 3)), draw(st.integers(4, 30)), draw(st.integers(4, 30)))
    return CandidateField([CandidateGrid.over(name, SHAPE, window) for name in ("a", "b")])


def places(name: str) -> st.SearchStrategy[list[VolumeRegion]]:
    return st.lists(st.builds(VolumeRegion, st.just(name), regions()), max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    field=fields(),
    taken=places("a"),
    near=places("b"),
    count=st.integers(1, 25),
    distance=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_batch_never_overlaps_itself_or_what_is_taken(
    field: CandidateField,
    taken: list[VolumeRegion],
    near: list[VolumeRegion],
    count: int,
    distance: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    rankings = {name: in_order(rng.permutation(len(field))) for name in ("one", "two")}
    picks = select(
        field,
        rankings,
        [StrategyShare("one", 0.5), StrategyShare("two", 0.5)],
        count,
        taken=taken,
        near=near,
        slice_distance=distance,
    )
    assert len(picks) <= count
    for index, pick in enumerate(picks):
        assert not any(
            part.volume_id == pick.volume_id and part.region.overlaps(pick.region) for part in taken
        )
        for other in picks[index + 1 :]:
            if other.volume_id == pick.volume_id:
                grown = pick.region.padded((distance - 1, 0, 0), Region.of_shape(SHAPE))
                assert not grown.overlaps(other.region)
    if len(picks) < count:
        left = Occupancy(field, distance)
        left.fill(enumerate(map(Hold, taken)))
        for pick in picks:
            left.view().mark(pick.volume_id, pick.region)
        assert not left.view().is_open(slice(0, len(field)), TAKEN | BATCH).any()


@settings(max_examples=80, deadline=None)
@given(field=fields(), region=regions(), distance=st.integers(1, 4))
def test_blocked_windows_are_exactly_those_that_touch(
    field: CandidateField, region: Region, distance: int
) -> None:
    occupancy = Occupancy(field, distance)
    occupancy.hold("it", Hold(VolumeRegion("b", region), NEAR))
    is_open = occupancy.view().is_open(slice(0, len(field)), NEAR)
    grown = region.padded((distance - 1, 0, 0), Region.of_shape(SHAPE))
    for number in range(len(field)):
        volume, window = field.locate(number)
        assert is_open[number] != (volume == "b" and window.overlaps(grown))


def test_the_best_window_comes_first_and_what_is_near_comes_last() -> None:
    field = CandidateField([CandidateGrid.over("v", Index(9, 8, 8), Index(1, 8, 8))])
    ranking = {"s": in_order(np.arange(9), np.linspace(1, 0, 9, dtype=np.float32))}
    share = [StrategyShare("s", 1.0)]
    near = [VolumeRegion("v", Region(Index(0, 0, 0), Index(1, 8, 8)))]
    first = select(field, ranking, share, 1, taken=near, near=near, slice_distance=4)
    assert [pick.region.start.z for pick in first] == [4]
    whole = select(field, ranking, share, 9, taken=near, near=near, slice_distance=4)
    assert [pick.region.start.z for pick in whole] == [4, 8]
    all_taken = select(field, ranking, share, 3, taken=near, near=near, slice_distance=1)
    assert [pick.region.start.z for pick in all_taken] == [1, 2, 3]
    assert [round(pick.score, 3) for pick in all_taken] == [0.875, 0.75, 0.625]


def test_shares_hold_over_batches_of_one() -> None:
    field = CandidateField([CandidateGrid.over("v", Index(40, 8, 8), Index(1, 8, 8))])
    rankings = {"a": in_order(np.arange(40)), "b": in_order(np.arange(40)[::-1])}
    shares = [StrategyShare("a", 0.75), StrategyShare("b", 0.25)]
    counts: dict[str, int] = {}
    taken: list[VolumeRegion] = []
    for number in range(20):
        (pick,) = select(field, rankings, shares, 1, taken=taken, first=number)
        counts[pick.strategy] = counts.get(pick.strategy, 0) + 1
        taken.append(VolumeRegion(pick.volume_id, pick.region))
    assert counts == {"a": 15, "b": 5}


def test_a_used_up_strategy_leaves_its_part_to_the_reserve() -> None:
    field = CandidateField([CandidateGrid.over("v", Index(6, 8, 8), Index(1, 8, 8))])
    rankings = {"scored": in_order(np.array([2])), "reserve": in_order(np.arange(6))}
    picks = select(field, rankings, [StrategyShare("scored", 1.0)], 3, taken=[], reserve="reserve")
    assert [(pick.strategy, pick.region.start.z) for pick in picks] == [
        ("scored", 2),
        ("reserve", 0),
        ("reserve", 1),
    ]
