"""What is annotated, and what the reported figures are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from biosegment.synthetic import generate
from bundles.data import Stack, epfl, vnc


@dataclass(frozen=True, slots=True)
class Tissue:
    """A pool and a test stack of one data set.

    Attributes:
        pool: What samples come from; its truth is the annotator.
        test: Only for the reported IoU.
        parent: What the parent of a run was trained on: another data set.
        slice_distance: Picks that overlap in plane lie so many slices of the pool apart: by the platform's default 4 of
            the volume.
        working_nm: Edge of a working pixel.
    """

    pool: Stack
    test: Stack
    parent: Callable[[], Stack]
    slice_distance: int = 4
    working_nm: float = 10.0


def thinned(stack: Stack, step: int) -> Stack:
    """Every `step`-th slice: neighbours show nearly the same, and cost as much."""
    return replace(
        stack,
        name=f"{stack.name}, every {step}th",
        raw=np.ascontiguousarray(stack.raw[::step]),
        truth=np.ascontiguousarray(stack.truth[::step]),
    )


def _synthetic() -> Tissue:
    stacks = []
    for seed in (0, 1, 2):
        raw, mask = generate((8, 192, 192), seed)
        stacks.append(Stack(f"synthetic {seed}", raw, mask > 0, 10.0))
    return Tissue(stacks[0], stacks[1], lambda: stacks[2])


TISSUES: Final[dict[str, Callable[[], Tissue]]] = {
    "epfl": lambda: Tissue(thinned(epfl("train"), 5), thinned(epfl("test"), 10), lambda: vnc(0, 10), 1),
    "vnc": lambda: Tissue(vnc(0, 10), vnc(10, 20), lambda: thinned(epfl("train"), 5)),
    # Settings are chosen on these: nothing of a test stack is in them, and slices between are left out.
    "epfl-validation": lambda: Tissue(
        thinned(epfl("train", 0, 145), 5), thinned(epfl("train", 149, 165), 4), lambda: vnc(0, 10), 1
    ),
    "vnc-validation": lambda: Tissue(vnc(0, 7), vnc(8, 10), lambda: thinned(epfl("train"), 5)),
    # Tries the benchmark without data; says nothing of real tissue.
    "synthetic": _synthetic,
}
