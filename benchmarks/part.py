"""Benchmarks that are made of others: each part in a process of its own, one after the other, verdicts at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence


def run_parts(modules: Mapping[str, str], arguments: Mapping[str, Sequence[str]]) -> int:
    """Run parts, show what they print and repeat their verdicts; returns the exit status.

    Args:
        modules: Modules below `benchmarks` by the name of the part.
        arguments: Of the parts that take any.
    """
    verdicts: list[str] = []
    worst = 0
    for part, module in modules.items():
        found, code = _run(part, module, arguments.get(part, ()))
        verdicts += found
        worst = max(worst, abs(code))
    print("== summary")
    print("\n".join(verdicts))
    return 1 if worst else 0


def _run(part: str, module: str, arguments: Sequence[str]) -> tuple[list[str], int]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    verdicts = []
    for line in process.stdout:
        print(line, end="", flush=True)
        if line.startswith(("PASS", "FAIL")):
            verdicts.append(line.rstrip())
    code = process.wait()
    if not verdicts:
        verdicts.append(f"FAIL  {part}: ended with {code} before it had a figure")
    return verdicts, code
