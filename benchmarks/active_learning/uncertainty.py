"""What the models of the runs are uncertain of: outlines, what is wrong, or something else."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.active_learning.pixels import cell_means, entropy_of, rim_of, truth_of
from benchmarks.active_learning.profile import PROFILES
from benchmarks.active_learning.record import Name
from benchmarks.active_learning.tissue import TISSUES
from biosegment.volume import Index, Region
from bundles.data import MITOCHONDRIA, Stack

BINS = 10
WINDOW_CELLS = 4
TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Of one model on its whole pool, by the truth.

    Attributes:
        calibration_error: Expected calibration error of the foreground's probability, ten bins of equal width (C. Guo
            et al., ICML 2017).
        rim: Share of the pixels that lie within two working pixels of an outline.
        entropy_at_rim: Share of all entropy that lies there.
        errors_at_rim: Share of the wrong pixels that lie there.
        errors: Share of the pixels that are wrong.
        entropy_of_errors: Share of all entropy that lies on wrong pixels.
        errors_by_entropy: Rank correlation (Spearman) of the mean entropy of a window with how far its pixels are from
            the truth on average, over windows of 4 x 4 score cells, 2 apart; 0 where one of them is constant.
    """

    calibration_error: float
    rim: float
    entropy_at_rim: float
    errors_at_rim: float
    errors: float
    entropy_of_errors: float
    errors_by_entropy: float


def measure(probability: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> Uncertainty:
    """Compare probabilities with the truth.

    Args:
        probability: Of the foreground, (z, y, x).
        truth: (z, y, x).
    """
    p = np.clip(probability.astype(np.float64), TINY, 1 - TINY)
    entropy = entropy_of(p)
    wrong = (p > 0.5) != truth
    rim = rim_of(truth)
    bins = np.minimum((p * BINS).astype(int), BINS - 1).ravel()
    gaps = np.bincount(bins, p.ravel(), BINS) - np.bincount(bins, truth.ravel(), BINS)
    return Uncertainty(
        calibration_error=float(np.abs(gaps).sum() / p.size),
        rim=float(rim.mean()),
        entropy_at_rim=float(entropy[rim].sum() / entropy.sum()),
        errors_at_rim=float(wrong[rim].sum() / max(1, wrong.sum())),
        errors=float(wrong.mean()),
        entropy_of_errors=float(entropy[wrong].sum() / entropy.sum()),
        errors_by_entropy=_rank_correlation(_windows(entropy), _windows(np.abs(p - truth))),
    )


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else 0.0


def _windows(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Means over windows, in one row."""
    cells = cell_means(values).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(cells, (WINDOW_CELLS, WINDOW_CELLS), (1, 2))
    step = WINDOW_CELLS // 2
    means: NDArray[np.float64] = windows[:, ::step, ::step].mean((-1, -2)).ravel()
    return means


def report(store: Path, say: Callable[[str], None]) -> int:
    """Print the means over seeds, of all first and last models whose states are in `store`."""
    found: defaultdict[tuple[str, str], list[Uncertainty]] = defaultdict(list)
    for path in sorted((store / "runs").glob("*.pt")):
        state = torch.load(path, weights_only=True)
        name = Name(**{field.name: state["settings"][field.name] for field in fields(Name)})
        patches = state["rounds"][-1]["patches"]
        what = f"{name.profile}, {name.start}, `{name.strategy}`, {patches} patches"
        found[name.tissue, what].append(_of(name, state["weights"]))
    for path in sorted((store / "first").glob("*.pt")):
        # Tissues have dashes in their names.
        profile, _, rest = path.stem.partition("-")
        tissue, start, seed = rest.rsplit("-", 2)
        name = Name(tissue, start, "", int(seed), profile)
        weights = torch.load(path, weights_only=True)["weights"]
        found[tissue, f"{profile}, {start}, the first model"].append(_of(name, weights))
    say(
        "| pool | model | seeds | " + " | ".join(f.name.replace("_", " ") for f in fields(Uncertainty)) + " |"
    )
    say("| --- " * (3 + len(fields(Uncertainty))) + "|")
    for (tissue, what), models in sorted(found.items()):
        means = [
            statistics.mean(column) for column in zip(*(astuple(model) for model in models), strict=True)
        ]
        say(f"| {tissue} | {what} | {len(models)} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return 0


def _of(name: Name, weights: dict[str, torch.Tensor]) -> Uncertainty:
    tissue = TISSUES[name.tissue]()
    model = NetworkModel(PROFILES[name.profile].training.network, (MITOCHONDRIA,), weights)
    factor = tissue.pool.factor(tissue.working_nm)
    return measure(_probability(model, tissue.pool, factor), truth_of(tissue.pool, factor))


def _probability(model: NetworkModel, stack: Stack, factor: int) -> NDArray[np.float32]:
    """Of the foreground, at the working resolution, as the platform stores it: below 1/510 it is 0."""
    shape = Index(*stack.raw.shape)
    config = PredictionConfig(factor=factor, measures=(), with_labels=False, backend="eager")
    found = predict_block(
        model,
        lambda region: stack.raw[region.slices],
        Region(Index(0, 0, 0), shape),
        shape,
        stack.statistics,
        config,
        "cpu",
    )
    probability: NDArray[np.float32] = found.probabilities[-1].astype(np.float32) / np.float32(255)
    return probability
