"""The candidates of a ranking that can still be had, best first."""

from __future__ import annotations

import weakref
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.ranking import UNRANKED, Ranking

_AT_A_TIME: Final = 1 << 16
_STEP: Final = 4096


class Openness(Protocol):
    """Which candidates can be had; `occupancy.View`."""

    def is_open(self, candidates: slice | NDArray[np.int64], bits: np.uint8 = ...) -> NDArray[np.bool_]: ...

    def reopened_since(self, serial: int) -> tuple[int, NDArray[np.int64] | None]: ...


class Queue:
    """Gives the same candidates as sorting all of them would, and sorts only the best ones that are not taken.

    Those are kept. What is given back later is put among them, unless it is worse than all of them, and when none of
    them can be had any more, the next best ones are looked for.

    Args:
        ranking: Must live as long as the queue is used.
        openness: Of the ranking's candidates.
        at_a_time: How many are worked out at least; by default about a thousand samples, since each takes its
            neighbours with it.
    """

    def __init__(self, ranking: Ranking, openness: Openness, at_a_time: int = _AT_A_TIME) -> None:
        # A queue is found by its ranking, and must not keep it alive.
        self._ranking: Ranking = weakref.proxy(ranking)
        self._openness = openness
        self._at_a_time = at_a_time
        self._keys = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.int64)
        self._is_complete = False
        self._serial = -1

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._numbers.nbytes

    def first_open(self, bits: np.uint8) -> int | None:
        """The best candidate that has none of the bits, None when there is none."""
        self._take_back()
        while True:
            for first in range(0, len(self._numbers), _STEP):
                some = self._numbers[first : first + _STEP]
                (free,) = np.nonzero(self._openness.is_open(some, bits))
                if len(free):
                    return int(some[free[0]])
            if self._is_complete:
                return None
            self._look_further()

    def prepare(self) -> None:
        """Look for the best ones now rather than when the first is asked for."""
        self._take_back()
        if not len(self._numbers) and not self._is_complete:
            self._look_further()

    def _look_further(self) -> None:
        # Those that are only near to something stay in front: they come when nothing else is left.
        still = int(np.count_nonzero(self._openness.is_open(self._numbers)))
        count = self._at_a_time + 4 * still
        self._serial, _ = self._openness.reopened_since(0)
        self._keys, self._numbers = self._ranking.best(count, self._openness.is_open)
        self._is_complete = len(self._numbers) < count

    def _take_back(self) -> None:
        if self._serial < 0:
            return
        self._serial, numbers = self._openness.reopened_since(self._serial)
        if numbers is None:
            self._keys, self._numbers = self._keys[:0], self._numbers[:0]
            self._is_complete = False
            return
        if not len(numbers):
            return
        numbers = np.unique(numbers)
        keys = self._ranking.keys(numbers)
        last = self._keys[-1] if len(self._keys) else np.uint64(0)
        wanted = (keys != UNRANKED) & ((keys < last) | self._is_complete)
        order = np.argsort(keys[wanted])
        keys, numbers = keys[wanted][order], numbers[wanted][order]
        places = np.searchsorted(self._keys, keys)
        there = np.minimum(places, len(self._keys) - 1)
        is_new = self._keys[there] != keys if len(self._keys) else np.ones(len(keys), np.bool_)
        self._keys = np.insert(self._keys, places[is_new], keys[is_new])
        self._numbers = np.insert(self._numbers, places[is_new], numbers[is_new])
