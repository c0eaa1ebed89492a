"""`make demo` as a whole: time, memory, and on real data what it learns.

usage: python -m benchmarks.demo [--raw RAW.tif --labels LABELS.tif]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.report import Target, finish, print_header, tree_memory_bytes

_ROW = re.compile(r"[│|]\s*(\d+)\s*[│|]\s*(\d+)\s*[│|]\s*([\d.]+)\s*[│|]\s*(\d+)")


def run(raw: str, labels: str, output: Path) -> tuple[float, float, list[tuple[int, float]]]:
    """Run the demo; return seconds, peak memory in GB, and (patches, IoU) of each round."""
    command = [sys.executable, "-m", "biosegment.demo", "--output", str(output)]
    if raw:
        command += ["--raw", raw, "--labels", labels]
    print("runs: " + " ".join(command))
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        top = psutil.Process(process.pid)
        while not ended.wait(2.0):
            peak = max(peak, tree_memory_bytes(top))

    watcher = threading.Thread(target=watch)
    watcher.start()
    rounds = []
    assert process.stdout is not None
    for line in process.stdout:
        print("  " + line, end="")
        if row := _ROW.search(line):
            rounds.append((int(row[2]), float(row[3])))
    code = process.wait()
    ended.set()
    watcher.join()
    if code != 0:
        raise SystemExit(f"the demo ended with {code}")
    return time.monotonic() - started, peak / 1e9, rounds


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", default="")
    parser.add_argument("--labels", default="")
    options = parser.parse_args()
    print_header("demo")
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory, rounds = run(options.raw, options.labels, Path(folder))
    if not options.raw:
        return finish(
            [
                Target("demo on the synthetic volume", seconds / 60, "min", 8),
                Target("its memory (PSS of all processes)", memory, "GB", 6),
            ]
        )
    first, last = rounds[0][1], rounds[-1][1]
    return finish(
        [
            Target("demo on the given volume", seconds / 60, "min", 25),
            Target("rounds", len(rounds), "rounds", 5, at_most=False),
            Target("patches of 128 x 128", rounds[-1][0], "patches", 150),
            Target("IoU on the held-out slices", last, "IoU", 0.70, at_most=False),
            Target("gain over the first round", last - first, "IoU", 0.10, at_most=False),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
