"""Lays annotations into the array of an annotations layer.

What the layer holds is defined by its records alone: at every voxel, what annotations of class values that hold say,
laid upon each other in the order of their records, and then, in their order, those of instances, as the class that they
are of. So a correction of objects stays on top of whatever is painted later.

How it comes about, record by record or all at once, leaves the same voxels, hence the same bytes:

- An annotation that is laid a second time, and then those that follow it again too, changes nothing (`overlay`).
- Where the order of commits is not the order of laying (class values committed below instances) and where an annotation
  ceases to hold or holds again, the region is made anew from all that holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import product

import numpy as np

from biosegment.storage.arrays import Array
from biosegment.storage.objects import Objects
from biosegment.volume import Index, Region
from biosegment_datastore.annotations.annotation import (
    Action,
    Annotation,
    AnnotationKind,
    Ids,
    Labels,
    Record,
    decode_block,
    overlay,
)
from biosegment_datastore.sql.annotation import SqlAnnotations

_VOXELS_AT_ONCE = 32 << 20
"""Of label blocks that are in memory together, unless one is larger."""

Laid = tuple[Annotation, Labels | Ids]


class Laying:
    """Writes annotations into arrays.

    Args:
        annotations: The rows.
        objects: Where label blocks are.
    """

    def __init__(self, annotations: SqlAnnotations, objects: Objects) -> None:
        self._annotations = annotations
        self._objects = objects

    async def apply(self, array: Array, records: Sequence[Record]) -> AsyncIterator[None]:
        """Bring an array up to date with records of one volume; yields after each step.

        Their annotations are in the state of now, so that one may have been taken back by a later record already. In
        the end the array is what the annotations that hold make.
        """
        committed = [
            record.annotation
            for record in records
            if record.action is Action.COMMITTED and record.annotation.state.holds
        ]
        async for _ in self.lay(array, committed):
            yield
        anew = [record.annotation for record in records if record.action is not Action.COMMITTED]
        for annotation in (*anew, *await self._below_instances(committed)):
            await self._make_anew(array, annotation)
            yield

    async def lay(self, array: Array, annotations: Sequence[Annotation]) -> AsyncIterator[None]:
        """Lay annotations of one volume upon what is there, in their order; yields after each step."""
        for run in _runs(annotations):
            laid = await asyncio.gather(*(asyncio.to_thread(self._read, each) for each in run))
            # Shard by shard: each is read and written once, however many annotations touch it.
            for parts in _by_shard(list(zip(run, laid, strict=True)), Index(*array.layout.shard)).values():
                region = _bounds([shared for _, shared in parts])
                below: Labels = await array.read_async(region)
                below = await asyncio.to_thread(_overlay_all, below, region, parts)
                await array.write_async(region, below)
                yield

    async def _below_instances(self, committed: Sequence[Annotation]) -> Sequence[Annotation]:
        """Those of class values that do not belong on top: instances hold there."""
        plain = [each for each in committed if each.kind is not AnnotationKind.INSTANCES]
        if not plain:
            return []
        bounds = _bounds([each.region for each in plain])
        instances = await self._annotations.holding_instances(plain[0].project_id, plain[0].volume_id, bounds)
        return [
            each for each in plain if any(other.intersection(each.region) is not None for other in instances)
        ]

    async def _make_anew(self, array: Array, changed: Annotation) -> None:
        region = changed.region
        fresh = np.zeros(region.shape, np.uint8)
        for each in await self._annotations.holding(changed.project_id, changed.volume_id, region):
            shared = each.region.intersection(region)
            if shared is not None:
                labels = await asyncio.to_thread(self._read, each)
                fresh = await asyncio.to_thread(_overlay_all, fresh, region, [((each, labels), shared)])
        await array.write_async(region, fresh)

    def _read(self, annotation: Annotation) -> Labels | Ids:
        return decode_block(self._objects.blocking.get(annotation.key), annotation)


def _runs(annotations: Sequence[Annotation]) -> Iterator[list[Annotation]]:
    run: list[Annotation] = []
    voxels = 0
    for each in annotations:
        if run and voxels + each.region.size > _VOXELS_AT_ONCE:
            yield run
            run, voxels = [], 0
        run.append(each)
        voxels += each.region.size
    if run:
        yield run


def _by_shard(laid: Sequence[Laid], shard: Index) -> dict[tuple[int, ...], list[tuple[Laid, Region]]]:
    """The parts of annotations in each shard, in order; whole annotations where they fit."""
    parts: dict[tuple[int, ...], list[tuple[Laid, Region]]] = {}
    for each in laid:
        region = each[0].region
        steps = [
            range(low // edge, (high - 1) // edge + 1)
            for low, high, edge in zip(region.start, region.stop, shard, strict=True)
        ]
        for cell in product(*steps):
            start = Index(*(place * edge for place, edge in zip(cell, shard, strict=True)))
            stop = Index(*(low + edge for low, edge in zip(start, shard, strict=True)))
            shared = region.intersection(Region(start, stop))
            assert shared is not None
            parts.setdefault(cell, []).append((each, shared))
    return parts


def _bounds(regions: Sequence[Region]) -> Region:
    """The smallest box around regions."""
    start = Index(*(min(region.start[axis] for region in regions) for axis in range(3)))
    stop = Index(*(max(region.stop[axis] for region in regions) for axis in range(3)))
    return Region(start, stop)


def _overlay_all(below: Labels, region: Region, parts: Sequence[tuple[Laid, Region]]) -> Labels:
    if not below.flags.writeable:
        below = below.copy()
    for (annotation, labels), shared in parts:
        overlay(
            below[shared.relative_to(region).slices],
            labels[shared.relative_to(annotation.region).slices],
            annotation.class_scope,
        )
    return below
