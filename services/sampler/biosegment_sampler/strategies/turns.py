"""Putting several orders together so that every beginning of the whole has its part of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def take_turns(orders: Sequence[NDArray[np.int64]], shares: Sequence[float]) -> NDArray[np.int64]:
    """Each time the next of the order that is furthest behind its share, the first one on a tie; nothing twice.

    Args:
        orders: Numbers, best first.
        shares: Of each order, above 0. One that is used up leaves its share to the others.
    """
    lists = [order.tolist() for order in orders]
    places, taken = [0] * len(lists), [0] * len(lists)
    seen: set[int] = set()
    result: list[int] = []
    while True:
        for which, numbers in enumerate(lists):
            while places[which] < len(numbers) and numbers[places[which]] in seen:
                places[which] += 1
        left = [which for which, numbers in enumerate(lists) if places[which] < len(numbers)]
        if not left:
            return np.array(result, np.int64)
        which = min(left, key=lambda one: (taken[one] + 1) / shares[one])
        number = lists[which][places[which]]
        seen.add(number)
        result.append(number)
        taken[which] += 1
