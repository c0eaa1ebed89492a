"""The stopping hint on curves whose verdict can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from biosegment_sampler.domain.stopping import Curve, Flatness, Point, Verdict, hint, judge
from hypothesis import assume, given
from hypothesis import strategies as st

from biosegment.errors import InvalidArgument


def points(*ious: float, error: float | None = 0.01, annotations: int = 20) -> list[Point]:
    return [Point(f"models/m{n}", n, iou, error, annotations) for n, iou in enumerate(ious, start=2)]


def verdict(*ious: float, error: float | None = 0.01, annotations: int = 20) -> Verdict:
    return judge("mitochondria", points(*ious, error=error, annotations=annotations), Flatness()).verdict


def test_a_rising_curve_rises_and_a_falling_one_falls() -> None:
    # Chance alone: 1.645 * sqrt(2) * 0.02 = 0.047, less than the 0.2 between the ends.
    curve = judge("mitochondria", points(0.6, 0.7, 0.8, error=0.02), Flatness())
    assert curve.verdict is Verdict.RISING
    assert "grew from 0.60 to 0.80 in the last 3 rounds" in curve.text
    curve = judge("mitochondria", points(0.8, 0.7, 0.6, error=0.02), Flatness())
    assert curve.verdict is Verdict.FALLING
    assert "fell from 0.80 to 0.60" in curve.text
    assert "harder" in curve.text


def test_a_flat_curve_is_flat_for_as_many_rounds_as_it_is() -> None:
    # The widest pair: 0.01 + 1.645 * sqrt(2) * 0.01 = 0.033 of 0.05.
    curve = judge("mitochondria", points(0.5, 0.80, 0.81, 0.80, 0.80), Flatness())
    assert curve.verdict is Verdict.FLAT
    assert "flat for 4 rounds, now at 0.80" in curve.text
    # Of the last two only: 0.5 and 0.8 are not.
    assert judge("m", points(0.5, 0.8, 0.8), Flatness(rounds=2)).text.count("flat for 2 rounds") == 1


def test_flat_ends_where_chance_could_hide_a_difference() -> None:
    # 1.645 * sqrt(2) * e <= 0.05 up to e = 0.02149.
    assert verdict(0.8, 0.8, 0.8, error=0.0214) is Verdict.FLAT
    assert verdict(0.8, 0.8, 0.8, error=0.0216) is Verdict.TOO_FEW
    # The middle counts as the ends do.
    assert verdict(0.8, 0.84, 0.8, error=0.005) is Verdict.TOO_FEW
    assert verdict(0.8, 0.83, 0.8, error=0.005) is Verdict.FLAT


def test_a_noisy_curve_says_how_many_annotations_would_tell() -> None:
    curve = judge("mitochondria", points(0.70, 0.78, 0.71, error=0.04), Flatness())
    assert curve.verdict is Verdict.TOO_FEW
    assert "between 0.70 and 0.78" in curve.text
    # 20 * (1.645 * sqrt(2) * 0.04 / 0.05) ** 2 = 69.3
    assert "about 70 new annotations a round" in curve.text


def test_too_little_is_said_to_be_too_little() -> None:
    assert "2 of 3 rounds" in judge("m", points(0.8, 0.8), Flatness()).text
    assert judge("m", [], Flatness()).verdict is Verdict.TOO_FEW
    few = judge("m", points(0.8, 0.8, 0.8, error=0.001, annotations=9), Flatness())
    assert few.verdict is Verdict.TOO_FEW
    assert "only 9 new annotations of version 2" in few.text
    assert verdict(0.8, 0.8, 0.8, error=None, annotations=1) is Verdict.TOO_FEW


def test_a_model_that_finds_nothing_is_not_called_done() -> None:
    curve = judge("mitochondria", points(0.0, 0.0, 0.0, error=0.0), Flatness())
    assert curve.verdict is Verdict.BLIND
    assert "of your own choice" in curve.text
    assert verdict(0.05, 0.02, 0.11, error=0.001) is Verdict.RISING


def test_the_hint_is_flat_when_every_curve_is_and_says_what_it_does_not_say() -> None:
    flat, rising = (
        judge("a", points(0.8, 0.8, 0.8), Flatness()),
        judge("b", points(0.5, 0.6, 0.7), Flatness()),
    )
    few = judge("c", points(0.8), Flatness())
    assert hint([flat]).verdict is Verdict.FLAT
    assert hint([flat, few]).verdict is Verdict.TOO_FEW
    assert hint([flat, few, rising]).verdict is Verdict.RISING
    text = hint([flat, rising]).text
    assert "a: the agreement has been flat" in text
    assert "b: the agreement grew" in text
    assert "not accuracy on the volume" in text
    assert "held-out regions" in text
    assert hint([]).verdict is Verdict.TOO_FEW


@pytest.mark.parametrize(
    ("rounds", "tolerance"), [(1, 0.05), (51, 0.05), (3, 0.0), (3, 1.0), (3, math.nan), (-1, 0.1)]
)
def test_what_cannot_be_called_flat_is_refused(rounds: int, tolerance: float) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Flatness(rounds, tolerance)
    assert caught.value.reason == "BAD_FLATNESS"


CURVES = st.lists(
    st.builds(
        Point,
        st.just("models/m"),
        st.integers(1, 99),
        st.floats(0, 1),
        st.one_of(st.none(), st.floats(0, 0.2)),
        st.integers(2, 200),
    ),
    max_size=8,
)


@given(CURVES, st.integers(2, 5), st.floats(0.01, 0.3))
def test_flat_means_that_no_two_rounds_can_differ_by_the_tolerance(
    curve: list[Point], rounds: int, tolerance: float
) -> None:
    flatness = Flatness(rounds, tolerance)
    found = judge("m", curve, flatness)
    window = curve[-rounds:]
    if found.verdict is Verdict.FLAT:
        assert len(window) == rounds
        ious = [point.iou for point in window]
        assert max(ious) - min(ious) <= tolerance
        assert all(1.645 * (point.error or 0) <= tolerance for point in window)
        assert all(point.annotations >= 10 for point in window)
    # More doubt never makes a curve flat, and what came before does not matter.
    doubtful = [replace(point, error=(point.error or 0.0) + 0.01) for point in curve]
    if judge("m", doubtful, flatness).verdict is Verdict.FLAT:
        assert found.verdict is Verdict.FLAT
    assert judge("m", window, flatness).verdict is found.verdict


@given(CURVES, st.integers(2, 5))
def test_a_curve_read_backwards_falls_where_it_rose(curve: list[Point], rounds: int) -> None:
    assume(len(curve) >= rounds)
    window = curve[-rounds:]
    there, back = (judge("m", each, Flatness(rounds)).verdict for each in (window, window[::-1]))
    mirrored = {Verdict.RISING: Verdict.FALLING, Verdict.FALLING: Verdict.RISING}
    assert back is mirrored.get(there, there)


def test_chance_calls_a_moving_curve_flat_in_one_of_twenty_cases_at_most_and_a_still_one_mostly() -> None:
    rng = np.random.default_rng(0)

    def share(*truth: float, error: float) -> float:
        found: list[Curve] = [
            judge("m", points(*(np.array(truth) + rng.normal(0, error, len(truth))), error=error), Flatness())
            for _ in range(4000)
        ]
        return sum(curve.verdict is Verdict.FLAT for curve in found) / len(found)

    # Three standard errors of a share of 0.05 among 4000.
    assert share(0.75, 0.75, 0.80, error=0.015) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
    # Three normal values lie within 2.67 standard deviations of each other in about 86 of 100 cases.
    assert share(0.8, 0.8, 0.8, error=0.01) > 0.8
