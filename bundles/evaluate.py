"""Measures a shipped model: `python -m bundles.evaluate NAME`.

The complete EPFL test volume and sections 10 to 19 of VNC, unless `--on` says otherwise.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from biosegment_trainer.learning.bundle import read_bundle
from biosegment_trainer.learning.network import NetworkModel

from bundles.data import ROOT, Stack, epfl, vnc
from bundles.evaluation import iou

SETS = {
    "validation": lambda: [epfl("train", 149, 165)],
    "epfl": lambda: [epfl("test")],
    "vnc": lambda: [vnc(10, 20)],
    "vnc_all": lambda: [vnc(0, 20)],
}


def main() -> None:
    """Print one line per stack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="a bundle below bundles/, or the path of one")
    parser.add_argument("--on", nargs="+", choices=sorted(SETS), default=["epfl", "vnc"])
    arguments = parser.parse_args()
    path = Path(arguments.name)
    model = read_bundle(path if path.is_dir() else ROOT / "bundles" / arguments.name).model
    for name in arguments.on:
        for stack in SETS[name]():
            measure(model, stack)


def measure(model: NetworkModel, stack: Stack) -> float:
    """Print and return the IoU."""
    begin = time.process_time()
    found = iou(model, stack)
    spent = time.process_time() - begin
    print(f"{stack.name:60} foreground IoU {found:.3f}   ({spent:.0f} processor seconds)", flush=True)
    return found


if __name__ == "__main__":
    main()
