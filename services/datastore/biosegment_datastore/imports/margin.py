"""The margin of a slice: what tilting or aligning a stack filled up around the tissue, with one grey value.

It says nothing about the tissue. As a large part of a slice it would decide the slice's mean and deviation, and a
network that normalises by these would not know the tissue any more. A margin is whatever continues the value of a
corner of the slice from the left or right end of a row, whole rows included.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Voxels = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Lengths = npt.NDArray[np.int32]

FEWEST: Final = 1024
"""So many voxels say something: fewer equal ones at the border are chance, and fewer others are dust."""

_SHARE: Final = 0.01
"""Of a slice: a smaller margin changes nothing that a network would notice."""

_BEGINNING: Final = 4
"""Voxels at the end of a row by which one that may have a run is told from the many that have none."""

_BLOCK: Final = 1 << 18
"""Voxels that are compared at a time."""


@dataclass(frozen=True, slots=True)
class Margin:
    """Voxels of one value that are no tissue."""

    value: float
    count: int


class RowEnds:
    """Runs of one value at both ends of every row of a slice, whose pieces come from left to right in each row.

    Attributes:
        seen: Voxels that have come.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._columns = columns
        self.seen = 0
        self._first, self._last = np.zeros(rows), np.zeros(rows)
        # A row of one value is all head.
        self._head, self._tail = np.zeros(rows, np.int32), np.zeros(rows, np.int32)

    def add(self, piece: Voxels, y: int, x: int) -> int:
        """Take a piece (y, x) whose first voxel lies at `y`, `x`; returns how many of its voxels may be margin yet."""
        rows = slice(y, y + len(piece))
        width = piece.shape[1]
        first, last = piece[:, 0].astype(np.float64), piece[:, -1].astype(np.float64)
        leading = _runs(piece)
        is_whole = leading == width
        trailing = _runs(piece, backwards=True)
        head, tail = self._head[rows], self._tail[rows]
        if x == 0:
            self._first[rows] = first
        goes_on = (head == x) & (self._first[rows] == first)
        in_head = np.where(goes_on, leading, 0)
        in_tail = np.where(is_whole & goes_on, 0, trailing)
        tail[...] = in_tail + np.where(is_whole & ~goes_on & (self._last[rows] == first), tail, 0)
        head += in_head
        self._last[rows] = last
        self.seen += piece.size
        return int(in_head.sum() + in_tail.sum())

    def margins(self) -> tuple[Margin, ...]:
        """What is margin, when the whole slice has come: for every value of a corner, where that is enough."""
        corners = np.unique([each[place] for each in (self._first, self._last) for place in (0, -1)])
        found = (
            Margin(
                float(value),
                int(self._head[self._first == value].sum() + self._tail[self._last == value].sum()),
            )
            for value in corners
        )
        size = len(self._head) * self._columns
        return tuple(margin for margin in found if is_real(margin.count, size))

    def state(self) -> list[Any]:
        """What has come so far, as JSON."""
        parts = (self._first, self._last, self._head, self._tail)
        return [
            self.seen,
            base64.b64encode(zlib.compress(b"".join(part.tobytes() for part in parts), 1)).decode(),
        ]

    def restore(self, state: list[Any]) -> None:
        """Go on from an earlier `state` of the same slice."""
        self.seen = int(state[0])
        kept, start = zlib.decompress(base64.b64decode(state[1])), 0
        for part in (self._first, self._last, self._head, self._tail):
            part[...] = np.frombuffer(kept, part.dtype, len(part), start)
            start += part.nbytes


def is_real(count: int, size: int) -> bool:
    """Whether `count` voxels are a real part of `size`."""
    return count >= max(FEWEST, _SHARE * size)


def margins_of(plane: Voxels) -> tuple[Margin, ...]:
    """The margins of a whole slice."""
    ends = RowEnds(*plane.shape)
    ends.add(plane, 0, 0)
    return ends.margins()


def suspects(block: Voxels) -> Flags:
    """Which of several whole slices may have a margin: nearly none that has none, and at next to no cost."""
    depth, _, width = block.shape
    corners = block[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    most = np.zeros(depth, np.int64)
    for column, inwards in ((0, 1), (-1, -1)):
        first = block[:, :, column].copy()
        may = np.zeros(first.shape, np.bool_)
        for corner in corners.T:
            may |= first == corner[:, None]
        z, y = np.nonzero(may)
        goes_on = np.ones(len(z), np.bool_)
        for step in range(1, min(_BEGINNING, width)):
            goes_on &= block[z, y, column + inwards * step] == first[z, y]
        short, long = (np.bincount(each, minlength=depth) for each in (z, z[goes_on]))
        most += (_BEGINNING - 1) * short + width * long
    size = block[0].size
    return np.array([is_real(int(count), size) for count in most], np.bool_)


def _runs(rows: Voxels, backwards: bool = False) -> Lengths:
    """How many voxels at the left end of each row, or at the right end, are equal to the outermost one."""
    count, width = rows.shape
    lengths = np.full(count, width, np.int32)
    value = rows[:, -1 if backwards else 0].copy()
    going = np.arange(count)
    start, step = 1, 8
    while start < width and len(going):
        stop = min(start + step, width)
        columns = slice(width - stop, width - start) if backwards else slice(start, stop)
        differs = (rows[:, columns] if len(going) == count else rows[going, columns]) != value[going, None]
        ends = differs.any(axis=1)
        ended = differs[ends, ::-1] if backwards else differs[ends]
        lengths[going[ends]] = start + ended.argmax(axis=1)
        going = going[~ends]
        start, step = stop, max(8, min(step * 32, _BLOCK // max(1, len(going))))
    return lengths
