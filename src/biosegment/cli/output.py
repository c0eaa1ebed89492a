"""What commands print: tables and progress bars for people, JSON for scripts."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from biosegment.client import Client
from biosegment.client.resources import Job, JobState, Resources
from biosegment.volume import Index, Region, VoxelSize

console = Console()
notes = Console(stderr=True)
"""For everything that is not the result, so that a script can read standard output."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def to_plain(value: Any) -> Any:
    """Turn results of the SDK into what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def show(value: Any, as_json: bool) -> None:
    """Print one result: JSON, or its fields below each other, empty ones left out."""
    if as_json:
        print(json.dumps(to_plain(value)))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    names = list(value) if isinstance(value, dict) else [field.name for field in dataclasses.fields(value)]
    for name in names:
        item = value[name] if isinstance(value, dict) else getattr(value, name)
        if to_plain(item) not in ("", None, [], {}, 0):
            table.add_row(f"[bold]{name.replace('_', ' ')}", Text(_line(item)))
    print_table(table)


def show_list(values: Sequence[Any], columns: Sequence[str], as_json: bool, empty: str) -> None:
    """Print results: a JSON array, or a table of the named fields, or a word when there are none."""
    if as_json:
        print(json.dumps([to_plain(value) for value in values]))
        return
    if not values:
        notes.print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for value in values:
        # What people wrote may have brackets, which are no markup here.
        table.add_row(*(Text(_cell(getattr(value, column))) for column in columns))
    print_table(table)


def print_table(table: Table) -> None:
    """On standard output."""
    # A table for a pipe is never wrapped to the width of a terminal that is not there.
    (console if sys.stdout.isatty() else Console(width=240)).print(table)


def _line(item: Any) -> str:
    """As in a table, whose regions and times it is compared with; what has parts of its own as JSON."""
    if isinstance(item, (Region, Index, VoxelSize, datetime)):
        return _cell(item)
    plain = to_plain(item)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _cell(item: Any) -> str:
    if isinstance(item, float):
        return f"{item:.4g}"
    if isinstance(item, datetime):
        return f"{item.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(item, VoxelSize):
        return f"{' x '.join(f'{edge:g}' for edge in item)} nm"
    if isinstance(item, Index):
        return " x ".join(map(str, item))
    if isinstance(item, dict):
        return ", ".join(f"{key} {_cell(part)}" for key, part in item.items())
    if isinstance(item, tuple):
        return ", ".join(map(str, item))
    return "" if item is None else str(item)


def follow(client: Client, job: Job, as_json: bool, wait: bool = True) -> None:
    """Show a job's progress bar until it has ended, then its result; only its name without `wait`."""
    if not wait:
        show(job, as_json) if as_json else console.print(job.name, soft_wrap=True)
        return
    done = wait_for(client, job, as_json)
    if as_json:
        show(done, True)
        return
    for made in _results(done):
        console.print(made, soft_wrap=True)


def wait_for(client: Client, job: Job, as_json: bool = False) -> Job:
    """Return a job when it has succeeded; shows a progress bar meanwhile, but not with `as_json`."""
    if as_json:
        return client.jobs.wait(job.name)
    with progress_bar() as bar:
        task = bar.add_task(job.kind, total=1.0)

        def update(now: Job) -> None:
            bar.update(task, completed=now.fraction, description=standing(now))

        done = client.jobs.wait(job.name, on_change=update)
        bar.update(task, completed=1.0)
    return done


def standing(job: Job) -> str:
    """Where a job stands, in one line: its place in the queue, or its step, loss, IoU and end."""
    parts = [f"{job.kind}: {job.step or job.state.value}"]
    if job.state is JobState.QUEUED:
        parts.append(f"place {job.queue_position + 1}")
        if job.start_eta_s:
            parts.append(f"begins in {duration(job.start_eta_s)}")
    if job.state is JobState.RUNNING:
        names = {"loss": "loss", "validation_iou": "IoU"}
        parts += [f"{word} {job.metrics[name]:.3g}" for name, word in names.items() if name in job.metrics]
        if job.eta_s:
            parts.append(f"{duration(job.eta_s)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`0:07`, `12:40`, `3:00:05`; '' for 0, which stands for unknown."""
    if not seconds:
        return ""
    minutes, rest = divmod(round(max(1.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def resources_text(resources: Resources | None) -> str:
    """What a job reserves, '' for nothing."""
    if resources is None:
        return ""
    parts = [f"{resources.cpus} CPU"]
    if resources.gpus:
        parts.append(f"{resources.gpus} GPU")
    if resources.memory_bytes:
        parts.append(f"{resources.memory_bytes / (1 << 30):.3g} GiB")
    return ", ".join(parts)


def _results(job: Job) -> Iterable[str]:
    artifacts = job.artifacts or (job.artifact,)
    yield from (name for name in (job.volume, job.model, *artifacts, *job.layers, *job.annotations) if name)


def progress_bar() -> Progress:
    """A bar on standard error that also looks decent in a log file."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=notes,
        transient=False,
    )
