"""A person who paints strokes, for benchmarks and tests: each stroke is drawn from the truth where the last answer errs
most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from biosegment.volume import BACKGROUND, FIRST_CLASS

Labels = NDArray[np.uint8]

_DIRECTIONS: Final = 16


def paint(
    truth: Labels, answer: Callable[[Labels], Labels], count: int, length_px: float, width_px: float
) -> Iterator[tuple[Labels, Labels | None]]:
    """Paint strokes one by one, the class and the background in turn, beginning with the class.

    Args:
        truth: uint8 (y, x), 1 background and 2 the class; both occur.
        answer: Gives the segmentation of all strokes so far; asked after each but the first.
        count: Of strokes.
        length_px: Longest stroke.
        width_px: Diameter of the brush.

    Yields:
        All strokes so far and the answer to them, None for the first one; the arrays are the caller's.
    """
    strokes = np.zeros(truth.shape, np.uint8)
    last: Labels | None = None
    for number in range(count):
        value = BACKGROUND if number % 2 else FIRST_CLASS
        strokes[next_stroke(truth, last, strokes, value, length_px, width_px)] = value
        last = answer(strokes.copy()) if number else None
        yield strokes.copy(), last


def next_stroke(
    truth: Labels,
    answer: Labels | None,
    strokes: Labels,
    value: int,
    length_px: float,
    width_px: float,
) -> NDArray[np.bool_]:
    """The next stroke of one value.

    Without an answer it lies in the largest connected part of what has that value, after it in the largest that has
    it and was answered wrongly. It goes through the pixel of the part that is deepest inside, straight, in the
    direction of sixteen in which it stays in the part for longest, and never leaves the value. When nothing of the
    value is wrong, it lies in the largest part that was not painted yet.

    Args:
        truth: uint8 (y, x) of values.
        answer: The same of the last answer.
        strokes: uint8 (y, x), what was painted so far.
        value: What to paint.
        length_px: Longest stroke.
        width_px: Diameter of the brush.

    Returns:
        bool (y, x): the painted pixels.
    """
    own = truth == value
    wrong = own if answer is None else own & (answer != value)
    left = ndimage.binary_dilation(strokes == value, iterations=max(1, round(width_px)))
    for candidates in (wrong & ~left, own & ~left, own):
        if candidates.any():
            break
    part = _largest(candidates)
    inside = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    centre = np.array(np.unravel_index(int(inside.argmax()), part.shape))
    path = max((_straight(part, centre, angle, length_px) for angle in _angles()), key=len)
    line = np.ones(truth.shape, bool)
    line[tuple(path.T)] = False
    return np.asarray((ndimage.distance_transform_edt(line) <= width_px / 2) & own)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _angles() -> list[float]:
    return [number * np.pi / _DIRECTIONS for number in range(_DIRECTIONS)]


def _straight(
    part: NDArray[np.bool_], centre: NDArray[np.int64], angle: float, length_px: float
) -> NDArray[np.int64]:
    """Pixels (n, 2) of a line through `centre`, both ways, until it leaves the part or is long enough."""
    found = [centre]
    for sign in (1, -1):
        for reach in np.arange(0.5, length_px / 2, 0.5) * sign:
            point = np.rint(centre + reach * np.array([np.sin(angle), np.cos(angle)])).astype(np.int64)
            if (point < 0).any() or (point >= part.shape).any() or not part[tuple(point)]:
                break
            found.append(point)
    return np.unique(np.array(found), axis=0)
