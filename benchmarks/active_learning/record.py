"""One CSV per run: the settings and the machine in comments, then a row for each round."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from bundles.data import ROOT

RUNS: Final = ROOT / "docs" / "benchmarks" / "active-learning" / "runs"

RANDOM: Final = "random"
"""The strategy that all are compared with."""

EVERYTHING: Final = "everything"
"""In place of a strategy: all of the pool at once, the height that curves can reach."""

SCRATCH: Final = "scratch"
PARENT: Final = "parent"
"""A model of another data set, with the starting set of all strategies."""
ASKING_PARENT: Final = "asking-parent"
"""The same model, by which a strategy chooses the first patches too, as in a project of the platform."""
STARTS: Final = (SCRATCH, PARENT, ASKING_PARENT)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to; counts are of all samples so far.

    Attributes:
        round: Trainings so far; 0 is the parent alone.
        patches: Labelled samples.
        iou: Of the foreground, on the test stack, at full resolution.
        foreground_voxels: In the labelled samples.
        annotation_s: What a person would need, by a model, see `annotator`.
        train_s: Processor time of the training.
        choose_s: Of scoring the pool and choosing the batch that the round begins with.
        test_s: Of the test.
        notice: What an annotator would be told about that batch.
    """

    round: int
    patches: int
    iou: float
    foreground_voxels: int
    annotation_s: float
    train_s: float
    choose_s: float
    test_s: float
    notice: str = ""


TIMES: Final = ("train_s", "choose_s", "test_s")
"""Columns that differ when a run is repeated."""


@dataclass(frozen=True, slots=True)
class Name:
    """Which run it is.

    Attributes:
        tissue: In `TISSUES`.
        start: In `STARTS`.
        strategy: As `chooser.parse_plan` reads it, or `EVERYTHING`.
        seed: Of the starting set and of all other chance.
        profile: In `PROFILES`.
    """

    tissue: str
    start: str
    strategy: str
    seed: int
    profile: str = "small"

    def __str__(self) -> str:
        strategy = self.strategy.replace(":", "").replace("/", "-by-")
        return f"{self.profile}-{self.tissue}-{self.start}-{strategy}-{self.seed}"


def write(path: Path, settings: Mapping[str, Any], rounds: list[Round]) -> None:
    """Write a run so far, at once or not at all."""
    text = io.StringIO()
    for key, value in settings.items():
        text.write(f"# {key}: {json.dumps(value)}\n")
    writer = csv.DictWriter(text, [f.name for f in fields(Round)], lineterminator="\n")
    writer.writeheader()
    for row in rounds:
        values = asdict(row)
        writer.writerow({k: f"{v:.5f}" if isinstance(v, float) else v for k, v in values.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text.getvalue())
    draft.replace(path)


@dataclass(frozen=True, slots=True)
class Record:
    """A run that was read.

    Attributes:
        name: Which.
        settings: All comments.
        rounds: In order.
    """

    name: Name
    settings: Mapping[str, Any]
    rounds: tuple[Round, ...]

    @property
    def finished(self) -> bool:
        """Whether its budget is spent."""
        return self.patches >= int(self.settings["budget"])

    @property
    def patches(self) -> int:
        """How far it came."""
        return self.rounds[-1].patches

    @property
    def curve(self) -> dict[float, float]:
        """IoU by labelled samples."""
        return {float(row.patches): row.iou for row in self.rounds}


def read(path: Path) -> Record:
    """Read what `write` wrote."""
    settings: dict[str, Any] = {}
    lines = path.read_text().splitlines()
    for line in lines:
        if line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            settings[key] = json.loads(value)
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    kinds = {f.name: f.type for f in fields(Round)}
    convert = {"int": int, "float": float, "str": str}
    rounds = tuple(Round(**{k: convert[str(kinds[k])](v) for k, v in row.items()}) for row in rows)
    name = Name(**{f.name: settings[f.name] for f in fields(Name)})
    return Record(name, settings, rounds)


def read_all(folder: Path) -> list[Record]:
    """All runs of a folder, by name."""
    return [read(path) for path in sorted(folder.glob("*.csv"))]
