"""How every benchmark prints what it measured."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Target:
    """One figure against what was asked of it.

    Attributes:
        name: What was measured.
        value: The figure.
        unit: Its unit.
        bound: What it must reach.
        at_most: True when smaller is better.
    """

    name: str
    value: float
    unit: str
    bound: float
    at_most: bool = True

    @property
    def passed(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "PASS" if self.passed else "FAIL"
        return (
            f"{verdict}  {self.name}: {self.value:.3g} {self.unit} (target {sign} {self.bound:g} {self.unit})"
        )


def print_header(name: str) -> None:
    """Print the command, the machine and its load, without which figures mean nothing."""
    memory_gib = psutil.virtual_memory().total / 2**30
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    print(f"== {name}")
    print(f"command: {' '.join(['python', '-m', f'benchmarks.{name}', *sys.argv[1:]])}")
    print(
        f"machine: {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.machine()}, load average {load}"
    )


def print_samples(name: str, samples: Sequence[float], unit: str) -> float:
    """Print raw samples and their median; returns the median."""
    median = statistics.median(samples)
    shown = " ".join(f"{sample:.4g}" for sample in samples[:60])
    print(
        f"{name}: median {median:.4g} {unit} of {len(samples)}: {shown}{' ...' if len(samples) > 60 else ''}"
    )
    return median


def finish(targets: Sequence[Target], output: Path | None = None) -> int:
    """Print PASS or FAIL per target; returns the exit status."""
    for target in targets:
        print(target)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(
            json.dumps([asdict(target) | {"passed": target.passed} for target in targets], indent=1)
        )
    return 0 if all(target.passed for target in targets) else 1


def tree_memory_bytes(process: psutil.Process) -> int:
    """Proportional memory (PSS) of a process and all below it: shared pages are counted once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
