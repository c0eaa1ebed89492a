"""The figures of the trainer: prediction, its memory, fine-tuning, families of networks, pretraining.

usage: python -m benchmarks.trainer [prediction volume memory fine_tune families pretraining]

Each part runs in a process of its own, one after the other; the summary at the end repeats their verdicts. The first
three make their own data, the others need the real volumes (bundles/data.py says which).
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.part import run_parts
from benchmarks.report import print_header

PARTS = {
    "prediction": "prediction",
    "volume": "prediction_volume",
    "memory": "prediction_memory",
    "fine_tune": "fine_tune",
    "families": "families",
    "pretraining": "pretraining",
}


def main() -> int:
    """Run the parts and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="some parts; all by default")
    chosen = parser.parse_args().parts or PARTS
    print_header("trainer")
    return run_parts({part: PARTS[part] for part in chosen}, {})


if __name__ == "__main__":
    sys.exit(main())
