"""A thousand damaged files: every reader reads them or refuses them, in bounded time and memory, and never dies of one.

BIOSEGMENT_FUZZ_SEED and BIOSEGMENT_FUZZ_FILES choose other files, and more of them.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from biosegment_datastore.formats.detection import READERS
from biosegment_datastore.formats.source import SourceOptions
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

from biosegment.errors import BiosegmentError
from biosegment.settings import ObjectStoreSettings
from tests.conftest import ROOT
from tests.system.reader_child import MEMORY_BYTES
from tests.system.reader_mutation import copy, mutate_tree
from tests.system.reader_seed import SEEDS

pytestmark = pytest.mark.system

FIRST_SEED = int(os.environ.get("BIOSEGMENT_FUZZ_SEED", "20260"))
FILES = int(os.environ.get("BIOSEGMENT_FUZZ_FILES", "1000"))
LONGEST_S = 10.0


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Sound files by reader."""
    made: dict[str, list[Path]] = {}
    for reader, makers in SEEDS.items():
        for make in makers:
            made.setdefault(reader, []).append(make(tmp_path_factory.mktemp(reader)))
    return made


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a file: 'read', 'refused: ...', 'failed: ...'."""

    outcome: str
    peak_bytes: int = 0
    files: int = 0

    @property
    def failure(self) -> str:
        if self.outcome.startswith("failed"):
            return self.outcome
        return f"{self.peak_bytes >> 20} MiB of memory" if self.peak_bytes > MEMORY_BYTES else ""


class Reader:
    """A child process that reads files one after the other, and is started anew when it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._scratch = folder / "scratch"
        self._scratch.mkdir()

    def read(self, path: Path, labels: bool = False) -> Answer:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        task = {"path": str(path), "scratch_dir": str(self._scratch), "labels": labels}
        # One that died of the last file's remains says so below.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task) + "\n")
        if not select.select([process.stdout], [], [], LONGEST_S)[0]:
            self.stop()
            return Answer(f"failed: no end after {LONGEST_S:g} s")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.stop()
            name = signal.Signals(-code).name if code < 0 else f"status {code}"
            return Answer(
                f"failed: died of {name}: {(self._folder / 'stderr').read_text(errors='replace')[-2000:]}"
            )
        if left := list(self._scratch.iterdir()):
            return Answer(f"failed: left {left}")
        return Answer(**json.loads(line))

    def _start(self) -> subprocess.Popen[str]:
        with (self._folder / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.system.reader_child"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
                env={**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
            )
        # Importing every library takes its time, which is no file's fault.
        assert self._process.stdout.readline() == "ready\n"
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()
            self._process = None


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()


def damaged(number: int, seeds: dict[str, list[Path]], folder: Path) -> tuple[str, Path]:
    """The file of a number, always the same, and which reader it was made for."""
    random = Random(number)
    name = READERS[number % len(READERS)]
    variants = seeds[name]
    donor = random.choice(seeds[random.choice(READERS)])
    donor = donor if donor.is_file() else next(path for path in sorted(donor.rglob("*")) if path.is_file())
    path = copy(variants[number // len(READERS) % len(variants)], folder)
    mutate_tree(path, random, donor.read_bytes())
    return name, path


def test_every_reader_has_sound_files_and_reads_them(seeds, tmp_path):
    assert set(seeds) == set(READERS)
    with reading(tmp_path) as reader:
        for paths in seeds.values():
            for path in paths:
                assert (str(path), reader.read(path).outcome) == (str(path), "read")


@pytest.mark.timeout(1200)
def test_damaged_files_are_read_or_refused_and_nothing_else(seeds, tmp_path):
    print(f"\n{FILES} files, seeds {FIRST_SEED} to {FIRST_SEED + FILES - 1}")
    failures, most_bytes, descriptors = [], 0, []
    outcomes: Counter[tuple[str, str]] = Counter()
    with reading(tmp_path) as reader:
        for number in range(FIRST_SEED, FIRST_SEED + FILES):
            folder = tmp_path / f"seed-{number}"
            name, path = damaged(number, seeds, folder)
            answer = reader.read(path, number % 4 == 0)
            if answer.outcome.startswith("failed: no end"):
                # Once more by itself: others may have had the machine.
                answer = reader.read(path, number % 4 == 0)
            outcomes[name, answer.outcome.split(":")[0]] += 1
            most_bytes = max(most_bytes, answer.peak_bytes)
            if answer.failure:
                failures.append(f"seed {number}, {name}, kept as {path}: {answer.failure}")
            else:
                shutil.rmtree(folder)
            descriptors.append(answer.files)
    for (name, outcome), count in sorted(outcomes.items()):
        print(f"{name:12} {outcome:8} {count}")
    print(
        f"most memory {most_bytes >> 20} MiB; descriptors {min(filter(None, descriptors))} to {max(descriptors)}"
    )
    assert not failures, "\n".join(failures)
    # Damage must do damage, and not always the same.
    assert sum(count for (_, outcome), count in outcomes.items() if outcome == "refused") > FILES // 4
    assert sum(count for (_, outcome), count in outcomes.items() if outcome == "read") > FILES // 20


async def test_a_damaged_file_of_every_format_ends_its_import_alone(seeds, tmp_path):
    store = store_values(ObjectStoreSettings(object_store_url=f"file://{tmp_path}/store"))

    outcomes: list[str] = []

    async def progress(done: int, total: int) -> None:
        assert done <= total

    for number in range(FIRST_SEED, FIRST_SEED + len(READERS)):
        _, path = damaged(number, seeds, tmp_path / str(number))
        task = {
            "kind": "import",
            "store": store,
            "path": str(path),
            "prefix": f"volume-{number}",
            "name": "a",
            "voxel_size_nm": [50, 5, 4.6],
            "options": SourceOptions(scratch_dir=tmp_path).written(),
            "reference": False,
            "upload": "",
        }
        try:
            done = await run_task(task, WorkerLimits(8 << 30, 60.0), progress)
            outcomes.append(done["format"])
        except BiosegmentError as error:
            outcomes.append(f"{error.reason} {error.message}")
    print("\n".join(outcomes))
    # What the process says when it dies or does not know what happened.
    bad = ("WORKER_KILLED", "WORKER_FAILED", "OUT_OF_MEMORY", "TOO_SLOW")
    assert not [one for one in outcomes if one.startswith(bad)]
    assert len(outcomes) == len(READERS)
