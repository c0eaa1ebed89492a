"""Candidates in the order of a strategy, of which only as much is worked out as somebody asks for."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

UNRANKED: Final = np.uint64(2**64 - 1)
"""Key of what is no candidate for the strategy."""
_BLOCK: Final = 1 << 20
_LOW: Final = np.uint64(32)

IsOpen = Callable[["slice | NDArray[np.int64]"], NDArray[np.bool_]]
"""Takes candidates, as a range or as their numbers, and tells which can be had."""


class Others(enum.Enum):
    """What comes after the candidates that a strategy lists itself."""

    NONE = enum.auto()
    BY_SCORE = enum.auto()
    """Highest first, ties in random order; without those that have no score (NaN)."""
    AT_RANDOM = enum.auto()


class Ranking:
    """Candidates, best first.

    Every candidate has a key, smaller for better ones, that follows from the candidate alone. So the best of those that
    can be had are found in one pass, without sorting all, and nothing is held but the scores.

    Attributes:
        count: Of all candidates, which are numbered from 0 and fewer than 2^32.
        listed: The first ones, best first, each once; int64 (n,).
        others: What comes after them.
        scores: Larger is better, by number; float32 (count,), or None for strategies without scores.
        seed: Of what is random.
    """

    def __init__(
        self,
        count: int,
        listed: NDArray[np.int64],
        others: Others,
        scores: NDArray[np.float32] | None = None,
        seed: int = 0,
    ) -> None:
        self.count = count
        self.listed = listed
        self.others = others
        self.scores = scores
        self.seed = seed
        self._by_number = np.argsort(listed, kind="stable")
        self._salts = np.random.default_rng(seed).integers(0, 2**32, 2, np.uint32)

    def check(self, count: int) -> None:
        """ValueError unless it ranks what it says, and that among `count` candidates: anybody's strategy makes it.

        Otherwise it would fail later, when candidates are looked up, and with it whoever claims some.
        """
        listed, scores = self.listed, self.scores
        if self.count > count:
            raise ValueError(f"it ranks {self.count} candidates, and there are {count}")
        if listed.ndim != 1 or not np.issubdtype(listed.dtype, np.integer):
            raise ValueError(
                f"what it lists is {listed.dtype} of shape {listed.shape}, not numbers of candidates"
            )
        ascending = listed[self._by_number]
        if len(listed) and not 0 <= ascending[0] <= ascending[-1] < count:
            raise ValueError(f"it lists {ascending[0]} to {ascending[-1]} of the candidates 0 to {count - 1}")
        if (ascending[1:] == ascending[:-1]).any():
            raise ValueError("it lists a candidate twice")
        if scores is not None and scores.shape != (count,):
            raise ValueError(f"its scores have the shape {scores.shape}, not ({count},)")

    @property
    def nbytes(self) -> int:
        """Of what it holds, scores that others may hold too included."""
        return 2 * self.listed.nbytes + (self.scores.nbytes if self.scores is not None else 0)

    @property
    def order(self) -> NDArray[np.int64]:
        """All that are ranked, best first, int64 (n,); for pools that are small enough to be sorted."""
        return self.best(len(self.listed) + self.count, all_open)[1]

    def keys(self, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Keys of candidates, uint64 (n,); no two are the same but those of what is not ranked."""
        keys = self._other_keys(numbers)
        if len(self.listed):
            places = self._places(numbers)
            is_listed = places >= 0
            keys[is_listed] = places[is_listed].astype(np.uint64)
        return keys

    def best(self, count: int, is_open: IsOpen) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The best ones that can be had, at most `count`.

        Returns:
            Keys, ascending, and numbers.
        """
        (places,) = np.nonzero(is_open(self.listed))
        places = places[:count]
        keys, numbers = places.astype(np.uint64), self.listed[places]
        if len(places) == count or self.others is Others.NONE:
            return keys, numbers
        more_keys, more = self._best_others(count - len(places), is_open)
        return np.concatenate([keys, more_keys]), np.concatenate([numbers, more])

    def _best_others(self, count: int, is_open: IsOpen) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        keys, numbers = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        lowest = np.float32(-np.inf)
        for first in range(0, self.count, _BLOCK):
            block = slice(first, min(first + _BLOCK, self.count))
            usable = is_open(block)
            if self.scores is not None and self.others is Others.BY_SCORE:
                # What cannot be among the best any more is not looked at closer; NaN neither.
                usable &= self.scores[block] >= lowest
            some = first + np.flatnonzero(usable)
            if len(self.listed):
                some = some[self._places(some) < 0]
            keys = np.concatenate([keys, self._other_keys(some)])
            numbers = np.concatenate([numbers, some])
            if len(keys) > 2 * count:
                keys, numbers, lowest = self._cut(keys, numbers, count)
        ranked = keys != UNRANKED
        keys, numbers, _ = self._cut(keys[ranked], numbers[ranked], count)
        order = np.argsort(keys)
        return keys[order], numbers[order]

    def _cut(
        self, keys: NDArray[np.uint64], numbers: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64], np.float32]:
        if len(keys) <= count:
            return keys, numbers, np.float32(-np.inf)
        best = np.argpartition(keys, count - 1)[:count]
        lowest = np.float32(-np.inf) if self.scores is None else self.scores[numbers[best[-1]]]
        return keys[best], numbers[best], lowest if np.isfinite(lowest) else np.float32(-np.inf)

    def _other_keys(self, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        if self.others is Others.NONE:
            return np.full(len(numbers), UNRANKED)
        # Above all places in the list, whose keys are below 2^32.
        high = np.ones(len(numbers), np.uint64)
        if self.others is Others.BY_SCORE:
            assert self.scores is not None
            values = self.scores[numbers]
            high = _descending(values).astype(np.uint64)
        keys = (high << _LOW) | _mixed(numbers, self._salts).astype(np.uint64)
        if self.others is Others.BY_SCORE:
            keys[~np.isfinite(values)] = UNRANKED
        return keys

    def _places(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the list, -1 for those that are not in it."""
        ascending = self.listed[self._by_number]
        found = np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)
        return np.where(ascending[found] == numbers, self._by_number[found], -1)


