"""Does a model travel? `python -m bundles.travel NAME`: other voxel sizes, contrast, blur, noise, tile seams.

On the validation slab of EPFL train, which the model was not trained on. Whether it also travels to tissue that it has
never seen is asked with models of one data set alone, which have recipes of their own (`without_epfl`, and
`mitochondria_vem_segmentation`, which is without VNC): give their weights with `--weights`, the other set with `--on`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from biosegment_trainer.learning.bundle import read_bundle
from biosegment_trainer.learning.network import NetworkConfig, NetworkModel

from bundles.data import MITOCHONDRIA, ROOT, epfl
from bundles.evaluate import SETS, measure
from bundles.evaluation import CHANGES


def main() -> None:
    """Print one line per change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="a bundle below bundles/")
    parser.add_argument(
        "--weights", type=Path, help="weights that bundles.train left, of the default network"
    )
    parser.add_argument("--on", nargs="*", choices=sorted(SETS), default=[], help="as they are, unchanged")
    arguments = parser.parse_args()
    if arguments.weights:
        weights = torch.load(arguments.weights, weights_only=True)
        model = NetworkModel(NetworkConfig(), (MITOCHONDRIA,), weights)
    else:
        model = read_bundle(ROOT / "bundles" / arguments.name).model
    if arguments.on:
        for name in arguments.on:
            for stack in SETS[name]():
                measure(model, stack)
        return
    validation = epfl("train", 149, 165)
    measure(model, validation)
    for change in CHANGES:
        measure(model, change.applied(validation))


if __name__ == "__main__":
    main()
