"""Strategies that draw: how often they draw what, against probabilities worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from biosegment_sampler.strategies.clasp import beta
from biosegment_sampler.strategies.shortlist import drawn, highest, some_scored
from biosegment_sampler.strategies.stratified import halton
from biosegment_sampler.strategies.turns import take_turns
from scipy import stats

from tests.unit.sampler.pool import candidates_of, order_of

DRAWS = 4000


def sequence_probability(order: tuple[int, ...], weights: list[float]) -> float:
    """Of drawing in that order without replacement (Plackett-Luce)."""
    left, probability = sum(weights), 1.0
    for number in order:
        probability *= weights[number] / left
        left -= weights[number]
    return probability


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_draws_are_proportional_to_a_power_of_the_score(power: float) -> None:
    scores = [0.1, 0.2, 0.3, 0.65]
    orders = list(itertools.permutations(range(4)))
    seen = dict.fromkeys(orders, 0)
    array = np.array(scores, np.float32)
    for seed in range(DRAWS):
        seen[tuple(drawn(array, 4, power, seed).tolist())] += 1
    expected = [DRAWS * sequence_probability(order, [s**power for s in scores]) for order in orders]
    assert stats.chisquare(list(seen.values()), expected).pvalue > 0.001
    wrong = [DRAWS * sequence_probability(order, [s ** (power + 0.2) for s in scores]) for order in orders]
    assert stats.chisquare(list(seen.values()), wrong).pvalue < 0.001


@pytest.mark.parametrize(
    ("strategy", "measure"), [("power_entropy", "entropy"), ("power_bald", "mutual_information")]
)
def test_a_power_strategy_draws_in_proportion_to_its_score(strategy: str, measure: str) -> None:
    scores = {measure: [0.1, 0.2, 0.3, 0.4, np.nan, 0.0]}
    firsts = np.zeros(6)
    for seed in range(2000):
        order = order_of(strategy, candidates_of(scores, seed=seed))
        assert sorted(order) == [0, 1, 2, 3]
        firsts[order[0]] += 1
    assert stats.chisquare(firsts[:4], [200, 400, 600, 800]).pvalue > 0.001


@pytest.mark.parametrize("base", [2, 3, 5, 7])
def test_the_sequence_behind_stratified_choice_is_that_of_halton(base: int) -> None:
    # SciPy begins with 0, and draws one axis for each of the first primes.
    known = stats.qmc.Halton(d=4, scramble=False).random(1001)[1:, [2, 3, 5, 7].index(base)]
    assert halton(1000, base) == pytest.approx(known, abs=1e-12)


def test_foreground_random_goes_by_the_expected_foreground_and_leaves_a_third_to_chance() -> None:
    foreground = np.full(400, 0.001)
    foreground[:10] = np.linspace(0.1, 1, 10)
    firsts = np.zeros(10)
    others = np.zeros(400)
    for seed in range(600):
        order = order_of("foreground_random", candidates_of({"class_probability": foreground}, seed=seed))
        assert sorted(order) == list(range(400))
        if order[0] < 10:
            firsts[order[0]] += 1
        # Of every three one is drawn from all alike.
        others[order[1]] += 1
    assert stats.chisquare(firsts, foreground[:10] / foreground[:10].sum() * firsts.sum()).pvalue > 0.001
    assert firsts.sum() > 0.9 * 600
    assert others[:10].sum() / 600 < 0.08


def test_the_highest_are_those_that_sorting_finds_also_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biosegment_sampler.strategies.shortlist._BLOCK", 100)
    scores = np.random.default_rng(1).normal(size=1234).astype(np.float32)
    scores[::5] = np.nan
    scores[3] = -np.inf
    known = [number for number in range(1234) if math.isfinite(scores[number])]
    expected = sorted(known, key=lambda number: -scores[number])
    assert highest(scores, 50, 0).tolist() == expected[:50]
    assert highest(scores, 5000, 0).tolist() == expected
    assert set(drawn(np.abs(scores), 60, 1e6, 0).tolist()) == set(highest(np.abs(scores), 60, 0).tolist())


def test_equal_scores_are_cut_off_at_random() -> None:
    kept = np.zeros(40)
    for seed in range(300):
        kept[highest(np.ones(40, np.float32), 10, seed)] += 1
    assert kept.sum() == 3000
    assert stats.chisquare(kept).pvalue > 0.001


def test_random_candidates_are_scored_ones_also_of_a_large_pool() -> None:
    known = np.full(10_000, np.nan)
    known[5000:6000] = 0.5
    found = some_scored(candidates_of({"class_probability": known}), 100)
    assert len(set(found.tolist())) == 100
    assert all(5000 <= number < 6000 for number in found)
    assert some_scored(candidates_of({"class_probability": known}), 5000).size == 1000
    assert some_scored(candidates_of({}, count=50), 20).size == 20


def test_turns_give_every_beginning_its_shares_and_nothing_twice() -> None:
    first, second = np.arange(100), np.array([0, 1, 200, 201, 202])
    order = take_turns([first, second], [0.75, 0.25]).tolist()
    assert sorted(order) == sorted({*first.tolist(), *second.tolist()})
    for count in (4, 8, 12):
        assert sum(number >= 200 or number == 1 for number in order[:count]) <= count // 4 + 1
    assert order[:4] == [0, 1, 2, 200] or order[:4].count(200) == 1


def test_the_noise_of_clasp_decays_over_ten_rounds_as_in_the_paper() -> None:
    # 100^(t / 9) for t = 0 .. 9, worked out by hand: the third root of 100 is 4.6416.
    assert [round(beta(count), 3) for count in (0, 1, 4, 7, 10, 30)] == [1, 1, 4.642, 21.544, 100, 100]


def test_clasp_gives_two_thirds_to_the_classes_and_the_rest_to_entropy() -> None:
    """With hardly any noise the order follows from the scores: entropy alone puts 0..9 first, the classes others."""
    entropy = np.full(40, 1e-6)
    by_class = np.full((40, 2), 1e-6)
    entropy[:10] = np.exp(-np.arange(10.0))
    by_class[10:20, 0] = np.exp(-np.arange(10.0))
    by_class[20:30, 1] = np.exp(-np.arange(10.0))
    scores = {"entropy": entropy, "class_entropy": by_class}
    order = order_of("clasp", candidates_of(scores, round=40, seed=3))
    assert sorted(order) == list(range(40))
    streams = [number // 10 for number in order[:12]]
    # 0.33, 0.33 and 0.34 of twelve.
    assert sorted(streams.count(stream) for stream in (0, 1, 2)) == [4, 4, 4]
    for stream, first in ((0, 0), (1, 10), (2, 20)):
        assert [number for number in order[:12] if number // 10 == stream] == list(range(first, first + 4))


def test_clasp_draws_in_proportion_to_the_class_score_in_the_first_round() -> None:
    by_class = np.array([[0.4], [0.3], [0.2], [0.1], [np.nan]])
    firsts = np.zeros(5)
    for seed in range(2000):
        scores = {"entropy": [0.5, 0.5, 0.5, 0.5, np.nan], "class_entropy": by_class}
        firsts[order_of("clasp", candidates_of(scores, round=1, seed=seed))[0]] += 1
    assert stats.chisquare(firsts[:4], [800, 600, 400, 200]).pvalue > 0.001
    assert firsts[4] == 0
