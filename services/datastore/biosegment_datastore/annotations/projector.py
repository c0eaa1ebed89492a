"""Lays the annotation records of a volume, in order, into its annotations layer.

The records are the truth; the layer can always be made anew from them. One instance at a time writes a layer: it holds
a claim in SQL that runs out when the instance dies. What it applied is stored after it was written, so that a crash in
between applies some records again, which changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

import structlog

from biosegment.errors import AlreadyExists, BiosegmentError, NotFound, Unavailable
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.objects import Objects
from biosegment.volume import Index
from biosegment_datastore.annotations.laying import Laying
from biosegment_datastore.layer import ANNOTATIONS_LAYER, Layer
from biosegment_datastore.reading import OpenArrays
from biosegment_datastore.request import Request
from biosegment_datastore.sql.annotation import SqlAnnotations
from biosegment_datastore.sql.layer import SqlLayers, annotations_layer
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.projection import SqlProjections
from biosegment_datastore.sql.volume import SqlVolumes

_BATCH = 2000
_PAUSE_S = 1.0
_GATHER_S = 10.0
"""Records gather until there is a pause, for so long at most; who reads the layer does not wait for that."""
_WAIT_FOR_OTHERS_S = 0.1
_log = structlog.get_logger("biosegment_datastore.annotations.projector")


class Projector:
    """Keeps the annotations layers of all volumes up to date.

    Args:
        projections: Positions and claims.
        annotations: The records.
        layers: The rows of layers.
        volumes: The rows of volumes.
        projects: The rows of projects.
        arrays: Where layers are made.
        open_arrays: Where they are written.
        objects: Where label blocks are.
        lease_s: Lifetime of a claim.
        poll_s: How often records of other instances are looked for.
    """

    def __init__(
        self,
        projections: SqlProjections,
        annotations: SqlAnnotations,
        layers: SqlLayers,
        volumes: SqlVolumes,
        projects: SqlProjects,
        arrays: Arrays,
        open_arrays: OpenArrays,
        objects: Objects,
        lease_s: float,
        poll_s: float,
    ) -> None:
        self.instance = new_id()
        self._projections = projections
        self._annotations = annotations
        self._layers = layers
        self._volumes = volumes
        self._projects = projects
        self._arrays = arrays
        self._open_arrays = open_arrays
        self._objects = objects
        self._laying = Laying(annotations, objects)
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._news = asyncio.Event()
        self._locks: OrderedDict[tuple[str, str], asyncio.Lock] = OrderedDict()

    def wake(self) -> None:
        """Say that there are new records."""
        self._news.set()

    async def run(self) -> None:
        """Apply records until cancelled."""
        try:
            while True:
                self._news.clear()
                try:
                    for behind in await self._projections.behind():
                        await self._advance_safely(behind.project_id, behind.volume_id)
                except Unavailable as error:
                    _log.warning("projections_unavailable", reason=error.reason, message=error.message)
                try:
                    async with asyncio.timeout(self._poll_s):
                        await self._news.wait()
                except TimeoutError:
                    continue
                await self._gather()
        finally:
            await asyncio.shield(self._projections.release_all(self.instance))

    async def _gather(self) -> None:
        # Neighbouring annotations are in the same shards, and a shard is written as a whole.
        deadline = time.monotonic() + _GATHER_S
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < deadline:
                self._news.clear()
                async with asyncio.timeout(_PAUSE_S):
                    await self._news.wait()

    async def catch_up(self, project_id: str, volume_id: str, timeout_s: float) -> None:
        """Return when the layer holds every record made until now.

        Raises:
            Unavailable: PROJECTION_BEHIND when that takes longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            projection = await self._projections.find(project_id, volume_id)
            if projection is None or projection.is_current:
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    "PROJECTION_BEHIND",
                    f"the annotations layer of volume {volume_id!r} is behind its records; try again in a moment",
                )
            if not await self._advance(project_id, volume_id):
                await asyncio.sleep(_WAIT_FOR_OTHERS_S)

    async def ensure_layer(self, project_id: str, volume_id: str) -> Layer:
        """The annotations layer of a volume, made when it is missing; NotFound VOLUME_NOT_FOUND."""
        found = await self._layers.find(project_id, volume_id, ANNOTATIONS_LAYER)
        if found is not None:
            return found
        volume = await self._volumes.get(project_id, volume_id)
        project = await self._projects.get(project_id)
        layout = ArrayLayout.for_shape(volume.shape)
        key = f"{project.storage_key}/layers/{new_id()}"
        chunk, shard = Index(*layout.chunk), Index(*layout.shard)
        layer = annotations_layer(project_id, volume_id, volume.shape, key, chunk, shard)
        await self._layers.reserve(key)
        await self._make_array(layer)
        try:
            return await self._layers.create(layer, Request(project_id, "", ""))
        except AlreadyExists:
            # Somebody was faster; our array is garbage by the reservation.
            return await self._layers.get(project_id, volume_id, ANNOTATIONS_LAYER)

    async def rebuild(self, project_id: str, volume_id: str) -> Layer:
        """Make the layer anew from the records, in a new place, and switch to it.

        Raises:
            Unavailable: PROJECTION_BUSY when another instance is writing the layer.
        """
        layer = await self.ensure_layer(project_id, volume_id)
        if await self._projections.find(project_id, volume_id) is None:
            return layer
        async with self._lock(project_id, volume_id):
            claim = await self._projections.claim(project_id, volume_id, self.instance, self._lease_s)
            if claim is None:
                raise _busy(volume_id)
            layer = await self._layers.get(project_id, volume_id, ANNOTATIONS_LAYER)
            fresh = replace(layer, attempt=layer.attempt + 1)
            await self._layers.reserve_next(layer)
            if await self._open_arrays.exists(fresh.key):
                # Left by a rebuild that died: nobody may know what is in it.
                await self._objects.delete_prefix(f"{fresh.key}/")
                self._open_arrays.drop(fresh.key)
            await self._make_array(fresh)
            array = await self._open_arrays.get(fresh.key, immutable=False)
            holding = await self._annotations.holding(project_id, volume_id)
            steps = self._laying.lay(array, holding)
            if not await self._follow(project_id, volume_id, steps, rebuilt=layer):
                raise _busy(volume_id)
            sequence = claim.wanted_sequence
            args = (project_id, volume_id, self.instance, layer.storage_key, fresh.attempt, sequence)
            if not await self._projections.replace(*args):
                raise _busy(volume_id)
            await self._projections.release(project_id, volume_id, self.instance)
        return await self._layers.get(project_id, volume_id, ANNOTATIONS_LAYER)

    async def _advance_safely(self, project_id: str, volume_id: str) -> None:
        try:
            await self._advance(project_id, volume_id)
        except NotFound:
            _log.info("projection_gone", project=project_id, volume=volume_id)
        except BiosegmentError as error:
            _log.error(
                "projection_failed",
                project=project_id,
                volume=volume_id,
                reason=error.reason,
                message=error.message,
            )

    async def _advance(self, project_id: str, volume_id: str) -> bool:
        """Apply what there is; False when another instance holds the claim."""
        async with self._lock(project_id, volume_id):
            claim = await self._projections.claim(project_id, volume_id, self.instance, self._lease_s)
            if claim is None:
                return False
            while not claim.is_current:
                layer = await self.ensure_layer(project_id, volume_id)
                array = await self._open_arrays.get(layer.key, immutable=False)
                records = await self._annotations.records(
                    project_id, claim.applied_sequence, _BATCH, volume_id
                )
                after = None
                if await self._follow(project_id, volume_id, self._laying.apply(array, records)):
                    failpoint("datastore.projection.applied")
                    sequence = records[-1].sequence if records else claim.wanted_sequence
                    after = await self._projections.applied(
                        project_id, volume_id, self.instance, claim.applied_sequence, sequence
                    )
                if after is None:
                    await self._projections.rewind(project_id, volume_id, claim.applied_sequence)
                    return False
                claim = after
                if claim.is_current:
                    return True
            await self._projections.release(project_id, volume_id, self.instance)
        return True

    async def _follow(
        self, project_id: str, volume_id: str, steps: AsyncIterator[None], rebuilt: Layer | None = None
    ) -> bool:
        """Take steps and keep the claim, and a rebuilt layer's new place, meanwhile; False when outclaimed."""
        claimed_s = time.monotonic()
        async with aclosing(cast(AsyncGenerator[None], steps)) as following:
            async for _ in following:
                if time.monotonic() - claimed_s > self._lease_s / 3:
                    if (
                        await self._projections.claim(project_id, volume_id, self.instance, self._lease_s)
                        is None
                    ):
                        return False
                    if rebuilt is not None:
                        await self._layers.reserve_next(rebuilt)
                    claimed_s = time.monotonic()
        return True

    async def _make_array(self, layer: Layer) -> None:
        layout = ArrayLayout(tuple(layer.shard), tuple(layer.chunk))
        await asyncio.to_thread(
            lambda: self._arrays.create(layer.key, tuple(layer.shape), layer.data_type, layout=layout)
        )

    def _lock(self, project_id: str, volume_id: str) -> asyncio.Lock:
        lock = self._locks.setdefault((project_id, volume_id), asyncio.Lock())
        self._locks.move_to_end((project_id, volume_id))
        while len(self._locks) > 1024 and not next(iter(self._locks.values())).locked():
            self._locks.popitem(last=False)
        return lock


def _busy(volume_id: str) -> Unavailable:
    return Unavailable(
        "PROJECTION_BUSY",
        f"another instance is writing the annotations layer of volume {volume_id!r}; try again",
    )
