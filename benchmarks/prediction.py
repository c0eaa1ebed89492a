"""Prediction of a whole slice on a CPU against the network alone and against MONAI.

usage: python -m benchmarks.prediction [--edge 3072] [--repeats 5] [--json FILE]

One slice of uint8 voxels at half of the working pixel, with the default network; one thread, process CPU time, so that
waiting for others does not count. In every repeat all of them run one after the other, and ratios are taken within it:

- the network: the back end that the prediction uses, on the same tiles without overlap; nothing but the forward pass
- MONAI: `sliding_window_inference` with the same tile, overlap 0.25 and Gaussian weights, plain PyTorch, in a process
  of its own that knows nothing of ours; its input is already downsampled and normalised, and nothing is made of its
  logits
- prediction: from raw voxels to uint8 probabilities and labels at full resolution, without score maps
- all measures: the same with every score map that one pass gives
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from biosegment_trainer.learning.backend import open_backend
from biosegment_trainer.learning.frame import default_tiling
from biosegment_trainer.learning.measures import MEASURES
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor
from biosegment_trainer.learning.probe import Probe, Wanted, example_of, fold_norms
from biosegment_trainer.learning.slab import working_slices
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.volume import Region

FACTOR = 2
OF_NETWORK, OF_MONAI, OF_MONAI_ACCELERATED, OF_PREDICTION = 0.75, 1.15, 2.0, 1.15
ONE_PASS = tuple(name for name, measure in MEASURES.items() if not measure.needs_passes)


class Slice:
    """A synthetic slice and what is done with it.

    Args:
        edge: Of the slice, working pixels.
    """

    def __init__(self, edge: int) -> None:
        rng = np.random.default_rng(0)
        self.raw: NDArray[np.uint8] = rng.integers(0, 255, (1, edge * FACTOR, edge * FACTOR)).astype(np.uint8)
        self.statistics = SliceStatistics.of_slices(self.raw)
        torch.manual_seed(0)
        network = NetworkConfig()
        self.model = NetworkModel(network, (LabelClass(2, "object"),), network.build(1).state_dict())
        self.tile = default_tiling([self.model], FACTOR).tile[1]
        self.image = torch.from_numpy(working_slices(self.raw, FACTOR, self.statistics)[0])[None, None]

    def network_alone(self, backend: str) -> Callable[[], None]:
        """The forward pass on the tiles, of which the last ones are as small as the prediction's."""
        network = fold_norms(self.model.build())
        run = open_backend(
            Probe(network, self.model.network, Wanted()),
            backend,
            torch.device("cpu"),
            example_of(self.model.network, torch.device("cpu")),
        )
        starts = range(0, self.image.shape[-1], self.tile)
        tiles = [
            self.image[..., y : y + self.tile, x : x + self.tile].contiguous() for y in starts for x in starts
        ]

        def forward() -> None:
            for tile in tiles:
                run(tile)

        return forward

    def monai(self) -> Callable[[], None]:
        """MONAI's sliding window."""
        network = self.model.build()

        def slide() -> None:
            with torch.inference_mode():
                sliding_window_inference(self.image, self.tile, 1, network, 0.25, mode="gaussian")

        return slide

    def prediction(self, backend: str, measures: tuple[str, ...]) -> Callable[[], None]:
        """The platform's prediction."""
        config = PredictionConfig(factor=FACTOR, measures=measures, backend=backend)
        predictor = Predictor(self.model, config, "cpu")
        whole = Region.of_shape(self.raw.shape)

        def predict() -> None:
            for _ in predictor.predict(lambda r: self.raw[r.slices], whole, self.raw.shape, self.statistics):
                pass

        return predict


def cpu_seconds(work: Callable[[], None]) -> float:
    """Of this process, all threads."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def slide_when_asked(edge: int, pipe: Connection) -> None:
    """MONAI's process: answers every request with the seconds that it took."""
    torch.set_num_threads(1)
    slide = Slice(edge).monai()
    while pipe.recv():
        pipe.send(cpu_seconds(slide))


def measure(edge: int, repeats: int) -> list[Target]:
    """Run everything in turn; print samples and give the ratios."""
    work, pixels = Slice(edge), edge * edge
    pipe, other = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=slide_when_asked, args=(edge, other))
    child.start()

    def ask() -> float:
        pipe.send(True)
        return float(pipe.recv())

    jobs: dict[str, Callable[[], None]] = {}
    for backend in ("eager", "openvino"):
        jobs[f"the network, {backend}"] = work.network_alone(backend)
        jobs[f"prediction, {backend}"] = work.prediction(backend, ())
        jobs[f"all measures, {backend}"] = work.prediction(backend, ONE_PASS)
    ask()
    for job in jobs.values():
        job()  # what is made ready once
    seconds: dict[str, list[float]] = {name: [] for name in ("MONAI, eager", *jobs)}
    for _ in range(repeats):
        seconds["MONAI, eager"].append(ask())
        for name, job in jobs.items():
            seconds[name].append(cpu_seconds(job))
    pipe.send(False)
    child.join()
    print(f"{edge} x {edge} working pixels in tiles of {work.tile}, {torch.get_num_threads()} thread")
    for name, samples in seconds.items():
        print_samples(name, [pixels / s / 1e6 for s in samples], "Mpixel/s")

    def ratio(one: str, other: str) -> float:
        pairs = zip(seconds[one], seconds[other], strict=True)
        return print_samples(f"{one} : {other}", [a / b for a, b in pairs], "")

    targets = [
        Target("eager prediction, times as fast as MONAI",
               ratio("MONAI, eager", "prediction, eager"), "", OF_MONAI, at_most=False),
        Target("accelerated prediction, times as fast as MONAI",
               ratio("MONAI, eager", "prediction, openvino"), "", OF_MONAI_ACCELERATED, at_most=False),
    ]  # fmt: skip
    for backend in ("eager", "openvino"):
        targets += [
            Target(f"prediction's share of the network's throughput, {backend}",
                   ratio(f"the network, {backend}", f"prediction, {backend}"), "", OF_NETWORK, at_most=False),
            Target(f"all measures, times the time of prediction, {backend}",
                   ratio(f"all measures, {backend}", f"prediction, {backend}"), "", OF_PREDICTION),
        ]  # fmt: skip
    return targets


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=3072, help="of the slice, working pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_header("prediction")
    return finish(measure(options.edge, options.repeats), options.json)


if __name__ == "__main__":
    sys.exit(main())
