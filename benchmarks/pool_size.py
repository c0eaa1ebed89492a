"""What a pool costs in time and memory by the number of its candidates, up to a hundred million.

usage: python -m benchmarks.pool_size [--millions 1 4 16 64 103] [--folder FOLDER] [--plot FILE.png] [--json FILE]

Windows of 1 x 128 x 128 pixels, 64 apart, in every slice of a volume of 8192 x 8192 pixels and as many slices as it
takes (16 129 candidates a slice). Two score maps (entropy, class probability), one cell per 16 x 16 pixels, float16,
are real Zarr arrays written by the storage layer in chunks like the trainer's: 64 slices of smooth random scores, again
and again, shifted each time. Each size is measured in a process of its own, whose parts are the sampler's: SQLite with
10 000 annotations, the rankings, what is taken, the batch.

For each size: seconds until scores are in use (both maps read and ranked, what is taken read, the best candidates
found), milliseconds for a batch of 20 with the slice distance, the first ones and further ones, memory afterwards and
at most.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa
from biosegment_sampler import rows, tables
from biosegment_sampler.board import Board, Boards
from biosegment_sampler.directory import candidate_field
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.occupancy import Hold
from biosegment_sampler.domain.pool import Loop, Pool, StrategyShare, VolumeGeometry, VolumeRegion
from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.domain.selection import pick
from biosegment_sampler.ports import ScoreLayer
from biosegment_sampler.proposal import Proposer
from biosegment_sampler.scores_zarr import ZarrScoreMaps
from biosegment_sampler.sql import SqlLedger
from biosegment_sampler.standing import Question, StandingProposals

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.database import Database, migrate
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region, VoxelSize

EDGE, WINDOW, CELL = 8192, Index(1, 128, 128), 16
PER_SLICE = 127 * 127
SLAB = 64
ANNOTATIONS = 10_000
BATCH = 20
MEASURES = ("entropy", "class_probability")
STATE_GB, SELECTION_MS = 2.0, 100.0
LINEAR_FROM = 10_000_000
"""Candidates."""


def write_maps(folder: Path, slices: int) -> None:
    """Both maps, slab by slab."""
    random = np.random.default_rng(0)
    cells = EDGE // CELL
    layout = ArrayLayout((64, 64, 64), (16, 64, 64))
    arrays = Arrays(ObjectStoreSettings(object_store_url=f"file://{folder}"), sync=False)
    for measure in MEASURES:
        slab: np.ndarray = random.random((SLAB, cells, cells), np.float32)
        for _ in range(3):
            slab = (slab + np.roll(slab, 1, 1) + np.roll(slab, 1, 2)) / 3
        array = arrays.create(
            f"{slices}/{measure}", (slices, cells, cells), "float16", layout=layout, fill=float("nan")
        )
        for first in range(0, slices, SLAB):
            part = slab[: min(SLAB, slices - first)]
            moved = np.roll(part, (7 * first, 13 * first), (1, 2)).astype(np.float16)
            box = (slice(first, first + len(part)), slice(0, cells), slice(0, cells))
            array.write(box, moved)


def fill(ledger_url: str, folder: Path, slices: int) -> Pool:
    """The rows of a pool with scores and annotations."""
    migrate(ledger_url, "biosegment_sampler")
    random = np.random.default_rng(1)
    pool = Pool("bench", loop=Loop(nonce="n", latest_model="models/m", scored_model="models/m"))
    layers = [
        ScoreLayer(measure, "v", measure, f"file://{folder}/{slices}/{measure}", Index(1, CELL, CELL))
        for measure in MEASURES
    ]
    engine = sa.create_engine(ledger_url.replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.pools).values(rows.pool_values(pool)))
        for layer in layers:
            connection.execute(
                sa.insert(tables.score_layers).values(rows.layer_values("bench", "models/m", layer))
            )
        annotated = [
            Annotation(
                name=f"projects/bench/volumes/v/annotations/{number}",
                sequence=number,
                volume_id="v",
                region=Region.of_shape(
                    WINDOW, Index(int(random.integers(slices)), *map(int, random.integers(0, EDGE - 128, 2)))
                ),
                author="ann",
                sample_id="",
                work_time_s=1.0,
                voxel_counts={},
                created_at=1.0,
                in_latest_model=number % 100 != 0,
            )
            for number in range(ANNOTATIONS)
        ]
        connection.execute(
            sa.insert(tables.annotation_table), [rows.annotation_values("bench", item) for item in annotated]
        )
    engine.dispose()
    return pool


async def measure(folder: Path, slices: int) -> dict[str, Any]:
    """All figures of one size."""
    with tempfile.TemporaryDirectory() as database_folder:
        url = f"sqlite+aiosqlite:///{database_folder}/sampler.sqlite"
        pool = await asyncio.to_thread(fill, url, folder, slices)
        database = Database.open(url)
        try:
            return await _measure(SqlLedger(database), folder, slices, pool)
        finally:
            await database.close()


async def _measure(ledger: SqlLedger, folder: Path, slices: int, pool: Pool) -> dict[str, Any]:
    maps = ZarrScoreMaps(ObjectStoreSettings(object_store_url=f"file://{folder}"))
    geometry = VolumeGeometry("v", Index(slices, EDGE, EDGE), VoxelSize(10, 10, 10), 10.0)
    field = candidate_field(pool, [geometry])
    boards = Boards(ledger, 1 << 30)
    standing = StandingProposals(Proposer(ledger, maps), boards, 1 << 30)
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    wall, processor = time.perf_counter(), time.process_time()
    question = Question(pool, 0, field, pool.settings.strategies)
    proposal = await standing.proposal(question)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    board = await boards.board(pool, field)
    gc.collect()
    found: dict[str, Any] = {
        "candidates": len(field),
        "strategies": [share.strategy for share in proposal.shares],
        "notice": proposal.notice,
        "use_s": wall,
        "use_processor_s": processor,
        "state_bytes": process.memory_info().rss - before,
        "batches": [_batch(board, proposal.rankings, number) for number in range(20)],
    }
    scores = proposal.rankings["entropy"].scores
    assert scores is not None
    # Other seeds, so that nothing was worked out of them before.
    found["unprepared"] = [_batch(board, {"entropy": by_score(scores, seed)}, -seed) for seed in range(1, 6)]
    began = time.perf_counter(), time.process_time()
    await ledger.read_at_once("bench", Board(pool, field).look)
    found["reading_ms"] = _since(began)
    found["peak_bytes"] = _peak_bytes() - before
    return found


def _batch(board: Board, rankings: Mapping[str, Ranking], number: int) -> tuple[float, float]:
    """Milliseconds for a batch, on the clock and of the processor; it is taken, so that the next one is another."""
    began = time.perf_counter(), time.process_time()
    picks = pick(board.occupancy.view(), rankings, [StrategyShare("entropy", 1.0)], BATCH)
    took = _since(began)
    assert len(picks) == BATCH
    for each in picks:
        board.occupancy.hold((number, each.number), Hold(VolumeRegion(each.volume_id, each.region)))
    return took


def _since(began: tuple[float, float]) -> tuple[float, float]:
    return 1e3 * (time.perf_counter() - began[0]), 1e3 * (time.process_time() - began[1])


def _peak_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Time and memory by size, with straight lines through the smallest one for what is linear."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    millions = [each["candidates"] / 1e6 for each in found]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    series = [
        ("scores into use, processor s", [each["use_processor_s"] for each in found], "s"),
        ("memory, GB", [each["state_bytes"] / 1e9 for each in found], "GB"),
        ("a batch of 20, processor ms", [_median(each["batches"]) for each in found], "ms"),
    ]
    for axis, (title, values, unit) in zip(axes, series, strict=True):
        axis.loglog(millions, values, "o-", label="measured")
        if unit != "ms":
            last = values[-1] / millions[-1]
            axis.loglog(millions, [last * each for each in millions], "k--", lw=0.8, label="linear")
        axis.set(title=title, xlabel="million candidates", ylabel=unit)
        axis.set_xticks(millions, [f"{each:.0f}" for each in millions])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[1].axhline(STATE_GB, color="tab:red", lw=0.8)
    axes[2].set_ylim(0.1, 10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _median(samples: list[tuple[float, float]]) -> float:
    """Of processor times."""
    return float(np.median([processor for _, processor in samples]))


def main() -> int:
    """Run each size in a process of its own, and print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 4, 16, 64, 103])
    parser.add_argument("--folder", type=Path, help="where maps lie, or are left; 7 GB for the largest")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(measure(options.folder, options.one))))
        return 0
    print_header("pool_size")
    with tempfile.TemporaryDirectory(prefix="pool-size-") as temporary:
        found = [_run(options.folder or Path(temporary), million) for million in options.millions]
    if options.plot:
        plot(found, options.plot)
    return finish(_targets(found), options.json)


