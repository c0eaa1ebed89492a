"""`python -m biosegment.demo`: import, annotate in rounds, predict, export.

Leaves a learning curve, an overlay of prediction against truth and the segmentation in the output folder.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from biosegment.client import aconnect
from biosegment.demo import picture
from biosegment.demo.data import DemoData, load
from biosegment.demo.rounds import Experiment, Round
from biosegment.errors import BiosegmentError
from biosegment.supervisor import Supervisor
from biosegment.volume import FIRST_CLASS, Region

console = Console()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--raw", type=Path, help="TIFF stack; a synthetic volume by default")
    parser.add_argument(
        "--labels", type=Path, help="TIFF stack of the same shape, not 0 where the structure is"
    )
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for results")
    parser.add_argument("--rounds", type=int, default=0, help="default: 4 synthetic, 8 otherwise")
    parser.add_argument("--first", type=int, default=10, help="patches in the first round")
    parser.add_argument("--patches", type=int, default=20, help="patches in each further round")
    parser.add_argument("--resolution-nm", type=float, default=10.0, help="working resolution")
    parser.add_argument(
        "--strategy", default="entropy=0.5,stratified=0.5", help="NAME=SHARE, comma-separated"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    started = time.monotonic()
    output: Path = options.output.resolve()  # the services run in another folder
    platform_dir = output / "platform"
    shutil.rmtree(platform_dir, ignore_errors=True)
    platform_dir.mkdir(parents=True)
    data = load(options.raw, options.labels, output, options.seed)
    supervisor = Supervisor(
        platform_dir,
        grpc_port=0,
        http_port=0,
        import_roots=[data.raw_path.parent],
        # It shows what can be learned from its own annotations: shipped weights have seen its data, or know its answer.
        environment={"BIOSEGMENT_TRAINER__DEFAULT_PARENT": ""},
        say=lambda line: console.print(line, highlight=False),
    )
    console.print("starting the four services ...")
    addresses = await supervisor.start()
    console.print(f"they serve after {time.monotonic() - started:.1f} s; web page on http://{addresses.http}")
    try:
        with _bar() as bar:
            async with aconnect(data_dir=platform_dir) as client:
                experiment = Experiment(
                    client,
                    data,
                    bar,
                    sample_shape=(1, 128, 128),
                    first=options.first,
                    per_round=options.patches,
                    rounds=options.rounds or (4 if data.is_synthetic else 8),
                    seed=options.seed,
                    strategies=_shares(options.strategy),
                )
                await experiment.prepare(options.resolution_nm)
                for _ in range(experiment.rounds):
                    await experiment.run_round()
                layer = await experiment.predict_volume()
                artifact = await experiment.export()
                segmentation = await client.volumes.download(artifact, output / "segmentation.ome.tif")
                await _draw(experiment, layer, output)
    finally:
        await supervisor.stop()
    _report(experiment.results, data, started)
    for path in (output / "learning_curve.png", output / "overlay.png", segmentation):
        console.print(f"  {path}", highlight=False)


def _shares(text: str) -> dict[str, float]:
    return {name: float(share or 1) for name, _, share in (item.partition("=") for item in text.split(","))}


async def _draw(experiment: Experiment, layer: str, output: Path) -> None:
    data = experiment.data
    held_out = data.held_out
    z = held_out.start.z + int(np.argmax(data.truth[held_out.slices].sum(axis=(1, 2))))
    region = Region((z, 0, 0), (z + 1, held_out.stop.y, held_out.stop.x))  # type: ignore[arg-type]
    raw = await experiment.read(experiment.volume, region)
    found = await experiment.read(layer, region) == FIRST_CLASS
    last = experiment.results[-1]
    name = "synthetic volume" if data.is_synthetic else data.raw_path.name
    title = f"{name}, held-out slice {z}: {last.patches} annotated patches, IoU of the held-out part {last.iou:.2f}"
    picture.overlay(raw[0], data.truth[z], found[0], title, output / "overlay.png")
    picture.learning_curve(
        [item.patches for item in experiment.results],
        [item.iou for item in experiment.results],
        f"{name}: active learning",
        output / "learning_curve.png",
    )


def _report(results: list[Round], data: DemoData, started: float) -> None:
    table = Table(title="active-learning rounds")
    for column in ("round", "patches", "IoU (held out)", "seconds"):
        table.add_column(column, justify="right")
    for item in results:
        table.add_row(str(item.number), str(item.patches), f"{item.iou:.3f}", f"{item.seconds_s:.0f}")
    console.print(table)
    if data.is_synthetic:
        console.print("A synthetic volume shows that everything works; it is no evidence of quality.")
    console.print(f"done in {time.monotonic() - started:.0f} s")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def main() -> None:
    """Run the demo; errors become one line."""
    try:
        asyncio.run(_run(_arguments()))
    except BiosegmentError as error:
        console.print(f"error: {error.message}", style="red", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
