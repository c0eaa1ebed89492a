"""Boolean masks of a slice: what is connected, what is near, what a correction may replace."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def flood(seeds: Mask, within: Mask) -> Mask:
    """The parts of `within` that are connected, by edges, with a pixel of `seeds` in it; bool (y, x).

    Runs along the rows are the nodes of a graph, and runs that touch in neighbouring rows are linked: much less to walk
    through than pixels.
    """
    begins = within.copy()
    begins[:, 1:] &= ~within[:, :-1]
    run = (np.cumsum(begins.ravel(), dtype=np.int32).reshape(within.shape)) * within
    reached = np.zeros(int(run.max(initial=0)) + 1, bool)
    reached[run[seeds & within]] = True
    above, below = _links(run)
    while reached.any():
        spreads = reached[above] != reached[below]
        if not spreads.any():
            break
        reached[above[spreads]] = reached[below[spreads]] = True
    return reached[run] & within


def _links(run: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Numbers of runs that touch, (links,) each."""
    above, below = run[:-1], run[1:]
    first = (above > 0) & (below > 0)
    # Two runs touch along one stretch: its first column is enough.
    first[:, 1:] &= ~first[:, :-1]
    return above[first], below[first]


def dilated(mask: Mask, radius: int) -> Mask:
    """What lies within a square of `radius` pixels on each side of `mask`; bool (y, x)."""
    if radius < 1:
        return mask
    grown, edge = torch.from_numpy(mask)[None, None].float(), 2 * radius + 1
    # Rows, then columns: a square is the sum of two lines.
    grown = F.max_pool2d(grown, (edge, 1), 1, (radius, 0))
    grown = F.max_pool2d(grown, (1, edge), 1, (0, radius))
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
