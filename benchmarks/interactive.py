"""The figures of interactive segmentation, instances and objects, in one run.

usage: python -m benchmarks.interactive [clicks scribbles segmentation instances objects]

Each part runs in a process of its own, one after the other; the summary at the end repeats their verdicts.
`segmentation` and `objects` make their own data, the others need the real volumes (bundles/data.py says which).
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.part import run_parts
from benchmarks.report import print_header

PARTS = ("clicks", "scribbles", "segmentation", "instances", "objects")


def main() -> int:
    """Run the parts and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="some parts; all by default")
    chosen = parser.parse_args().parts or PARTS
    print_header("interactive")
    return run_parts({part: part for part in chosen}, {})


if __name__ == "__main__":
    sys.exit(main())
