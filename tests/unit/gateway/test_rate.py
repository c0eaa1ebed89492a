from __future__ import annotations

import pytest
from biosegment_gateway.rate import _CAPACITY, Rate


class Seconds:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def test_a_burst_passes_at_once_and_then_one_at_a_time(seconds):
    rate = Rate(4.0, 3, seconds)
    assert [rate.take("ann") for _ in range(3)] == [0.0, 0.0, 0.0]
    wait_s = rate.take("ann")
    assert wait_s == pytest.approx(0.25)
    seconds.time += wait_s
    assert rate.take("ann") == 0.0
    assert rate.take("ann") > 0.0


def test_a_refused_one_costs_nothing(seconds):
    rate = Rate(1.0, 1, seconds)
    rate.take("ann")
    waits = [rate.take("ann") for _ in range(50)]
    assert waits == [pytest.approx(1.0)] * 50


def test_keys_do_not_share(seconds):
    rate = Rate(1.0, 1, seconds)
    assert rate.take("ann") == rate.take("bob") == 0.0
    assert rate.take("ann") > 0.0


def test_in_the_long_run_the_rate_holds(seconds):
    rate, passed = Rate(10.0, 5, seconds), 0
    for _ in range(1000):
        seconds.time += 0.01
        passed += rate.take("ann") == 0.0
    assert 100 <= passed <= 106


def test_the_number_of_keys_is_bounded(seconds):
    rate = Rate(1.0, 2, seconds)
    for number in range(3 * _CAPACITY):
        rate.take(str(number))
    assert len(rate._full_at) <= _CAPACITY
    newest = str(3 * _CAPACITY - 1)
    assert rate.take(newest) == 0.0
    assert rate.take(newest) > 0.0, "who came last is remembered"
    seconds.time += 10.0
    rate.take("one more")
    assert len(rate._full_at) == 1, "full buckets need not be kept"
