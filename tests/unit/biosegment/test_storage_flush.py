from __future__ import annotations

import threading
from pathlib import Path

from biosegment.storage.flush import flush_below


def test_what_the_array_engine_writes_meanwhile_does_not_disturb(tmp_path: Path) -> None:
    """A row of shards is flushed while its next shards are on their way: files appear and change their names."""
    row = tmp_path / "array" / "c" / "0"
    row.mkdir(parents=True)
    for number in range(20):
        (row / f"finished-{number}").write_bytes(b"voxels")
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            staged = row / f"{number % 50}.__lock"
            staged.write_bytes(b"more")
            staged.rename(row / str(number % 50))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(15):
            flush_below(tmp_path, [row, tmp_path / "absent"])
    finally:
        ended.set()
        writer.join()
    assert (row / "finished-0").read_bytes() == b"voxels"