def _run(folder: Path, million: int) -> dict[str, Any]:
    slices = round(million * 1e6 / PER_SLICE / SLAB) * SLAB or SLAB
    if not (folder / str(slices)).exists():
        began = time.perf_counter()
        write_maps(folder, slices)
        print(f"-- {slices} slices: maps written in {time.perf_counter() - began:.0f} s")
    command = [sys.executable, "-m", "benchmarks.pool_size", "--folder", str(folder), "--one", str(slices)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    one: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    load = psutil.getloadavg()[0]
    print(f"{one['candidates']} candidates, load average {load:.1f}, by {one['strategies']} {one['notice']}")
    print(f"  scores into use: {one['use_s']:.2f} s, processor {one['use_processor_s']:.2f} s")
    print(f"  memory: {one['state_bytes'] / 1e9:.3f} GB, at most {one['peak_bytes'] / 1e9:.3f} GB")
    for name, samples in (
        ("a batch of 20, the first one first", one["batches"]),
        ("a batch of 20 by scores of which nothing was worked out", one["unprepared"]),
    ):
        print_samples(f"  {name}, on the clock", [wall for wall, _ in samples], "ms")
        print_samples(f"  {name}, processor", [processor for _, processor in samples], "ms")
    print("  what is taken read anew: {:.0f} ms, processor {:.0f} ms".format(*one["reading_ms"]))
    return one


def _targets(found: list[dict[str, Any]]) -> list[Target]:
    first, last = found[0], found[-1]
    targets = [
        Target(
            f"state of {last['candidates']} candidates with a scalar strategy",
            last["state_bytes"] / 1e9,
            "GB",
            STATE_GB,
        ),
        Target(
            f"batch of {BATCH} among {first['candidates']}, slowest of 20, on the clock",
            max(wall for wall, _ in first["batches"]),
            "ms",
            SELECTION_MS,
        ),
        Target(
            "... by scores of which nothing was worked out before, slowest of 5, on the clock",
            max(wall for wall, _ in first["unprepared"]),
            "ms",
            SELECTION_MS,
        ),
    ]
    # In small pools what does not depend on the size is most of the cost, and would hide how it grows.
    large = [one for one in found if one["candidates"] >= LINEAR_FROM]
    if len(large) > 1:
        smaller, larger = (one["use_processor_s"] / one["candidates"] for one in (large[0], large[-1]))
        name = f"processor time per candidate, {last['candidates']} against {large[0]['candidates']}"
        targets.append(Target(name, larger / smaller, "times", 1.5))
    return targets


if __name__ == "__main__":
    sys.exit(main())
