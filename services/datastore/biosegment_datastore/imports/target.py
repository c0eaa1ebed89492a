"""Where an import writes, whom it tells, and what it keeps for another attempt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biosegment.errors import FailedPrecondition
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.multiscale import Level
from biosegment.storage.objects import BlockingObjects
from biosegment_datastore.imports.layout import DEFAULT_MEMORY, ImportMemory
from biosegment_datastore.imports.progress import ImportProgress, count_shards, save_progress

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """Where an import writes, and whom it tells.

    Attributes:
        arrays: Where the voxels go; best opened with `sync=False`.
        objects: The same store, for the metadata.
        prefix: Key of the image, such as `volumes/{id}.ome.zarr`.
        identity: Of the source; '' when nothing is to be kept for another attempt.
        progress: Called after every few slices.
        should_stop: Asked as often; True cancels.
        log: Told lines for people.
        memory: What may be kept in memory.
        scratch_dir: Local folder for planes that must be unpacked before a part of them can be read.
    """

    arrays: Arrays
    objects: BlockingObjects
    prefix: str
    identity: str = ""
    progress: Progress = lambda done, total: None
    should_stop: Callable[[], bool] = lambda: False
    log: Callable[[str], None] = lambda line: None
    memory: ImportMemory = DEFAULT_MEMORY
    scratch_dir: Path = Path(tempfile.gettempdir())

    def report(self, done: int, total: int) -> None:
        """Tell how far it is; FailedPrecondition IMPORT_CANCELLED when it should stop."""
        self.progress(done, total)
        if self.should_stop():
            raise FailedPrecondition("IMPORT_CANCELLED", "the import was cancelled; nothing of it is kept")


class Checkpoints:
    """Makes what was written durable, and keeps how far that is; in a thread of its own, one at a time.

    Args:
        target: Where to.
        levels: Of the image.
        arrays: One for each level.
        found: What an earlier attempt kept.
    """

    def __init__(
        self,
        target: ImportTarget,
        levels: tuple[Level, ...],
        arrays: tuple[Array, ...],
        found: ImportProgress | None,
    ) -> None:
        self._target, self._levels, self._arrays = target, levels, arrays
        self._planes = list(found.planes) if found else [0] * len(levels)
        self._shards = list(found.shards) if found else [0] * len(levels)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._last: Future[None] | None = None

    def save(self, planes: tuple[int, ...], statistics: dict[str, Any], pieces: int = 0) -> None:
        """Begin to keep a state: of every level that many planes are written. Waits for the one before.

        `pieces` says that beyond them so many pieces of the first unfinished row are written.
        """
        self.wait()
        self._last = self._thread.submit(self._save, planes, statistics, pieces)

    def wait(self) -> None:
        """Return when the last state is durable; raise what went wrong."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Wait, whatever went wrong."""
        self._thread.shutdown()

    def _save(self, planes: tuple[int, ...], statistics: dict[str, Any], pieces: int) -> None:
        unfinished = next(
            (n for n, level in enumerate(self._levels) if pieces and planes[n] < level.shape.z), None
        )
        for number, (array, level) in enumerate(zip(self._arrays, self._levels, strict=True)):
            depth, start, stop = array.layout.shard[0], self._planes[number], planes[number]
            if stop > start:
                array.make_durable(slice(start, stop))
                self._shards[number] += count_shards(self._target.objects, array.name, start, stop, depth)
                self._planes[number] = stop
            elif number == unfinished:
                array.make_durable(slice(stop, min(stop + depth, level.shape.z)))
        if self._target.identity:
            progress = ImportProgress(
                self._target.identity, tuple(self._planes), tuple(self._shards), pieces, statistics
            )
            save_progress(self._target.objects, self._target.prefix, progress)
