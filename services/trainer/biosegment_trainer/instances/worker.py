"""The work on one block, or on what all blocks found, inside of a worker."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.failpoint import failpoint
from biosegment.storage.arrays import Arrays, Voxels
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Index, Region
from biosegment_trainer.instances.block import Faces, Ids
from biosegment_trainer.instances.distance import capped_distance
from biosegment_trainer.instances.joining import BlockObjects, join
from biosegment_trainer.instances.labelling import Box, Heights, Mask, components, flood
from biosegment_trainer.instances.separation import MAX_OBJECTS, WATERSHED
from biosegment_trainer.instances.task import InstancesTask, SourceArray, Stage

_TABLES_AT_ONCE: Final = 256
_CACHE_BYTES: Final = 64 << 20


class InstancesWorker:
    """Does the pieces of work of a job, in any order within a stage.

    Args:
        task: The job.
        check: Called now and then; raises to end the work.
        max_objects: Most objects of a layer.
    """

    def __init__(
        self, task: InstancesTask, check: Callable[[], None] = lambda: None, max_objects: int = MAX_OBJECTS
    ) -> None:
        self._task = task
        self._cut = task.cut
        self._separation = task.separation
        self._check = check
        self._max_objects = max_objects
        self._arrays = Arrays(task.store, cache_bytes=_CACHE_BYTES)
        self._objects = open_blocking_objects(task.store)

    def compute(self, stage: Stage, number: int) -> None:
        """Do a piece of work and write down that it is done.

        Raises:
            FailedPrecondition: TOO_MANY_OBJECTS.
            BiosegmentError: What reading or writing met with.
        """
        self._check()
        match stage:
            case Stage.LABEL:
                self._label(number)
            case Stage.FLOOD:
                self._flood(number)
            case Stage.WRITE:
                self._write(number)
            case _:
                self._join(stage)
        failpoint(f"trainer.instances.{stage}_done")

    def _label(self, number: int) -> None:
        seam = self._cut.with_seam(number)
        if self._separation.method == WATERSHED:
            mask: Mask = self._distance(seam) >= np.float32(self._separation.seed_distance_nm)
        else:
            mask = self._mask(self._task.source, seam)
        self._check()
        ids = components(mask, self._separation.connectivity)
        self._record(Stage.LABEL, number, ids, np.empty(0, np.uint32))

    def _flood(self, number: int) -> None:
        around = self._cut.around(number, self._separation.flood)
        seeds = self._joined(Stage.LABEL, Stage.JOIN_SEEDS, around)
        self._check()

        def height(box: Box) -> Heights:
            self._check()
            start, stop = Index(*(each.start for each in box)), Index(*(each.stop for each in box))
            region = Region(start, stop).shifted(around.start)
            boundary = self._task.boundary
            if boundary is not None and boundary.is_graded:
                return self._read(boundary.key, region)
            return np.negative(self._distance(region))

        part = self._cut.with_seam(number).relative_to(around)
        mask = self._mask(self._task.source, around)
        flooded = flood(mask, seeds, height, part, self._separation.connectivity)
        self._record(Stage.FLOOD, number, flooded.ids, flooded.seeds)

    def _join(self, stage: Stage) -> None:
        found = Stage.LABEL if stage is Stage.JOIN_SEEDS else self._task.found
        min_size = 0 if stage is Stage.JOIN_SEEDS else self._separation.min_size

        def load(number: int) -> BlockObjects:
            return self._load(found, number)

        joined = join(self._cut, load, min_size, self._check, self._max_objects)
        tables = [
            (self._task.table_key(stage, number), _packed(table=table))
            for number, table in joined.tables.items()
        ]
        for first in range(0, len(tables), _TABLES_AT_ONCE):
            self._check()
            self._objects.put_many(tables[first : first + _TABLES_AT_ONCE])
        summary = {"objects": joined.objects, "dropped": joined.dropped}
        self._objects.put(self._task.done_key(stage, 0), json.dumps(summary).encode())

    def _write(self, number: int) -> None:
        core = self._cut.core(number)
        ids = self._joined(self._task.found, Stage.JOIN, core)
        self._check()
        self._arrays.open(self._task.target).write(core, ids)
        self._objects.put(self._task.done_key(Stage.WRITE, number), b"")

    def _mask(self, source: SourceArray, region: Region) -> Mask:
        values = self._read(source.key, region)
        mask: Mask = (values >= source.low) & (values <= source.high)
        return mask

    def _distance(self, region: Region) -> NDArray[np.float32]:
        """Of the voxels of a region to the surface or the boundary, in nm, up to the distance of seeds."""
        separation = self._separation
        wide = region.padded(separation.reach, self._cut.domain)
        inside = self._mask(self._task.source, wide)
        if self._task.boundary is not None:
            inside &= ~self._mask(self._task.boundary, wide)
        distance = capped_distance(inside, separation.spacing_nm, separation.seed_distance_nm)
        return distance[region.relative_to(wide).slices]

    def _read(self, key: str, region: Region) -> Voxels:
        return self._arrays.open(key, immutable=True).read(region)

    def _joined(self, stage: Stage, join: Stage, region: Region) -> Ids:
        """What a stage found in a region, with the ids of all blocks: uint32 (z, y, x)."""
        found = self._arrays.open(self._task.ids_key(stage))
        ids: Ids = np.zeros(region.shape, np.uint32)
        for number in self._cut.grid.overlapping(region):
            common = self._cut.core(number).intersection(region)
            assert common is not None
            with np.load(io.BytesIO(self._objects.get(self._task.table_key(join, number)))) as packed:
                table = packed["table"]
            if table.any():
                ids[common.relative_to(region).slices] = table[found.read(common)]
        return ids

    def _record(self, stage: Stage, number: int, ids: Ids, seeds: Ids) -> None:
        """Keep the ids of the core and what others need to know, in this order."""
        core, seam = self._cut.core(number), self._cut.with_seam(number)
        own = ids[core.relative_to(seam).slices]
        self._arrays.open(self._task.ids_key(stage)).write(core, np.ascontiguousarray(own))
        sizes = np.bincount(own.ravel(), minlength=int(ids.max(initial=0)) + 1)
        faces = Faces.of(ids, core, seam)
        planes = {f"face{place}": plane.ids for place, plane in enumerate((*faces.own, *faces.seams))}
        self._objects.put(
            self._task.done_key(stage, number), _packed(sizes=sizes.astype(np.int64), seeds=seeds, **planes)
        )

    def _load(self, stage: Stage, number: int) -> BlockObjects:
        core, seam = self._cut.core(number), self._cut.with_seam(number)
        with np.load(io.BytesIO(self._objects.get(self._task.done_key(stage, number)))) as found:
            planes = iter(range(len(found.files)))
            return BlockObjects(
                found["sizes"],
                Faces.at(core, seam, lambda region: found[f"face{next(planes)}"]),
                found["seeds"],
            )


def _packed(**arrays: Voxels) -> bytes:
    buffer = io.BytesIO()
    save: Any = np.savez_compressed
    save(buffer, **arrays)
    return buffer.getvalue()
