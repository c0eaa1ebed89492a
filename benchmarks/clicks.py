"""Corrections with clicks: their time, how many are needed on a slice and for a whole object, and where they end.

usage: python -m benchmarks.clicks [time counts objects] [--on test|validation] [--model FOLDER] [--json FILE]

- time: one click on a mask, crop of 256 x 256 working pixels, alone and while a network is trained in another process.
  Beside it, in turn, a pass over a whole region of 768 x 1024 pixels as MONAI Label's DeepEdit makes for every click
  (A. Diaz-Pinto et al.: DeepEdit, 2023, arXiv 2305.10655), with a network of the same size: image and both kinds of
  clicks go in.
- counts: number of clicks (at most 20, as in RITM and FocalClick; the network sees all of them) until a region of
  256 x 256 working pixels reaches an IoU of 0.85: 50 regions that start at the prediction of
  `mitochondria_vem_segmentation` where that is worse, and 50 that start at 0.6 to 0.8 with `mitochondria_vem_general`.
  Beside it, on the same regions, corrections with a brush, without a slip: strokes of a disc of 5 working pixels'
  radius, each drawn once through the middle of the largest wrong component from end to end; and whole components, each
  painted over exactly, however many strokes that takes.
- objects: single mitochondria (components of the truth) from nothing, with clicks through the slices, in the box around
  the object with 32 working pixels and slices to spare: clicks to an IoU of 0.85, and how far the first click's answer
  reaches past the object's ends.

The person who clicks aims at the middle of the largest error. The last two parts need EPFL (bundles/data.py).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import torch
from biosegment_trainer.learning.clicks.refinement import Click, ClickModel, refine
from biosegment_trainer.learning.network import NetworkConfig
from monai.networks.nets import UNet
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.report import Target, finish, print_header, print_samples
from bundles.clicks import foreground
from bundles.data import ROOT, epfl
from bundles.interaction import (
    WorkingStack,
    brush_stroke,
    centre,
    filling_stroke,
    iou,
    largest_error,
    next_click,
)

Mask = NDArray[np.bool_]
Correct = Callable[[NDArray[np.float32], Mask, Mask, list[Click]], Mask]
"""From image, mask and truth of a region, and the clicks on it so far, which it may add to, to the next mask."""
PARTS = ("time", "counts", "objects")
MODEL = ROOT / "bundles" / "mitochondria_vem_clicks"
GOAL, MOST_CLICKS = 0.85, 20
REGIONS, REGION_PX, BRUSH_PX = 50, 256, 5
OBJECTS, MARGIN = 20, 32
LEAST_OBJECT = 4000
"""Working voxels of an object that is worth clicking on: 0.002 cubic micrometres."""
FAR = 10
"""Slices past the end of an object, 50 nm here, that somebody would notice."""
IDLE_MS, BUSY_MS = 300.0, 600.0


def train_until(stop: Event) -> None:
    """What another process does: steps of a training of the default network."""
    torch.set_num_threads(1)
    network = NetworkConfig().build(1)
    optimiser = torch.optim.AdamW(network.parameters())
    while not stop.is_set():
        optimiser.zero_grad()
        network(torch.randn(8, 1, 192, 192)).square().mean().backward()
        optimiser.step()


def time_part(model: ClickModel, repeats: int) -> list[Target]:
    """Milliseconds of a click and of a whole region, in turn."""
    rng = np.random.default_rng(0)
    slice_ = rng.standard_normal((1, 768, 1024), np.float32)
    previous = np.zeros(slice_.shape, np.uint8)
    for y, x in rng.integers(100, 650, (12, 2)):
        previous[0, y : y + 60, x : x + 40] = 1
    network = UNet(2, 3, 2, [16, 32, 64, 128, 256], [2, 2, 2, 2], num_res_units=2, norm="batch").eval()

    def click() -> None:
        y, x = (int(v) for v in rng.integers(0, (768, 1024)))
        refine(model, slice_, previous, [Click((0, y, x), True)])

    def crop() -> None:
        y, x = (int(v) for v in rng.integers(0, 256, 2))
        refine(model, slice_[:, :256, :256], previous[:, :256, :256], [Click((0, y, x), True)])

    def region() -> None:
        with torch.inference_mode():
            network(torch.from_numpy(np.concatenate([slice_, slice_, slice_])[None]))

    work = {
        "click in a crop": crop,
        "click in a slice of 768 x 1024": click,
        "whole region, 768 x 1024": region,
    }
    print(f"{torch.get_num_threads()} threads")
    found = {"alone": _median_ms(work, repeats, "alone")}
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    trainer = context.Process(target=train_until, args=(stop,))
    trainer.start()
    time.sleep(8)
    found["while training"] = _median_ms(work, repeats, "while training")
    stop.set()
    trainer.join()
    return [
        Target(f"click on a 256 x 256 crop, {when}, p50", found[when]["click in a crop"], "ms", bound)
        for when, bound in (("alone", IDLE_MS), ("while training", BUSY_MS))
    ]


def _median_ms(work: dict[str, Callable[[], None]], repeats: int, when: str) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repeats + 2):
        for name, job in work.items():
            begin = time.perf_counter()
            job()
            if number >= 2:
                samples[name].append(1e3 * (time.perf_counter() - begin))
    return {name: print_samples(f"{name}, {when}", values, "ms") for name, values in samples.items()}


class Regions:
    """Regions of a stack with a prediction to start at."""

    def __init__(self, stack: WorkingStack, start: Mask, low: float, high: float) -> None:
        rng = np.random.default_rng(0)
        depth, *edges = stack.truth.shape
        self.boxes: list[tuple[int, slice, slice]] = []
        self.drawn = 0
        while len(self.boxes) < REGIONS and self.drawn < 40 * depth:
            z = int(rng.permutation(depth)[0])
            y, x = (int(rng.integers(0, edge - REGION_PX + 1)) for edge in edges)
            box = (z, slice(y, y + REGION_PX), slice(x, x + REGION_PX))
            self.drawn += 1
            truth = stack.truth[box]
            if truth.mean() > 0.01 and low <= iou(start[box], truth) < high:
                self.boxes.append(box)
        self._stack, self._start = stack, start

    @property
    def starts(self) -> list[float]:
        """Their IoU."""
        return [iou(self._start[box], self._stack.truth[box]) for box in self.boxes]

    def counts(self, correct: Correct) -> list[int]:
        """Corrections until the goal is reached, MOST_CLICKS + 1 for never."""
        found = []
        for box in self.boxes:
            image, truth, mask = self._stack.image[box], self._stack.truth[box], self._start[box].copy()
            clicks: list[Click] = []
            for number in range(1, MOST_CLICKS + 1):
                mask = correct(image, mask, truth, clicks)
                if iou(mask, truth) >= GOAL:
                    found.append(number)
                    break
            else:
                found.append(MOST_CLICKS + 1)
        return found


def counts_part(model: ClickModel, stack: WorkingStack) -> list[Target]:
    """The table of numbers of clicks."""

    def click(image: NDArray[np.float32], mask: Mask, truth: Mask, clicks: list[Click]) -> Mask:
        found = next_click(mask, truth)
        if found is None:
            return mask
        (y, x), is_positive = found
        clicks.append(Click((0, y, x), is_positive))
        answer = refine(model, image[None], mask[None].astype(np.uint8), clicks)
        return np.asarray(answer.mask[0] > 0)

    corrections: dict[str, Correct] = {
        "clicks": click,
        f"strokes, radius {BRUSH_PX} px": lambda image, mask, truth, _: brush_stroke(mask, truth, BRUSH_PX),
        "components painted over": lambda image, mask, truth, _: filling_stroke(mask, truth),
    }
    targets = []
    rows = [
        f"| start on {stack.name} | IoU | correction | median to {GOAL} | mean | reached in 20 |",
        "|---|---|---|---|---|---|",
    ]
    for name, low, high in (
        ("mitochondria_vem_segmentation", 0.0, GOAL),
        ("mitochondria_vem_general", 0.6, 0.8),
    ):
        regions = Regions(stack, foreground(name, stack.image) >= 0.5, low, high)
        print(f"{name}: {len(regions.boxes)} of {regions.drawn} regions drawn start at {low} to {high}")
        before = print_samples("IoU at the start", regions.starts, "")
        for what, correct in corrections.items():
            counts = regions.counts(correct)
            median = print_samples(f"number of {what} from {name}", counts, "")
            reached = sum(n <= MOST_CLICKS for n in counts) / len(counts)
            mean = float(np.mean(np.minimum(counts, MOST_CLICKS)))
            rows.append(f"| {name} | {before:.2f} | {what} | {median:g} | {mean:.2f} | {reached:.0%} |")
            if what == "clicks":
                clicks = median
                share = f"share of regions that reach {GOAL} in {MOST_CLICKS} clicks, from {name}"
                targets.append(Target(share, reached, "", 0.9, at_most=False))
            elif what != "components painted over":
                versus = f"median clicks to {GOAL} from {name} (target: that of strokes)"
                targets.append(Target(versus, clicks, "", median))
    print("\n".join(rows))
    return targets


def objects_part(model: ClickModel, stack: WorkingStack, count: int) -> list[Target]:
    """Whole objects with clicks through the slices."""
    numbers, total = ndimage.label(stack.truth)
    sizes = np.bincount(numbers.ravel(), minlength=total + 1)
    large = np.flatnonzero(sizes >= LEAST_OBJECT)[1:]
    chosen = np.random.default_rng(0).permutation(large)[:count]
    boxes = ndimage.find_objects(numbers)
    clicks, first, past, seconds = [], [], [], []
    for number in chosen:
        box = tuple(
            slice(max(0, part.start - MARGIN), min(size, part.stop + MARGIN))
            for part, size in zip(boxes[number - 1], stack.truth.shape, strict=True)
        )
        one = OneObject(model, stack.image[box], numbers[box] == number)
        one.click_until_goal()
        clicks.append(one.needed)
        first.append(one.ious[0])
        past += one.past_ends
        seconds.append(one.seconds / len(one.ious))
        print(
            f"object {number}: {sizes[number]} voxels, IoU by click {' '.join(f'{i:.2f}' for i in one.ious)}",
            flush=True,
        )
    median = print_samples(f"clicks to {GOAL} for a whole object", clicks, "")
    print_samples("IoU after the first click", first, "")
    if past:
        print_samples("slices past an end of the object, first click", past, "")
    print_samples("seconds for a click", seconds, "s")
    reached = sum(n <= MOST_CLICKS for n in clicks) / len(clicks)
    return [
        Target(f"median clicks to {GOAL} for whole objects", median, "", 5),
        Target(
            f"share of objects that reach {GOAL} in {MOST_CLICKS} clicks", reached, "", 0.9, at_most=False
        ),
        Target(
            f"share of ends that the first click's answer overruns by more than {FAR} slices",
            float(np.mean(np.array(past or [0]) > FAR)),
            "",
            0.1,
        ),
    ]


class OneObject:
    """An object in its box, and somebody who clicks until it is right."""

    def __init__(self, model: ClickModel, image: NDArray[np.float32], truth: Mask) -> None:
        self._model, self._image, self._truth = model, np.ascontiguousarray(image), truth
        self.ious: list[float] = []
        self.past_ends: list[int] = []
        self.needed = MOST_CLICKS + 1
        self.seconds = 0.0

    def click_until_goal(self) -> None:
        """At most MOST_CLICKS clicks, each through the slices, on what the others led to."""
        mask, clicks = np.zeros(self._truth.shape, np.uint8), list[Click]()
        for number in range(1, MOST_CLICKS + 1):
            place = centre(largest_error(mask > 0, self._truth))
            clicks.append(Click((place[0], place[1], place[2]), bool(self._truth[place])))
            begin = time.perf_counter()
            mask = refine(self._model, self._image, mask, clicks, through=True).mask
            self.seconds += time.perf_counter() - begin
            self.ious.append(iou(mask > 0, self._truth))
            if number == 1:
                self.past_ends = _past_ends(mask > 0, self._truth)
            if self.ious[-1] >= GOAL:
                self.needed = number
                return


def _past_ends(mask: Mask, truth: Mask) -> list[int]:
    """Slices that the answer reaches beyond each end of the object that is not the end of the box too."""
    there, wanted = np.flatnonzero(mask.any((1, 2))), np.flatnonzero(truth.any((1, 2)))
    if not len(there):
        return []
    found = []
    if wanted[0] > 0:
        found.append(max(0, int(wanted[0] - there[0])))
    if wanted[-1] < len(truth) - 1:
        found.append(max(0, int(there[-1] - wanted[-1])))
    return found


def main() -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="some parts; all by default")
    parser.add_argument("--on", choices=("test", "validation"), default="test")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of the bundle")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts: Sequence[str] = options.parts or PARTS
    print_header("clicks")
    model = ClickModel.read(options.model)
    targets: list[Target] = []
    if "time" in parts:
        targets += time_part(model, options.repeats)
    if "counts" in parts or "objects" in parts:
        chosen = epfl("test") if options.on == "test" else epfl("train", 149, 165)
        stack = WorkingStack.of(chosen)
        if "counts" in parts:
            targets += counts_part(model, stack)
        if "objects" in parts:
            targets += objects_part(model, stack, options.objects)
    return finish(targets, options.json)


if __name__ == "__main__":
    sys.exit(main())
