"""Imports planes in order: every level keeps its current row of shards and writes it when it is full."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from biosegment.errors import BiosegmentError
from biosegment.storage.arrays import Array, Pending
from biosegment.storage.multiscale import Level
from biosegment.volume import Index, Region
from biosegment_datastore.formats.source import VolumeSource, Voxels, read_into
from biosegment_datastore.imports.intensity import IntensityGatherer
from biosegment_datastore.imports.progress import ImportProgress
from biosegment_datastore.imports.target import Checkpoints, ImportTarget
from biosegment_datastore.pyramid import downsample

_BUFFERS = 2
"""One row of a level is on its way to the store while the next one fills."""


class SlabImport:
    """One import; see `biosegment_datastore.imports.importing`."""

    def __init__(
        self,
        source: VolumeSource,
        target: ImportTarget,
        levels: tuple[Level, ...],
        arrays: tuple[Array, ...],
        gatherer: IntensityGatherer,
        found: ImportProgress | None,
    ) -> None:
        self._source, self._target, self._gatherer = source, target, gatherer
        self._levels = [_LevelWriter(*each) for each in zip(arrays, levels, strict=True)]
        self._checkpoints = Checkpoints(target, levels, arrays, found)
        self._snapshot: _Snapshot | None = None
        if found is not None:
            target.log(f"going on from slice {found.planes[0]}")
            self._restore(found.planes)

    def run(self) -> None:
        """Copy what is missing; raises when nothing is read or written any more."""
        depth = self._source.shape.z
        slabs = self._slabs()
        try:
            for start, stop in slabs:
                self._gatherer.add(start, self._levels[0].view(start, stop))
                self._levels[0].filled = stop
                self._hand_down(0)
                self._keep(wait=False)
                self._target.report(stop, depth)
            for writer in self._levels:
                writer.settle()
            self._checkpoints.save(self._written, self._gatherer.state())
            self._checkpoints.wait()
        finally:
            # Also after a failure: the caller is about to close the source and to remove what these writes make.
            slabs.close()
            for writer in self._levels:
                writer.settle_quietly()
            self._checkpoints.close()

    @property
    def _written(self) -> tuple[int, ...]:
        return tuple(writer.written for writer in self._levels)

    def _slabs(self) -> Generator[tuple[int, int], None, None]:
        """Planes that are read, several at a time; the next ones are read while the caller works on these."""
        top = self._levels[0]
        slabs = [
            (start, min(start + self._source.slab_planes, row + top.depth, self._source.shape.z))
            for row in range(top.filled, self._source.shape.z, top.depth)
            for start in range(row, min(row + top.depth, self._source.shape.z), self._source.slab_planes)
        ]
        with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
            ahead: Future[None] | None = None
            for number, (start, stop) in enumerate(slabs):
                if ahead is None:
                    ahead = reader.submit(self._read, start, stop, top.view(start, stop))
                ahead.result()
                ahead = None
                if number + 1 < len(slabs):
                    following = slabs[number + 1]
                    ahead = reader.submit(self._read, *following, top.view(*following))
                yield start, stop

    def _read(self, start: int, stop: int, out: Voxels) -> None:
        shape = self._source.shape
        read_into(self._source, Region(Index(start, 0, 0), Index(stop, shape.y, shape.x)), out)

    def _hand_down(self, number: int) -> None:
        """Halve what a level has got into the level below, and write its row when that is full."""
        writer = self._levels[number]
        if number + 1 < len(self._levels):
            below = self._levels[number + 1]
            step = _step(writer.level, below.level)
            part = writer.to_halve(step.z)
            planes = downsample(part, step) if len(part) else part
            while len(planes):
                planes = planes[below.take(planes) :]
                self._hand_down(number + 1)
        if writer.is_full:
            writer.write()
            if number == 0:
                self._keep(wait=True)
                writes = [write for each in self._levels for write in each.pending]
                self._snapshot = _Snapshot(self._written, self._gatherer.state(), writes)

    def _keep(self, wait: bool) -> None:
        """Make the last snapshot durable when its writes have ended, or wait for that."""
        snapshot = self._snapshot
        if snapshot is None or not (wait or all(write.done() for write in snapshot.writes)):
            return
        for write in snapshot.writes:
            write.result()
        self._checkpoints.save(snapshot.planes, snapshot.statistics)
        self._snapshot = None

    def _restore(self, planes: tuple[int, ...]) -> None:
        """Fill the rows of the lower levels as they were; level 0 begins a new row."""
        for writer, done in zip(self._levels, planes, strict=True):
            writer.written = writer.filled = writer.halved = done
        for above, below in zip(self._levels, self._levels[1:], strict=False):
            step = _step(above.level, below.level)
            for start in range(below.filled * step.z, above.written, 16):
                stop = min(start + 16, above.written)
                part = above.array.read((slice(start, stop), slice(None), slice(None)))
                below.take(downsample(part, step))
            rest = above.to_halve(step.z)
            if len(rest):
                below.take(downsample(rest, step))


def _step(above: Level, below: Level) -> Index:
    return Index(*(b // a for a, b in zip(above.downsampling, below.downsampling, strict=True)))


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The state at the end of a row of level 0: what may be relied on when all `writes` have ended."""

    planes: tuple[int, ...]
    statistics: dict[str, Any]
    writes: list[Pending]


