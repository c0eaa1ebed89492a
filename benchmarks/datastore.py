"""The figures of the datastore: import, small regions, streaming, commits and history, in one run.

usage: python -m benchmarks.datastore [import region stream annotation] [--raw raw.tif] [--compressed zlib.tif]

Each part runs in a process of its own, one after the other, and compares its two sides in turn; the summary at the end
repeats their verdicts. Without files the import uses a synthetic one and leaves out the comparison with decoding.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.report import print_header

PARTS = {
    "import": "import_volume",
    "region": "region",
    "stream": "stream",
    "annotation": "annotation",
}


def run(part: str, arguments: list[str]) -> tuple[list[str], int]:
    """Run a part, show what it prints; its verdicts and exit status."""
    command = [sys.executable, "-m", f"benchmarks.{PARTS[part]}", *arguments]
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


def main() -> int:
    """Run the parts and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="some parts; all by default")
    parser.add_argument("--raw", type=Path, help="uncompressed TIFF stack of about 268 MB")
    parser.add_argument("--compressed", type=Path, help="zlib TIFF of 1 GB or more")
    options = parser.parse_args()
    files = [str(options.raw)] if options.raw else []
    files += ["--compressed", str(options.compressed)] if options.compressed else []
    print_header("datastore")
    verdicts, worst = [], 0
    for part in options.parts or PARTS:
        found, code = run(part, files if part == "import" else [])
        verdicts += found
        worst = max(worst, abs(code))
    print("== summary")
    print("\n".join(verdicts))
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
