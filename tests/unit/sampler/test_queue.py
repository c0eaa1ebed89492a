"""What is worked out little by little is what sorting everything would give."""

from __future__ import annotations

import numpy as np
import pytest
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.occupancy import BATCH, NEAR, TAKEN, Hold, Occupancy
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.queue import Queue
from biosegment_sampler.domain.ranking import Ranking, at_random, by_score, in_order
from hypothesis import given, settings
from hypothesis import strategies as st

from biosegment.volume import Index, Region

SHAPE = Index(9, 40, 40)
WINDOW = Index(1, 16, 16)
FIELD = CandidateField.over([("a", SHAPE, WINDOW), ("b", Index(5, 16, 40), WINDOW)])
COUNT = len(FIELD)


def scores(kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, COUNT) if kind == "ties" else rng.normal(size=COUNT)
    return np.where(rng.random(COUNT) < 0.2, np.nan, values).astype(np.float32)


def ranking(kind: str, seed: int) -> Ranking:
    rng = np.random.default_rng(seed)
    match kind:
        case "listed":
            return in_order(rng.permutation(COUNT)[: COUNT // 2])
        case "random":
            return at_random(COUNT, seed)
        case "listed, then random":
            return at_random(COUNT, seed, first=rng.permutation(COUNT)[:7])
    return by_score(scores(kind, seed), seed)


KINDS = ["scores", "ties", "listed", "random", "listed, then random"]
RANKINGS = st.builds(ranking, st.sampled_from(KINDS), st.integers(0, 99))
PLACES = st.builds(
    lambda volume, start, size: VolumeRegion(volume, Region.of_shape(size, start)),
    st.sampled_from("ab"),
    st.tuples(st.integers(0, 4), st.integers(0, 10), st.integers(0, 35)),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(0, 5), PLACES, st.sampled_from([TAKEN, TAKEN | NEAR])),
        st.tuples(st.just("free"), st.integers(0, 5)),
        st.tuples(st.just("ask"), st.sampled_from([TAKEN, TAKEN | NEAR])),
        st.tuples(st.just("take best"), st.integers(10, 40)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ranked=RANKINGS, steps=STEPS, at_a_time=st.integers(1, 30), volume=st.sampled_from(["", "b"]))
def test_a_queue_gives_what_sorting_everything_would(
    ranked: Ranking, steps: list[tuple[object, ...]], at_a_time: int, volume: str
) -> None:
    occupancy = Occupancy(FIELD, slice_distance=3)
    view = occupancy.view(volume)
    if volume:
        part = slice(COUNT - len(view.field), COUNT)
        ranked = at_random(len(view.field), 3) if ranked.scores is None else by_score(ranked.scores[part], 3)
    order = ranked.order
    queue = Queue(ranked, view, at_a_time)
    for step, *rest in steps:
        if step == "hold":
            key, place, bits = rest
            occupancy.hold(key, Hold(place, bits))
        elif step == "free":
            occupancy.free(rest[0])
        bits = rest[0] if step == "ask" else TAKEN | NEAR
        best = queue.first_open(bits)
        expected = order[view.is_open(order, bits)]
        assert best == (expected[0] if len(expected) else None)
        if step == "take best" and best is not None:
            occupancy.hold(rest[0], Hold(VolumeRegion(*view.field.locate(best)), TAKEN | NEAR))


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["scores", "ties"]), seed=st.integers(0, 999), count=st.integers(1, COUNT))
def test_the_best_by_score_are_those_of_a_full_sort_without_nan(kind: str, seed: int, count: int) -> None:
    values = scores(kind, seed)
    ranked = by_score(values, seed)
    _, numbers = ranked.best(count, Occupancy(FIELD).view().is_open)
    finite = np.flatnonzero(np.isfinite(values))
    assert values[numbers].tolist() == sorted(values[finite].tolist(), reverse=True)[:count]
    assert len(set(numbers.tolist())) == len(numbers) == min(count, len(finite))
    keys = ranked.keys(np.arange(COUNT))
    assert numbers.tolist() == np.argsort(keys, kind="stable")[: len(numbers)].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_follows_from_its_seed(kind: str) -> None:
    one, same = ranking(kind, 4).order, ranking(kind, 4).order
    assert one.tolist() == same.tolist()
    assert one.tolist() != ranking(kind, 5).order.tolist()
    assert len(set(one.tolist())) == len(one)


def test_random_orders_favour_nobody() -> None:
    """Each of 10 candidates comes first in about a tenth of 2000 orders, and each pair meets in either order."""
    orders = np.array([at_random(10, seed).order for seed in range(2000)])
    firsts = np.bincount(orders[:, 0], minlength=10)
    assert ((firsts - 200) ** 2 / 200).sum() < 33  # chi-square, 9 degrees of freedom, p = 0.0001
    places = np.argsort(orders, axis=1)
    before = (places[:, :, None] < places[:, None, :]).mean(0)
    assert (abs(before - 0.5) - np.eye(10) * 0.5 < 0.06).all()


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, distance=st.integers(1, 5))
def test_what_changes_is_kept_as_if_it_was_counted_anew(
    steps: list[tuple[object, ...]], distance: int
) -> None:
    occupancy, held = Occupancy(FIELD, distance), {}
    for step, *rest in steps:
        if step == "hold":
            key, place, bits = rest
            held[key] = Hold(place, bits)
            occupancy.hold(key, held[key])
        elif step == "free":
            held.pop(rest[0], None)
            occupancy.free(rest[0])
    fresh = Occupancy(FIELD, distance)
    fresh.fill(held.items())
    everything = slice(0, COUNT)
    for bits in (TAKEN, NEAR, TAKEN | NEAR, BATCH):
        assert (
            occupancy.view().is_open(everything, bits).tolist()
            == fresh.view().is_open(everything, bits).tolist()
        )
    for volume in ("", "a", "b"):
        for bits in (TAKEN, TAKEN | NEAR):
            view = occupancy.view(volume)
            assert view.has_open(bits) == view.is_open(slice(0, len(view.field)), bits).any()
    assert occupancy.open_count == fresh.open_count
    assert occupancy.open_count == np.count_nonzero(occupancy.view().is_open(everything))


def test_a_region_over_most_of_a_volume_is_given_back_but_for_what_others_hold() -> None:
    shape = Index(200, 700, 700)
    field = CandidateField.over([("v", shape, WINDOW)])
    occupancy = Occupancy(field)
    whole = Hold(VolumeRegion("v", Region(Index(0, 0, 0), Index(190, 700, 700))))
    small = Hold(VolumeRegion("v", Region.of_shape((1, 16, 16), (50, 320, 320))))
    occupancy.hold("small", small)
    alone = occupancy.open_count
    occupancy.hold("whole", whole)
    assert occupancy.open_count == 10 * len(field) // 200
    occupancy.free("small")
    assert occupancy.open_count == 10 * len(field) // 200
    occupancy.hold("small", small)
    occupancy.free("whole")
    assert occupancy.open_count == alone < len(field)