def by_score(scores: NDArray[np.float32], seed: int) -> Ranking:
    """Highest first, ties in random order; candidates without a score (NaN) are left out.

    Args:
        scores: float32 (all,), NaN where nothing is known.
        seed: Of the order of ties.
    """
    return Ranking(len(scores), np.zeros(0, np.int64), Others.BY_SCORE, scores, seed)


def in_order(numbers: NDArray[np.int64], scores: NDArray[np.float32] | None = None) -> Ranking:
    """An order that a strategy made itself; what is not in it is no candidate for the strategy.

    Args:
        numbers: Best first, each once; int64 (n,).
        scores: As in `Ranking`; they say nothing about the order.
    """
    count = len(scores) if scores is not None else int(numbers.max(initial=-1)) + 1
    return Ranking(count, numbers.astype(np.int64), Others.NONE, scores)


def at_random(count: int, seed: int, first: NDArray[np.int64] | None = None) -> Ranking:
    """All candidates in random order, after those of `first`.

    Args:
        count: Of all candidates.
        seed: The same one, the same order.
        first: Best first, each once; int64 (n,).
    """
    listed = np.zeros(0, np.int64) if first is None else first.astype(np.int64)
    return Ranking(count, listed, Others.AT_RANDOM, None, seed)


def _descending(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Numbers that are in the opposite order of the values; at least 2^23 for finite ones."""
    bits = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)  # -0 becomes 0
    ascending = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    result: NDArray[np.uint32] = ~ascending
    return result


def _mixed(numbers: NDArray[np.int64], salts: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A random-looking order: numbers below 2^32 one to one to such numbers.

    Twice the finalizer of A. Appleby's MurmurHash3, whose steps can all be undone, so that nothing meets.
    """
    mixed = numbers.astype(np.uint32)
    for salt in salts:
        mixed ^= salt
        mixed ^= mixed >> np.uint32(16)
        mixed *= np.uint32(0x85EBCA6B)
        mixed ^= mixed >> np.uint32(13)
        mixed *= np.uint32(0xC2B2AE35)
        mixed ^= mixed >> np.uint32(16)
    return mixed


def all_open(candidates: slice | NDArray[np.int64]) -> NDArray[np.bool_]:
    """An `IsOpen` for pools of which nothing is taken."""
    if isinstance(candidates, slice):
        return np.ones(candidates.stop - candidates.start, np.bool_)
    return np.ones(len(candidates), np.bool_)
