"""Whether more annotations still change what a model says: the agreement of each model with annotations that it had
not seen, round by round, and what its last rounds allow one to say.

A round's agreement is the pooled IoU of a model with the annotations that came after it, measured before its child was
trained on them, and its standard error over those annotations. Rounds are different annotations, hence independent.

A curve is called flat by a test of equivalence, not because no difference was found (few annotations never find one):
every two of the last rounds must differ by less than the tolerance with their doubt added, |a - b| + 1.645 sqrt(ea^2 +
eb^2) <= tolerance. For each pair these are two one-sided tests at 5 % (Schuirmann 1987); since all pairs must pass,
the chance of calling a curve flat when some two rounds truly differ by the tolerance or more stays at most 5 %
(intersection-union, Berger and Hsu 1996), for one look: who looks after each round is wrong more often. It rises, or
falls, when its last round differs from the first of them by more than chance explains, one-sided at 5 %. In all other
cases there is too little to tell, and that is what is said.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.errors import InvalidArgument

ROUNDS: Final = 3
TOLERANCE: Final = 0.05
_QUANTILE: Final = 1.645
"""Of the normal distribution, one-sided 5 %."""
_FEWEST: Final = 10
"""Annotations of a round; of fewer the standard error is itself wrong by a quarter, 1 / sqrt(2 (n - 1))."""
BLIND_IOU: Final = 0.1
"""Below it a model finds next to nothing, and that this does not change says nothing about being done."""

WHAT_IT_DOES_NOT_SAY: Final = (
    "This is agreement with the samples that were annotated, not accuracy on the volume: samples are chosen to be "
    "hard, neighbours are alike, and whoever corrects a prediction agrees with it more readily. Before you stop, look "
    "at the models on held-out regions that nobody chose."
)


class Verdict(enum.StrEnum):
    TOO_FEW = "too_few"
    RISING = "rising"
    FALLING = "falling"
    FLAT = "flat"
    BLIND = "blind"


_LEAST_SETTLED_FIRST: Final = (
    Verdict.RISING,
    Verdict.FALLING,
    Verdict.BLIND,
    Verdict.TOO_FEW,
    Verdict.FLAT,
)


@dataclass(frozen=True, slots=True)
class Flatness:
    """What a caller calls flat: `rounds` in a row, within `tolerance` of IoU. InvalidArgument BAD_FLATNESS."""

    rounds: int = ROUNDS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not 2 <= self.rounds <= 50 or not 0 < self.tolerance < 1:
            raise InvalidArgument(
                "BAD_FLATNESS",
                f"flat_rounds {self.rounds} must be in 2..50 (0 means {ROUNDS}) and flat_tolerance "
                f"{self.tolerance:g} above 0 and below 1 (0 means {TOLERANCE:g})",
            )


@dataclass(frozen=True, slots=True)
class Point:
    """One round of a curve.

    Attributes:
        model: Whose training used the new annotations; its parent was tested.
        version: Of the model.
        iou: Pooled, 0..1.
        error: Standard error of `iou`, None for fewer than two annotations.
        annotations: In which the annotator or the model has the class.
    """

    model: str
    version: int
    iou: float
    error: float | None
    annotations: int


@dataclass(frozen=True, slots=True)
class Curve:
    """The agreement in one class, oldest round first, and what its last rounds say."""

    class_name: str
    points: tuple[Point, ...]
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Hint:
    """What all curves say together; it stops nothing."""

    verdict: Verdict
    text: str
    curves: tuple[Curve, ...]


def hint(curves: Sequence[Curve]) -> Hint:
    """Flat when every curve is, else the least settled of them; with what the hint does not say."""
    if not curves:
        text = "No model was tested on new annotations yet: the first is when its child is trained."
        return Hint(Verdict.TOO_FEW, text, ())
    verdicts = {curve.verdict for curve in curves}
    verdict = next(each for each in _LEAST_SETTLED_FIRST if each in verdicts)
    said = " ".join(curve.text for curve in curves)
    return Hint(verdict, f"{said} {WHAT_IT_DOES_NOT_SAY}", tuple(curves))


def judge(class_name: str, points: Sequence[Point], flatness: Flatness, unseen: int = 0) -> Curve:
    """Say what the last rounds of a curve allow one to say.

    Args:
        class_name: Of the curve.
        points: Rounds in which new annotations showed the class, oldest first.
        flatness: What is called flat.
        unseen: How many of the last rounds did not show it.
    """
    verdict, text = _verdict(points, flatness, unseen)
    return Curve(class_name, tuple(points), verdict, f"{class_name}: {text}")


def _verdict(points: Sequence[Point], flatness: Flatness, unseen: int) -> tuple[Verdict, str]:
    wanted, tolerance = flatness.rounds, flatness.tolerance
    if len(points) < wanted:
        return Verdict.TOO_FEW, f"too few to tell, {len(points)} of {wanted} rounds were measured."
    if unseen:
        return (
            Verdict.TOO_FEW,
            f"too few to tell, neither new annotations nor the models show it in {unseen} of the last {wanted} rounds; "
            "annotate regions of your own choice that show it.",
        )
    window = points[-wanted:]
    if max(point.iou for point in window) < BLIND_IOU:
        return (
            Verdict.BLIND,
            f"in the last {wanted} rounds the models found next to nothing of it in new annotations; annotate regions "
            "of your own choice that show it.",
        )
    few = min(window, key=lambda point: point.annotations)
    if few.annotations < _FEWEST:
        return (
            Verdict.TOO_FEW,
            f"too few to tell, only {few.annotations} new annotations of version {few.version} show it; "
            f"{_FEWEST} in each round are the least.",
        )
    if _widest(window) <= tolerance:
        return Verdict.FLAT, _flat(points, wanted, tolerance)
    first, last = window[0], window[-1]
    change, doubt = last.iou - first.iou, _doubt(first, last)
    if abs(change) > doubt:
        verdict, word = (Verdict.RISING, "grew") if change > 0 else (Verdict.FALLING, "fell")
        why = "" if change > 0 else "; new annotations are harder, or of another kind"
        return (
            verdict,
            f"the agreement {word} from {first.iou:.2f} to {last.iou:.2f} in the last {wanted} rounds{why}.",
        )
    return Verdict.TOO_FEW, _unclear(window, tolerance)


def _widest(window: Sequence[Point]) -> float:
    """The largest difference of two rounds that chance may hide."""
    return max(abs(a.iou - b.iou) + _doubt(a, b) for a, b in itertools.combinations(window, 2))


def _doubt(one: Point, other: Point) -> float:
    return _QUANTILE * math.hypot(one.error or 0.0, other.error or 0.0)


def _flat(points: Sequence[Point], wanted: int, tolerance: float) -> str:
    count = wanted
    while count < len(points) and _is_flat(points[-count - 1 :], tolerance):
        count += 1
    return (
        f"the agreement has been flat for {count} rounds, now at {points[-1].iou:.2f}: no two of them differ by "
        f"{tolerance:g} or more."
    )


def _is_flat(window: Sequence[Point], tolerance: float) -> bool:
    return min(point.annotations for point in window) >= _FEWEST and _widest(window) <= tolerance


def _unclear(window: Sequence[Point], tolerance: float) -> str:
    needed = max(
        math.ceil(point.annotations * (_QUANTILE * math.sqrt(2) * (point.error or 0.0) / tolerance) ** 2)
        for point in window
    )
    low, high = min(point.iou for point in window), max(point.iou for point in window)
    text = f"too few to tell, the last {len(window)} rounds lie between {low:.2f} and {high:.2f}, which may be chance"
    most = max(point.annotations for point in window)
    if needed > most:
        return (
            f"{text}; differences of {tolerance:g} are seen from about {needed} new annotations a round on."
        )
    return f"{text}."
