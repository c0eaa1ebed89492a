"""Does a network of another lab help? Four families of MONAI in 2D and 3D, fine-tuned and from scratch.

usage: python -m benchmarks.families [NAME ...] [--steps 80] [--donor-steps 200] [--seeds 2] [--edge VOXELS]

A donor learns another target on other tissue, at another voxel size and with other channels: the membranes of VNC
at 18.4 nm per pixel, in 2D from three neighbouring sections. A child takes over its weights, but for the head and
the surplus inputs, and learns mitochondria from a few annotations of EPFL at 10 nm from one slice; the same network
with random weights does the same number of steps. Foreground IoU on slices 149 to 164 of EPFL's training volume, at
full resolution; `--edge` takes the middle of them alone, for a network that would predict for half an hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel, inherited_weights
from biosegment_trainer.learning.training import TrainingConfig, train
from biosegment_trainer.learning.validation import ValidationConfig

from benchmarks.report import Target, finish, print_header
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region
from bundles.data import MITOCHONDRIA, Stack, epfl, vnc
from bundles.evaluation import iou

MEMBRANE = LabelClass(FIRST_CLASS, "membrane")
DONOR_NM, CHILD_NM = 18.4, 10.0
ANNOTATED = {2: (1, 128, 128), 3: (16, 128, 128)}
ANNOTATIONS = {2: 20, 3: 6}

SMALL: dict[str, dict[str, Any]] = {
    "UNet": {"channels": (8, 16, 32, 64), "strides": (2, 2, 2), "num_res_units": 2},
    "SegResNet": {"init_filters": 8, "blocks_down": (1, 2, 2), "blocks_up": (1, 1)},
    "DynUNet": {
        "kernel_size": (3, 3, 3, 3),
        "strides": (1, 2, 2, 2),
        "upsample_kernel_size": (2, 2, 2),
        "filters": (8, 16, 32, 64),
    },
    "SwinUNETR": {"feature_size": 12, "depths": (1, 1, 1, 1)},
}
NETWORKS = {
    f"{family} {dims}D": NetworkConfig(family, dims, 3 if dims == 2 else 1, arguments)
    for dims in (2, 3)
    for family, arguments in SMALL.items()
}


def config(network: NetworkConfig, steps: int) -> TrainingConfig:
    """The same for everybody."""
    flat = network.spatial_dims == 2
    return TrainingConfig(
        network=network,
        steps=steps,
        batch_size=8 if flat else 2,
        patch_size=64,
        patch_depth=32 if network.family == "SwinUNETR" else 16,
        validation=ValidationConfig(fraction=0.0),
    )


def donated(network: NetworkConfig, steps: int) -> NetworkModel:
    """A donor for `network`."""
    stack = vnc(0, 20, "membranes")
    return train(config(network, steps), [stack.annotated(DONOR_NM)], None, classes=[MEMBRANE], seed=0).model


def taken_over(donor: NetworkModel) -> NetworkModel:
    """The donor with one input slice."""
    network = dataclasses.replace(donor.network, input_slices=1)
    fresh = network.build(len(donor.classes)).state_dict()
    return NetworkModel(network, donor.classes, inherited_weights(donor, donor.classes, fresh))


def annotated(stack: Stack, dims: int, seed: int) -> list[AnnotatedRegion]:
    """Boxes at random, all of which show some mitochondrion, with the image around them."""
    rng = np.random.default_rng(seed)
    shape, whole = ANNOTATED[dims], Region(Index(0, 0, 0), Index(*stack.raw.shape))
    statistics_of_slices = stack.statistics
    found: list[AnnotatedRegion] = []
    while len(found) < ANNOTATIONS[dims]:
        start = Index(
            *(2 * int(rng.integers(0, (n - p) // 2 + 1)) for n, p in zip(whole.stop, shape, strict=True))
        )
        region = Region.of_shape(shape, start)
        truth = stack.truth[region.slices]
        if not truth.any():
            continue
        context = region.padded((0, 64, 64), whole)
        found.append(
            AnnotatedRegion(
                region_id=str(start),
                volume_id=stack.name,
                region=region,
                context=context,
                raw=stack.raw[context.slices],
                labels=np.where(truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND)),
                scope=frozenset({FIRST_CLASS}),
                statistics=statistics_of_slices[context.start.z : context.stop.z],
                factor=stack.factor(CHILD_NM),
            )
        )
    return found


def middle(stack: Stack, edge: int) -> Stack:
    """A square of each slice."""
    y, x = (slice((n - edge) // 2, (n - edge) // 2 + edge) for n in stack.raw.shape[1:])
    return dataclasses.replace(
        stack, name=f"{stack.name}, middle", raw=stack.raw[:, y, x], truth=stack.truth[:, y, x]
    )


def compare(name: str, options: argparse.Namespace, stack: Stack, held_out: Stack) -> Target:
    """One row."""
    begin, network = time.process_time(), NETWORKS[name]
    parent = taken_over(donated(network, options.donor_steps))
    tuned: list[float] = []
    scratch: list[float] = []
    for seed in range(options.seeds):
        examples = annotated(stack, network.spatial_dims, seed)
        for samples, start in ((tuned, parent), (scratch, None)):
            run = config(parent.network, options.steps)
            model = train(run, examples, start, classes=[MITOCHONDRIA], seed=seed).model
            samples.append(iou(model, held_out))
    spent = time.process_time() - begin
    print(
        f"{name}: fine-tuned {' '.join(f'{x:.3f}' for x in tuned)}, "
        f"from scratch {' '.join(f'{x:.3f}' for x in scratch)} ({spent:.0f} processor seconds)",
        flush=True,
    )
    gain = statistics.mean(tuned) - statistics.mean(scratch)
    means = f"{statistics.mean(tuned):.3f} against {statistics.mean(scratch):.3f}"
    return Target(f"{name}, fine-tuned against from scratch: {means}", gain, "IoU", 0.0, at_most=False)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)}; all by default")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--donor-steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--edge", type=int, help="of what is predicted, in voxels; all by default")
    options = parser.parse_args()
    print_header("families")
    print(f"threads: {torch.get_num_threads()}")
    stack, held_out = epfl("train", 0, 145), epfl("train", 149, 165)
    if options.edge:
        held_out = middle(held_out, options.edge)
    return finish([compare(name, options, stack, held_out) for name in options.names or NETWORKS])


if __name__ == "__main__":
    sys.exit(main())
