"""Boolean masks of a slice: what is connected, what is near, what a correction may replace."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def flood(seeds: Mask, within: Mask) -> Mask:
    """The parts of `within` that are connected, by edges, with a pixel of `seeds` in it; bool (y, x).

    Whole runs along the rows, then along the columns, are filled in turn until nothing is added: a compact object takes
    a few turns.
    """
    reached, across = seeds & within, np.ascontiguousarray(within.T)
    count = int(reached.sum())
    while count:
        reached = _runs(reached, within)
        reached = np.ascontiguousarray(_runs(np.ascontiguousarray(reached.T), across).T)
        before, count = count, int(reached.sum())
        if count == before:
            break
    return reached


def _runs(seeds: Mask, within: Mask) -> Mask:
    """The runs along the last axis of `within` that hold a seed."""
    begins = within.copy()
    begins[:, 1:] &= ~within[:, :-1]
    number = np.cumsum(begins.ravel())
    hit = np.zeros(number[-1] + 1, bool)
    hit[number[seeds.ravel()]] = True
    return within & hit[number].reshape(within.shape)


def dilated(mask: Mask, radius: int) -> Mask:
    """What lies within a square of `radius` pixels on each side of `mask`; bool (y, x)."""
    if radius < 1:
        return mask
    grown = F.max_pool2d(torch.from_numpy(mask)[None, None].float(), 2 * radius + 1, 1, radius)
    return grown[0, 0].numpy() > 0.5


def merged(previous: Mask, answer: Mask, seeds: Mask) -> tuple[Mask, Mask]:
    """The mask before, with the objects that were meant replaced by what the network says of them.

    FocalClick's progressive merge (X. Chen, Z. Zhao, Y. Zhang, M. Duan, D. Qi, H. Zhao: FocalClick: Towards Practical
    Interactive Image Segmentation. CVPR 2022, arXiv 2204.02574) takes over the one connected difference that was
    clicked on. Here it is all of the object, before and after, so that one click corrects the whole outline.

    Args:
        previous: bool (y, x).
        answer: Of the network, bool (y, x).
        seeds: Pixels of the objects that are meant, bool (y, x).

    Returns:
        The new mask and where it may differ from the one before, bool (y, x) each.
    """
    meant = flood(seeds, previous | answer)
    return np.where(meant, answer, previous), meant
