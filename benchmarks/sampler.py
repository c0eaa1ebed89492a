"""The figures of the sampler: pools of any size, and claims of a room of annotators, in one run.

usage: python -m benchmarks.sampler [pool claims]

Each part runs in a process of its own, one after the other; the summary at the end repeats their verdicts.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.part import run_parts
from benchmarks.report import print_header

PARTS = {"pool": "pool_size", "claims": "claims"}


def main() -> int:
    """Run the parts and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="some parts; all by default")
    options = parser.parse_args()
    print_header("sampler")
    chosen = options.parts or PARTS
    return run_parts({part: PARTS[part] for part in chosen}, {})


if __name__ == "__main__":
    sys.exit(main())
