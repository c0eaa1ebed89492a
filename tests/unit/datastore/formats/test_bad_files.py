"""What is wrong with files that labs bring, over all formats: each is refused by its name, with what is wrong."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from biosegment_datastore.formats.detection import READERS, open_source

from biosegment.errors import BiosegmentError
from tests.system.reader_seed import SEEDS
from tests.unit.datastore.formats.bad_file import CASES
from tests.unit.datastore.formats.reading import open_files, opened_since, options

NOBODY = 65534


def outcome(path: Path, scratch: Path) -> str:
    """'READ', or the reason for which a file is refused; the message must name it."""
    try:
        with open_source(path, options(scratch)) as source:
            for start in range(0, source.shape.z, source.slab_planes):
                source.read_slab(start, min(start + source.slab_planes, source.shape.z))
    except BiosegmentError as error:
        is_clear = path.name in error.message and error.http_status < 500
        return error.reason if is_clear else f"UNCLEAR: {error!r}"
    return "READ"


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_with_its_name_and_leaves_nothing(tmp_path, case):
    make, reasons = CASES[case]
    scratch, folder = tmp_path / "scratch", tmp_path / "in"
    scratch.mkdir()
    folder.mkdir()
    path, before = make(folder), open_files()
    assert outcome(path, scratch) in reasons
    assert list(scratch.iterdir()) == []
    # Chunk stores close their files in threads of their own.
    deadline = time.monotonic() + 5
    while opened_since(before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert opened_since(before) == []


SINGLE = [(reader, number) for reader, makes in SEEDS.items() for number in range(len(makes))]


@pytest.mark.parametrize(("reader", "number"), SINGLE)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_of_any_format_is_refused(tmp_path, reader, number, kept):
    path, scratch = SEEDS[reader][number](tmp_path), tmp_path / "scratch"
    scratch.mkdir()
    assert outcome(path, scratch) == "READ"
    beside = path.parent if path.suffix in (".nhdr", ".hdr") else path
    # Of a folder the largest file, which holds voxels.
    largest = max(
        (one for one in [beside, *beside.rglob("*")] if one.is_file()), key=lambda one: one.stat().st_size
    )
    largest.write_bytes(largest.read_bytes()[: int(largest.stat().st_size * kept)])
    assert outcome(path, scratch) in ("TRUNCATED_FILE", "UNREADABLE_FILE", "UNKNOWN_FORMAT", "SLICES_DIFFER")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_permission_is_refused(reader):
    # Not below pytest's folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="unreadable-"))
    try:
        folder.chmod(0o755)
        path = SEEDS[reader][0](folder)
        for one in [path, *path.rglob("*")]:
            one.chmod(0o700 if one.is_dir() and one != path else 0)
        with as_nobody():
            assert outcome(path, folder) in ("UNREADABLE_FILE", "UNKNOWN_FORMAT", "FILE_NOT_FOUND")
        # Nor when the folder above may not be entered.
        folder.chmod(0)
        with as_nobody():
            assert outcome(path, folder) in ("UNREADABLE_FILE", "FILE_NOT_FOUND")
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root reads everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