@dataclass(slots=True)
class _LevelWriter:
    """Planes of a level on their way to the store; all numbers count planes from the level's beginning.

    Attributes:
        filled: Planes that have come.
        halved: Planes that were handed down.
        written: Planes whose writing has begun; whole rows of shards.
    """

    array: Array
    level: Level
    filled: int = 0
    halved: int = 0
    written: int = 0
    _rows: dict[int, Voxels] = field(default_factory=dict)
    _free: list[Voxels] = field(default_factory=list)
    _pending: deque[tuple[Pending, Voxels]] = field(default_factory=deque)

    @property
    def depth(self) -> int:
        """Planes of a row of shards."""
        return min(self.array.layout.shard[0], self.level.shape.z)

    @property
    def is_full(self) -> bool:
        return self.filled > self.written and (
            self.filled % self.depth == 0 or self.filled == self.level.shape.z
        )

    @property
    def pending(self) -> list[Pending]:
        return [write for write, _ in self._pending]

    def view(self, start: int, stop: int) -> Voxels:
        """Memory for planes of one row; the row before may still be on its way."""
        row = start // self.depth
        if row not in self._rows:
            if not self._free and len(self._rows) + len(self._pending) >= _BUFFERS:
                self._settle_one()
            whole = (self.depth, *self.level.shape[1:])
            self._rows[row] = self._free.pop() if self._free else np.empty(whole, self.array.dtype)
        first = row * self.depth
        return self._rows[row][start - first : stop - first]

    def take(self, planes: Voxels) -> int:
        """Copy as many planes as fit into the row; return how many."""
        count = min(len(planes), self.depth - self.filled % self.depth)
        self.view(self.filled, self.filled + count)[...] = planes[:count]
        self.filled += count
        return count

    def to_halve(self, step: int) -> Voxels:
        """The planes that have come since the last call, in groups of `step`; the odd last one at the very end."""
        start = self.halved
        self.halved = self.filled if self.is_full else self.filled - self.filled % step
        if start >= self.halved:
            return np.empty((0, 0, 0), self.array.dtype)
        return self.view(start, self.halved)

    def write(self) -> None:
        """Begin to write the row, which is full."""
        row = self.written // self.depth
        buffer = self._rows.pop(row)
        region = (slice(self.written, self.filled), slice(None), slice(None))
        write = self.array.start_write(region, buffer[: self.filled - self.written])
        self._pending.append((write, buffer))
        self.written = self.filled

    def settle(self) -> None:
        """Wait for everything that is on its way."""
        while self._pending:
            self._settle_one()

    def settle_quietly(self) -> None:
        while self._pending:
            try:
                self._settle_one()
            except BiosegmentError:  # the failure that matters is already on its way up
                continue

    def _settle_one(self) -> None:
        write, buffer = self._pending.popleft()
        write.result()
        self._free.append(buffer)
