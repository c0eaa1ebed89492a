"""What `make demo` runs, with one round of few patches, from a folder like a user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

# The demo itself may take ten minutes, see below: it trains, on machines that do other things besides.
pytestmark = [pytest.mark.system, pytest.mark.timeout(660)]


def test_the_demo_runs_into_a_folder_that_is_named_without_its_parents(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "biosegment.demo",
        "--output",
        "results",
        "--rounds",
        "1",
        "--first",
        "4",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results"
    assert {path.name for path in results.glob("*.png")} == {"learning_curve.png", "overlay.png"}
    raw = tifffile.imread(results / "synthetic_raw.tif")
    assert tifffile.imread(results / "segmentation.ome.tif").shape == raw.shape
