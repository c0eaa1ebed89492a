"""A run of the experiment on choosing that is killed, and a queue of runs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.active_learning.record import TIMES, Name, read
from biosegment.failpoint import VARIABLE

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


def command(folder, *words):
    places = ["--runs", str(folder / "runs"), "--store", str(folder / "store")]
    return [sys.executable, "-m", "benchmarks.active_learning", *words, *places]


def rows(folder, name):
    record = read(folder / "runs" / f"{name}.csv")
    return [dataclasses.replace(row, **dict.fromkeys(TIMES, 0.0)) for row in record.rounds]


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_killed_run_ends_with_the_rows_of_one_that_was_not(tmp_path, alone):
    name = Name("synthetic", "scratch", "entropy", 0, "tiny")
    words = ("run", "synthetic", "scratch", "entropy", "0", "--profile", "tiny")
    point = tmp_path / "failpoint"
    point.write_text("active_learning.round_saved")
    killed = subprocess.run(
        command(tmp_path / "killed", *words), cwd=ROOT, env={**os.environ, VARIABLE: str(point)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(rows(tmp_path / "killed", name)) == 1
    for folder in ("killed", "whole"):
        subprocess.run(command(tmp_path / folder, *words), cwd=ROOT, check=True)
    assert rows(tmp_path / "killed", name) == rows(tmp_path / "whole", name)
    assert len(rows(tmp_path / "whole", name)) == 3


@pytest.mark.parametrize("state", ["kept", "lost"])
def test_a_run_is_made_longer(tmp_path, alone, state):
    name = Name("synthetic", "scratch", "entropy", 0, "tiny")
    words = ("run", "synthetic", "scratch", "entropy", "0", "--profile", "tiny")
    subprocess.run(command(tmp_path / "longer", *words, "--patches", "8"), cwd=ROOT, check=True)
    assert len(rows(tmp_path / "longer", name)) == 2
    if state == "lost":
        shutil.rmtree(tmp_path / "longer" / "store")
    for folder in ("longer", "whole"):
        subprocess.run(command(tmp_path / folder, *words), cwd=ROOT, check=True)
    assert rows(tmp_path / "longer", name) == rows(tmp_path / "whole", name)
    assert len(rows(tmp_path / "whole", name)) == 3


def test_workers_share_a_queue_and_say_what_failed(tmp_path, alone):
    file = tmp_path / "queue.txt"
    lines = [f"synthetic scratch random {seed} --profile tiny" for seed in range(3)]
    file.write_text("\n".join(["# a remark", *lines, "synthetic scratch astrology 0 --profile tiny"]))
    workers = [
        subprocess.Popen(command(tmp_path, "queue", str(file)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = "".join(worker.communicate()[0] for worker in workers)
    assert {worker.returncode for worker in workers} == {0, 1} or [w.returncode for w in workers] == [1, 1]
    assert "synthetic scratch astrology 0 --profile tiny: exit status 1" in said
    for seed in range(3):
        name = Name("synthetic", "scratch", "random", seed, "tiny")
        assert len(rows(tmp_path, name)) == 3
        assert said.count(f"{name}: 12 patches") == 1
