"""Slices that wait for their neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from biosegment_trainer.learning.measures import Evidence
from biosegment_trainer.learning.tiling import Span


class Trail:
    """Slices of a tile, in order, until their neighbours are known as well.

    Args:
        first: The first of them.
        complete: No more will come than are added at once.
    """

    def __init__(self, first: int, complete: bool = False) -> None:
        self._first = first
        self._complete = complete
        self._stop = first
        self._held: dict[str, Tensor] = {}
        self._next = 0

    def add(self, seen: dict[str, Tensor], stop: int) -> None:
        """Slices that follow, up to `stop`; each tensor leads with them."""
        if self._held:
            self._held = {name: torch.cat([self._held[name], tensor]) for name, tensor in seen.items()}
        else:
            self._held = seen
        self._stop = stop

    def take(self, wanted: Span, depth: int, margin: int) -> tuple[int, Evidence] | None:
        """The slices of `wanted` that were not taken before and whose `margin` neighbours are known, and the first of
        them; forgets what nobody needs any more.
        """
        known = self._stop if self._complete or self._stop == depth else self._stop - margin
        first, stop = max(wanted.start, self._next), min(wanted.stop, known)
        if first >= stop:
            return None
        evidence = self._evidence(first, stop, depth, margin)
        self._next = stop
        keep = max(stop - margin, self._first)
        self._held = {name: tensor[keep - self._first :] for name, tensor in self._held.items()}
        self._first = keep
        if keep == self._stop:
            self._held = {}
        return first, evidence

    def _evidence(self, first: int, stop: int, depth: int, margin: int) -> Evidence:
        slices = slice(first - self._first, stop - self._first)
        found = {name: tensor[slices] for name, tensor in self._held.items()}
        if margin:
            p, last = self._held["probabilities"], min(self._stop, depth) - 1
            below = [max(z - 1, self._first) - self._first for z in range(first, stop)]
            above = [min(z + 1, last) - self._first for z in range(first, stop)]
            found |= {"before": p[below], "after": p[above]}
        return Evidence(**found)
