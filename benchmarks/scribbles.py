"""Strokes on a slice with no trained model at all: how long an answer takes, and how good it is.

usage: python -m benchmarks.scribbles [--part test|train] [--slices 20 82 144] [--repeats 5] [--network NAME]

Times: a slice of 1024 x 1024 voxels (EPFL's, continued by its mirror image), with 40 strokes, in this process: once at
level 0, where no voxels are averaged, and once at the working resolution of 10 nm, 512 x 512 pixels, at which the
platform serves it. Quality: someone paints 40 strokes on a slice, half of them on mitochondria, each one where the
answer to those before errs most (benchmarks/stroke.py): straight, at most 400 nm long, 40 nm wide. The IoU is that of
the whole slice at level 0. `--network` adds the same with the first layers of a shipped model as features; that model
learned from EPFL's training volume, so that this is no start from nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from biosegment_trainer.learning.bundle import read_bundle
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.normalisation import normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw
from biosegment_trainer.scribbles.segmentation import ScribbleSegmenter
from numpy.typing import NDArray

from benchmarks.report import Target, finish, print_header, print_samples
from benchmarks.stroke import paint
from biosegment.volume import BACKGROUND, FIRST_CLASS
from bundles.data import ROOT, Stack, epfl

WORKING_NM: Final = 10.0
LENGTH_NM, WIDTH_NM = 400.0, 40.0
STROKES: Final = 40
SHOWN: Final = (5, 10, 20, 40)
TARGET_IOU, TARGET_FIRST_S, TARGET_UPDATE_S = 0.5, 2.0, 1.0
EDGE: Final = 1024


@dataclass(frozen=True, slots=True)
class Slice:
    """What someone paints on.

    Attributes:
        image: float32 (1, y, x), normalised, at the pixels that are computed on.
        labels: uint8 (y, x), the truth at the same pixels.
        truth: bool (y, x) at level 0.
        factor: Voxels per pixel.
        nm: Edge of a pixel.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    factor: int
    nm: float

    @classmethod
    def of(cls, stack: Stack, nm: float) -> Slice:
        """Of a stack of one slice."""
        factor = stack.factor(nm)
        labels = np.where(stack.truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND))
        return cls(
            normalise(downsample_raw(stack.raw, factor), stack.statistics),
            downsample_labels(labels, factor)[0],
            stack.truth[0],
            factor,
            factor * stack.in_plane_nm,
        )

    @property
    def brush_px(self) -> tuple[float, float]:
        """Length and width of strokes."""
        return LENGTH_NM / self.nm, WIDTH_NM / self.nm

    def iou(self, labels: NDArray[np.uint8]) -> float:
        """Of labels at the pixels, at level 0."""
        rows, columns = (np.arange(size) // self.factor for size in self.truth.shape)
        found = labels[np.ix_(rows, columns)] == FIRST_CLASS
        return float((found & self.truth).sum() / (found | self.truth).sum())


def curve(shown: Slice, network: NetworkModel | None, threads: int) -> list[float]:
    """IoU after each of `SHOWN` strokes."""
    segmenter = ScribbleSegmenter(shallow=network, threads=threads)

    def answer(strokes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(segmenter.segment("slice", shown.image, strokes[None]).labels[0])

    states = list(paint(shown.labels, answer, STROKES, *shown.brush_px))
    return [shown.iou(labels) for number in SHOWN if (labels := states[number - 1][1]) is not None]


def squared(stack: Stack) -> Stack:
    """Continued by its mirror image to 1024 x 1024 voxels."""
    short = [(0, 0), *((0, max(0, EDGE - size)) for size in stack.raw.shape[1:])]
    return Stack(
        stack.name,
        np.pad(stack.raw, short, mode="symmetric"),
        np.pad(stack.truth, short, mode="symmetric"),
        stack.in_plane_nm,
    )


def times(shown: Slice, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of first answers, and of answers to one more stroke; processor seconds are printed beside."""
    states = list(paint(shown.labels, lambda _: shown.labels, STROKES, *shown.brush_px))
    strokes = [state[0][None] for state in states]
    first, update, spent = [], [], []
    for _ in range(repeats):
        segmenter = ScribbleSegmenter(threads=threads)
        started, processor = time.perf_counter(), time.process_time()
        segmenter.segment("slice", shown.image, strokes[-2])
        middle, processor_middle = time.perf_counter(), time.process_time()
        segmenter.segment("slice", shown.image, strokes[-1])
        first.append(middle - started)
        update.append(time.perf_counter() - middle)
        spent.append((processor_middle - processor, time.process_time() - processor_middle))
    print(
        f"processor seconds of first answers {' '.join(f'{a:.2f}' for a, _ in spent)}; "
        f"of updates {' '.join(f'{b:.2f}' for _, b in spent)}"
    )
    return first, update


def measure_times(stack: Stack, threads: int, repeats: int) -> list[Target]:
    """At level 0 and at the working resolution."""
    targets = []
    for nm, where in ((stack.in_plane_nm, "level 0"), (WORKING_NM, "working resolution, as served")):
        shown = Slice.of(squared(stack), nm)
        y, x = shown.labels.shape
        name = f"strokes on {y} x {x} pixels ({where})"
        first, update = times(shown, threads, repeats)
        targets += [
            Target(
                f"{name}, first answer",
                print_samples(f"{name}, first answer", first, "s"),
                "s",
                TARGET_FIRST_S,
            ),
            Target(
                f"{name}, one more stroke",
                print_samples(f"{name}, one more", update, "s"),
                "s",
                TARGET_UPDATE_S,
            ),
        ]
    return targets


def measure_quality(stacks: Sequence[Stack], network: NetworkModel | None, threads: int, label: str) -> float:
    """Print the table; mean IoU after all strokes."""
    print(f"IoU after {', '.join(map(str, SHOWN))} strokes, {label}")
    curves = []
    for stack in stacks:
        curves.append(curve(Slice.of(stack, WORKING_NM), network, threads))
        print(f"  {stack.name}: {' '.join(f'{value:.3f}' for value in curves[-1])}", flush=True)
    means = [float(np.mean(values)) for values in zip(*curves, strict=True)]
    print(f"  mean: {' '.join(f'{value:.3f}' for value in means)}")
    return means[-1]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["test", "train"], default="test")
    parser.add_argument("--slices", type=int, nargs="+", default=[20, 82, 144])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--network", default="", help="also with the first layers of a shipped model")
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--no-quality", action="store_true")
    options = parser.parse_args()
    print_header("scribbles")
    torch.set_num_threads(options.threads)
    stacks = [epfl(options.part, z, z + 1) for z in options.slices]
    targets = [] if options.no_times else measure_times(stacks[0], options.threads, options.repeats)
    if not options.no_quality:
        reached = measure_quality(stacks, None, options.threads, "no trained model at all")
        name = f"IoU of {STROKES} strokes on a slice of EPFL {options.part}, no trained model"
        targets.append(Target(name, reached, "", TARGET_IOU, at_most=False))
        if options.network:
            model = read_bundle(Path(ROOT) / "bundles" / options.network).model
            note = f"with features of {options.network}, which learned from EPFL's training volume"
            measure_quality(stacks, model, options.threads, note)
    return finish(targets)


if __name__ == "__main__":
    sys.exit(main())
