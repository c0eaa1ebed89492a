"""Does pretraining on raw voxels help, and does agreement with an averaged teacher, when little is annotated?

usage: python -m benchmarks.pretraining [--pretrain-steps 600] [--steps 300] [--seeds 3] [--patches 20 40]
                                        [--consistency 1.0] [--fresh]

EPFL's training volume at 10 nm per pixel. A network is pretrained on the raw voxels of slices 0 to 144; 20 and 40
patches of 64 x 64 working pixels of the same slices are annotated, half of them with mitochondria, and a network
learns from them: from random weights, from the pretrained ones, and from random weights with the consistency term.
Foreground IoU on slices 149 to 164, every fourth, at full resolution. What was measured is kept in build/benchmarks
and not measured again with the same settings, unless `--fresh` says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.pretraining import MaskConfig, RawVolume, pretrain
from biosegment_trainer.learning.training import TrainingConfig, train
from biosegment_trainer.learning.validation import ValidationConfig

from benchmarks.report import Target, finish, print_header
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region
from bundles.data import MITOCHONDRIA, ROOT, Stack, epfl
from bundles.evaluation import iou

WORKING_NM = 10.0
STORE = ROOT / "build" / "benchmarks" / "pretraining"
CONFIG = TrainingConfig(validation=ValidationConfig(fraction=0.0))


def annotated(stack: Stack, count: int, seed: int) -> list[AnnotatedRegion]:
    """Patches of 64 x 64 working pixels at random, every other one with some mitochondrion."""
    rng = np.random.default_rng(seed)
    factor, whole = stack.factor(WORKING_NM), Region(Index(0, 0, 0), Index(*stack.raw.shape))
    edge, normal = 64 * factor, stack.statistics
    found: list[AnnotatedRegion] = []
    while len(found) < count:
        y, x = (factor * int(rng.integers(0, (n - edge) // factor + 1)) for n in stack.raw.shape[1:])
        region = Region.of_shape((1, edge, edge), Index(int(rng.integers(stack.raw.shape[0])), y, x))
        truth = stack.truth[region.slices]
        if bool(truth.any()) != (len(found) % 2 == 0):
            continue
        margin = CONFIG.patch_size * factor // 2
        context = region.padded((0, margin, margin), whole)
        found.append(
            AnnotatedRegion(
                region_id=str(region),
                volume_id=stack.name,
                region=region,
                context=context,
                raw=stack.raw[context.slices],
                labels=np.where(truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND)),
                scope=frozenset({FIRST_CLASS}),
                statistics=normal[region.start.z : region.stop.z],
                factor=factor,
            )
        )
    return found


def pretrained(stack: Stack, steps: int) -> NetworkModel:
    """The parent, made once; a run that was stopped goes on where it was."""
    STORE.mkdir(parents=True, exist_ok=True)
    weights, state = STORE / f"parent-{steps}.pt", STORE / f"parent-{steps}.checkpoint.pt"
    config = dataclasses.replace(CONFIG, steps=steps)
    if weights.exists():
        return NetworkModel(config.network, (), torch.load(weights, weights_only=True))
    volume = RawVolume(
        lambda region: stack.raw[region.slices], stack.raw.shape, stack.statistics, stack.factor(WORKING_NM)
    )
    resume: Any = torch.load(state, weights_only=True) if state.exists() else None
    begin = time.process_time()
    found = pretrain(
        config,
        MaskConfig(),
        [volume],
        seed=0,
        resume_from=resume,
        on_checkpoint=lambda checkpoint: torch.save(checkpoint, state),
    )
    torch.save(found.model.weights, weights)
    spent = time.process_time() - begin
    print(
        f"pretrained {steps} steps, loss {found.final_loss:.3f} ({spent:.0f} processor seconds)", flush=True
    )
    return found.model


def reached(
    config: TrainingConfig,
    start: NetworkModel | None,
    stack: Stack,
    held_out: Stack,
    count: int,
    seed: int,
) -> float:
    """IoU of one training."""
    examples = annotated(stack, count, seed)
    return iou(train(config, examples, start, classes=[MITOCHONDRIA], seed=seed).model, held_out)


class Ledger:
    """Figures by settings, kept in a file."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path.exists() and not fresh else {}

    def get(self, key: str, measure: Callable[[], float]) -> float:
        """The figure, measured if it is new."""
        if key not in self._known:
            self._known[key] = measure()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._known, indent=1))
        return self._known[key]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pretrain-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patches", type=int, nargs="+", default=[20, 40])
    parser.add_argument("--consistency", type=float, default=1.0)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    print_header("pretraining")
    print(f"threads: {torch.get_num_threads()}")
    stack, held_out = epfl("train", 0, 145), epfl("train", 149, 165)
    held_out = dataclasses.replace(held_out, raw=held_out.raw[::4], truth=held_out.truth[::4])
    ledger = Ledger(STORE / "figures.json", options.fresh)
    parent = pretrained(stack, options.pretrain_steps)
    starts: dict[str, tuple[NetworkModel | None, float]] = {
        "from scratch": (None, 0.0),
        f"pretrained {options.pretrain_steps} steps": (parent, 0.0),
        f"with consistency {options.consistency:g}": (None, options.consistency),
    }
    targets = []
    print(f"{'patches':>8}  {'start':32}  IoU of seeds 0 to {options.seeds - 1}; mean")
    for count in options.patches:
        means: dict[str, float] = {}
        for name, (start, weight) in starts.items():
            config = dataclasses.replace(CONFIG, steps=options.steps, consistency=weight)

            figures = []
            for seed in range(options.seeds):
                key = f"{name}; {count} patches; {options.steps} steps; seed {seed}"
                figures.append(ledger.get(key, partial(reached, config, start, stack, held_out, count, seed)))
            means[name] = statistics.mean(figures)
            print(
                f"{count:8}  {name:32}  {' '.join(f'{x:.3f}' for x in figures)}; {means[name]:.3f}",
                flush=True,
            )
        scratch = means.pop("from scratch")
        targets += [
            Target(f"{count} patches, {name} against from scratch", mean - scratch, "IoU", 0.0, at_most=False)
            for name, mean in means.items()
        ]
    return finish(targets)


if __name__ == "__main__":
    sys.exit(main())
