"""Curves as PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot

from benchmarks.active_learning.group import BASELINES, Group
from benchmarks.active_learning.record import RANDOM

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b5a2b", "#7f5fbf")
_BASELINE_COLOURS = {"random": "#000000", "stratified": "#777777", "foreground_random": "#b0a000"}


def draw(group: Group, path: Path) -> None:
    """Curves of the strategies that have all seeds of random choice, above samples and above seconds; and what each
    strategy is above random choice, over the seeds that both have.
    """
    figure, (curves, gains, times) = pyplot.subplots(1, 3, figsize=(17, 5.5), constrained_layout=True)
    all_seeds = group.seeds(RANDOM)
    others = iter(_COLOURS * 4)
    for strategy in group.strategies:
        colour = _BASELINE_COLOURS[strategy] if strategy in BASELINES else next(others)
        style = "--" if strategy in BASELINES else "-"
        seeds = [seed for seed in group.seeds(strategy) if seed in all_seeds]
        if not seeds:
            continue
        records, mean = group.of(strategy, seeds), group.mean(strategy, seeds)
        if tuple(seeds) == all_seeds:
            curves.plot(list(mean), list(mean.values()), style, color=colour, lw=2, label=strategy)
            for record in records:
                curves.plot(list(record.curve), list(record.curve.values()), color=colour, lw=0.6, alpha=0.4)
            spent = [[row.annotation_s / 3600 for row in record.rounds[: len(mean)]] for record in records]
            times.plot(np.mean(spent, axis=0), list(mean.values()), style, color=colour, lw=2)
        random = group.mean(RANDOM, seeds)
        gain = [mean[x] - random[x] for x in mean]
        label = f"{strategy}, {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
        gains.plot(list(mean), gain, style, color=colour, lw=1 + 0.4 * len(seeds), label=label)
    curves.set(
        title=f"means over {len(all_seeds)} seeds, and each seed",
        xlabel="annotated patches of 128 x 128 voxels",
        ylabel="foreground IoU on the test stack",
    )
    gains.set(
        title="minus random, over the seeds that both have",
        xlabel="annotated patches of 128 x 128 voxels",
        ylabel="difference in IoU",
    )
    times.set(
        title="the same means above drawing time",
        xlabel="simulated drawing time (h)",
        ylabel="foreground IoU on the test stack",
    )
    for axis in (curves, gains, times):
        axis.grid(alpha=0.3)
    curves.legend(fontsize=8)
    figure.legend(*gains.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(group.title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
