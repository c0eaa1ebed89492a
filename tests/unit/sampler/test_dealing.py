"""Shares of strategies, dealt by the number of a sample."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from biosegment_sampler.domain.dealing import strategy_at
from biosegment_sampler.domain.pool import StrategyShare
from hypothesis import given
from hypothesis import strategies as st


def shares_of(**parts: float) -> list[StrategyShare]:
    return [StrategyShare(name, part) for name, part in parts.items()]


def dealt(shares: list[StrategyShare], first: int, count: int) -> Counter[str]:
    return Counter(strategy_at(shares, number) for number in range(first, first + count))


@given(first=st.integers(0, 10**9))
def test_a_batch_has_exactly_its_shares_wherever_it_begins(first: int) -> None:
    assert dealt(shares_of(a=0.75, b=0.25), first, 20) == {"a": 15, "b": 5}
    assert dealt(shares_of(a=0.5, b=0.3, c=0.2), first, 10) == {"a": 5, "b": 3, "c": 2}
    assert dealt(shares_of(a=1 / 3, b=1 / 3, c=1 / 3), first, 3) == {"a": 1, "b": 1, "c": 1}
    assert dealt(shares_of(a=1.0), first, 4) == {"a": 4}


@given(
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    first=st.integers(0, 10**6),
    count=st.integers(1, 200),
)
def test_no_stretch_of_samples_is_far_from_its_shares(weights: list[int], first: int, count: int) -> None:
    total = sum(weights)
    shares = [StrategyShare(f"s{place}", weight / total) for place, weight in enumerate(weights)]
    found = dealt(shares, first, count)
    for place, weight in enumerate(weights):
        assert abs(found[f"s{place}"] - Fraction(count * weight, total)) < len(weights)


def test_shares_that_never_repeat_hold_over_many_samples() -> None:
    found = dealt(shares_of(a=2**-0.5, b=1 - 2**-0.5), 0, 10_000)
    assert found["a"] == pytest.approx(7071, abs=10)


def test_a_strategy_that_is_left_out_leaves_its_part_to_the_others_in_their_shares() -> None:
    left = shares_of(a=0.5, c=0.25)
    assert dealt(left, 7, 300) == {"a": 200, "c": 100}


def test_the_same_number_is_always_dealt_to_the_same_strategy() -> None:
    shares = shares_of(a=0.6, b=0.4)
    assert [strategy_at(shares, n) for n in range(5)] == [strategy_at(shares, n + 5) for n in range(5)]
