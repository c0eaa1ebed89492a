"""Tables of all runs, from their CSVs alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.active_learning import published
from benchmarks.active_learning.group import (
    ENOUGH,
    FIRST,
    Comparison,
    Group,
    grouped,
    interval,
    percent,
    share_of_budget,
)
from benchmarks.active_learning.record import (
    ASKING_PARENT,
    EVERYTHING,
    PARENT,
    RANDOM,
    SCRATCH,
    STARTS,
    Record,
    read_all,
)
from benchmarks.active_learning.target import FEW, PROFILE, targets
from benchmarks.active_learning.trial import TRIALS
from bundles.data import ROOT

PAGE: Final = ROOT / "docs" / "benchmarks" / "active-learning.md"
BEGIN: Final = (
    "<!-- Written by `python -m benchmarks.active_learning report`; do not edit until the end mark. -->"
)
_SAME: Final = 5e-4
"""IoU, by which the first models of two runs with one seed may differ: CSVs have five digits."""
END: Final = "<!-- End of what the report wrote. -->"


def report(runs: Path, page: Path = PAGE) -> int:
    """Print all tables and targets, write them into the page and draw the plots beside the runs; 1 when a target is
    missed.
    """
    records = read_all(runs)
    groups = sorted(
        grouped(records), key=lambda g: (g.profile != "small", g.is_fresh, STARTS.index(g.start), g.tissue)
    )
    found = targets(groups)
    verdicts = ["## Targets", "", *_table(["target", "figure", ""], [list(t.row) for t in found])]
    parts = ["\n".join(verdicts), *(_section(group, groups, records) for group in groups)]
    unfinished = [str(r.name) for r in records if not r.finished]
    if unfinished:
        parts.append(f"Not finished, and in no table: {', '.join(unfinished)}.")
    text = "\n\n".join(parts)
    print(text)
    if page.exists():
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    try:
        from benchmarks.active_learning.plot import draw
    except ImportError:
        print("no plots: matplotlib is not installed")
    else:
        for group in groups:
            draw(group, runs.parent / f"{group.key}.png")
    return 0 if all(target.passed for target in found) else 1


def _section(group: Group, groups: Sequence[Group], records: Sequence[Record]) -> str:
    # Small queries differ in nothing else.
    profile = PROFILE if group.profile == FEW else group.profile
    wanted = (profile, group.tissue, SCRATCH, group.is_fresh)
    scratch = next((g for g in groups if (g.profile, g.tissue, g.start, g.is_fresh) == wanted), None)
    lines = [f"## {group.title}" + ("" if group.profile == "small" else f" (profile `{group.profile}`)"), ""]
    lines += [f"![curves](active-learning/{group.key}.png)", ""]
    lines += _full_supervision(group, records)
    lines += [*_curves(group), "", *_costs(group, scratch), "", *_beside_published(group)]
    return "\n".join(lines).rstrip()


def _full_supervision(group: Group, records: Sequence[Record]) -> list[str]:
    """What the same trainer makes of the whole pool."""
    start = PARENT if group.start == ASKING_PARENT else group.start
    wanted = (group.profile, group.tissue, start, EVERYTHING)
    found = [r for r in records if (r.name.profile, r.name.tissue, r.name.start, r.name.strategy) == wanted]
    if not found:
        return []
    reached = _spread([record.rounds[-1].iou for record in found])
    seeds = "one seed" if len(found) == 1 else f"{len(found)} seeds"
    return [f"All {found[0].patches} patches of the pool, as many steps: {reached} ({seeds}).", ""]


def _curves(group: Group) -> list[str]:
    head = ["strategy", "seeds", *(f"IoU at {n}" for n in group.budgets), "area", "area minus random"]
    head += ["better", "p (Holm)"]
    compared = {c.strategy: c for c in group.compared()}
    rows = []
    for strategy in group.strategies:
        seeds = group.seeds(strategy)
        records = group.of(strategy, seeds)
        mark = " †" if strategy in compared and compared[strategy].apart > _SAME else ""
        row = [f"`{strategy}`{mark}", _count(seeds)]
        row += [_spread([record.curve[budget] for record in records]) for budget in group.budgets]
        row.append(_spread(group.areas(strategy, seeds)))
        rows.append(row + _against(compared.get(strategy)))
    table = _table(head, rows)
    if any(c.apart > _SAME for c in compared.values()):
        most = max(c.apart for c in compared.values())
        table += [
            "",
            f"† No pairs: the first model of a seed differs from that of `random`, by {most:.3f} at most, since the "
            "runs were made on another kind of processor. Intervals, p and `better` are those of pairs all the same.",
        ]
    return table


def _against(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return ["", "", ""]
    area = comparison.area
    p = "few seeds" if comparison.p is None or area.count < ENOUGH else f"{comparison.p:.3f}"
    if comparison.strategy in TRIALS:
        p = "a trial"
    return [interval(area), f"{area.better} of {area.count}", p]


def _costs(group: Group, scratch: Group | None) -> list[str]:
    """What was spent, each strategy beside random choice over the seeds that both have."""
    head = ["strategy", "labels for random's final IoU"]
    if group.start != SCRATCH:
        head.append("labels for random's final IoU from scratch")
    head += [
        "drawing time for it",
        "foreground voxels",
        "drawing time",
        "processor s per round",
        "told of fallbacks",
    ]
    rows = []
    for strategy in group.strategies:
        seeds = [s for s in group.seeds(strategy) if (RANDOM, s) in group.records]
        if not seeds:
            continue
        records = group.of(strategy, seeds)
        curve, final = group.mean(strategy, seeds), group.final(seeds)
        row = [f"`{strategy}`", percent(share_of_budget(curve, final, group.last), FIRST / group.last)]
        if group.start != SCRATCH:
            common = [s for s in seeds if scratch and (RANDOM, s) in scratch.records]
            if scratch and common:
                own = group.mean(strategy, common)
                row.append(
                    percent(share_of_budget(own, scratch.final(common), scratch.last), FIRST / scratch.last)
                )
            else:
                row.append("not run")
        drawn = _mean([record.rounds[-1].annotation_s for record in records])
        random = _mean([r.rounds[-1].annotation_s for r in group.of(RANDOM, seeds)])
        by_time = {
            _mean([record.rounds[i].annotation_s for record in records]): height
            for i, height in enumerate(curve.values())
        }
        row.append(percent(share_of_budget(by_time, final, random)))
        row.append(f"{_mean([r.rounds[-1].foreground_voxels for r in records]) / 1000:.0f} k")
        row.append(f"{drawn / 3600:.1f} h")
        later = [r for record in records for r in record.rounds if r.patches > FIRST]
        row.append(f"{_mean([r.train_s + r.choose_s + r.test_s for r in later]):.1f}")
        row.append(f"{sum(bool(r.notice) for r in later)} of {len(later)}")
        rows.append(row)
    return _table(head, rows)


def _beside_published(group: Group) -> list[str]:
    """The published single runs beside ours."""
    if group.tissue not in published.IOU or group.start != SCRATCH or group.is_fresh:
        return []
    rows = []
    for budget, values in published.IOU[group.tissue].items():
        if budget > group.last:
            continue
        ours = []
        for strategy in published.STRATEGIES:
            seeds = group.seeds(strategy)
            reached = [record.curve[budget] for record in group.of(strategy, seeds)]
            ours.append(f"{_spread(reached)} ({len(seeds)})" if seeds else "not run")
        rows.append([f"{budget} patches, ours (seeds)", *ours])
        rows.append([f"{budget} patches, published", *(f"{value:.3f}" for value in values)])
    title = f"Beside {published.SOURCE} (one run each; full supervision {published.FULL[group.tissue]}):"
    return [title, "", *_table(["", *(f"`{s}`" for s in published.STRATEGIES)], rows), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _count(seeds: Sequence[int]) -> str:
    return f"{len(seeds)}" if len(seeds) == 5 else f"{len(seeds)} of 5"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _spread(values: Sequence[float]) -> str:
    text = f"{_mean(values):.3f}"
    return f"{text} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else text
