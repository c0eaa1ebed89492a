"""Focus crops: the windows of a slice in which clicks may change something."""

from __future__ import annotations

from collections.abc import Sequence

from biosegment_trainer.learning.clicks.model import CROP_PX, Point

_CONTEXT_PX = 32
"""What is clicked on should have this much around it in its window."""

Window = tuple[slice, slice]


def window_around(low: Point, high: Point, shape: Point) -> Window:
    """The window whose centre is that of the box [low, high], moved into a slice of `shape`; or all of it."""
    spans = []
    for first, last, size in zip(low, high, shape, strict=True):
        start = max(0, min((first + last + 1) // 2 - CROP_PX // 2, size - CROP_PX))
        spans.append(slice(start, min(start + CROP_PX, size)))
    return spans[0], spans[1]


def focus_windows(points: Sequence[Point], shape: Point) -> list[tuple[Window, list[int]]]:
    """Few windows in which all clicks lie, each with the numbers of the clicks that it was made for.

    Args:
        points: Pixels (y, x) of one slice.
        shape: Of the slice.
    """
    most = CROP_PX - 2 * _CONTEXT_PX
    groups: list[tuple[Point, Point, list[int]]] = []
    for number, (y, x) in enumerate(points):
        for at, (low, high, members) in enumerate(groups):
            new_low, new_high = (min(low[0], y), min(low[1], x)), (max(high[0], y), max(high[1], x))
            if new_high[0] - new_low[0] < most and new_high[1] - new_low[1] < most:
                groups[at] = (new_low, new_high, [*members, number])
                break
        else:
            groups.append(((y, x), (y, x), [number]))
    return [(window_around(low, high, shape), members) for low, high, members in groups]
