"""The figures of the datastore: import, small regions, streaming, commits and history, in one run.

usage: python -m benchmarks.datastore [import region stream annotation] [--raw raw.tif] [--compressed zlib.tif]

Each part runs in a process of its own, one after the other, and compares its two sides in turn; the summary at the end
repeats their verdicts. Without files the import uses a synthetic one and leaves out the comparison with decoding.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.part import run_parts
from benchmarks.report import print_header

PARTS = {
    "import": "import_volume",
    "region": "region",
    "stream": "stream",
    "annotation": "annotation",
}


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
    chosen = options.parts or PARTS
    return run_parts({part: PARTS[part] for part in chosen}, {"import": files})


if __name__ == "__main__":
    sys.exit(main())
