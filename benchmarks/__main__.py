"""Run all benchmarks that need no data of their own, one process each."""

from __future__ import annotations

import subprocess
import sys

MODULES = ("startup", "datastore", "sampler", "gateway", "demo")

if __name__ == "__main__":
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode for name in MODULES]
    sys.exit(max(codes))
