"""Which norm suits networks that learn from few patches and predict block by block?

usage: python -m benchmarks.norms [--steps 300] [--seeds 3] [--patches 10 20 40]

The default network from random weights, with batch, instance and group norm, on patches of EPFL's training volume as in
`benchmarks.pretraining`; foreground IoU on slices 149 to 164, every fourth, at full resolution. Then a slice of them is
predicted in tiles of 128 working pixels and in one pass: mean difference of the probabilities within 8 pixels of the
tiles' borders, and elsewhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from typing import Final

import numpy as np
import torch
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from biosegment_trainer.learning.tiling import TilingConfig
from biosegment_trainer.learning.training import train
from numpy.typing import NDArray

from benchmarks.pretraining import CONFIG, WORKING_NM, annotated
from benchmarks.report import Target, finish, print_header
from biosegment.volume import Index, Region
from bundles.data import MITOCHONDRIA, Stack, epfl
from bundles.evaluation import iou

NORMS: Final = {"batch": "batch", "instance": "instance", "group": ["group", {"num_groups": 2}]}
"""The last norm of MONAI's residual U-Net has two channels, and so at most two groups."""
TILE, BESIDE = 128, 8
SEAM: Final = 1e-3
"""Mean difference that must not be seen."""


def predicted(model: NetworkModel, stack: Stack, tile: int) -> NDArray[np.float32]:
    """Probability of the foreground in the first slice at the working resolution, in tiles of so many pixels."""
    shape = Index(1, *stack.raw.shape[1:])
    config = PredictionConfig(
        factor=stack.factor(WORKING_NM),
        tiling=TilingConfig.flat(tile, model.network.halo[1]),
        measures=(),
        with_labels=False,
        backend="eager",
    )
    region = Region(Index(0, 0, 0), shape)
    found = predict_block(
        model, lambda part: stack.raw[part.slices], region, shape, stack.statistics[:1], config, "cpu"
    )
    probability: NDArray[np.float32] = found.probabilities[-1, 0].astype(np.float32) / np.float32(255)
    return probability


def seams(model: NetworkModel, stack: Stack) -> tuple[float, float]:
    """Mean difference to one pass beside the borders of tiles, and elsewhere."""
    difference = np.abs(predicted(model, stack, TILE) - predicted(model, stack, 1024))
    offsets = [np.arange(size) for size in difference.shape]
    # Borders of tiles, not those of the slice.
    near = [
        (np.minimum(at % TILE, TILE - 1 - at % TILE) < BESIDE) & (at >= BESIDE) & (at < len(at) - BESIDE)
        for at in offsets
    ]
    beside = near[0][:, None] | near[1]
    return float(difference[beside].mean()), float(difference[~beside].mean())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patches", type=int, nargs="+", default=[10, 20, 40])
    options = parser.parse_args()
    print_header("norms")
    print(f"threads: {torch.get_num_threads()}")
    stack, held_out = epfl("train", 0, 145), epfl("train", 149, 165)
    held_out = dataclasses.replace(held_out, raw=held_out.raw[::4], truth=held_out.truth[::4])
    means: dict[str, dict[int, float]] = {}
    found: dict[str, tuple[float, float]] = {}
    for name, norm in NORMS.items():
        network = CONFIG.network.with_arguments(norm=norm)
        config = dataclasses.replace(CONFIG, network=network, steps=options.steps)
        for count in options.patches:
            figures = []
            for seed in range(options.seeds):
                examples = annotated(stack, count, seed)
                model = train(config, examples, None, classes=[MITOCHONDRIA], seed=seed).model
                figures.append(iou(model, held_out))
            means.setdefault(name, {})[count] = statistics.mean(figures)
            samples = " ".join(f"{figure:.3f}" for figure in figures)
            print(f"{name}, {count} patches: {samples}; mean {means[name][count]:.3f}", flush=True)
        found[name] = seams(model, held_out)
        beside, elsewhere = found[name]
        print(
            f"{name}, difference to one pass: {beside:.1e} beside borders, {elsewhere:.1e} elsewhere",
            flush=True,
        )
    targets = [
        Target(
            f"{count} patches, batch norm against the best of the others",
            means["batch"][count] - max(means[name][count] for name in NORMS if name != "batch"),
            "IoU",
            0.0,
            at_most=False,
        )
        for count in options.patches
    ]
    beside, elsewhere = found["batch"]
    targets.append(Target("batch norm, mean difference to one pass beside borders", beside, "", SEAM))
    targets.append(Target("... and no larger than elsewhere", beside, "", elsewhere))
    return finish(targets)


if __name__ == "__main__":
    sys.exit(main())
