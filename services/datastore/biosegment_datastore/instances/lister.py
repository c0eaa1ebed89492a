"""Catalogues of layers: made once, by the worker process, and remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import structlog

from biosegment.errors import BiosegmentError, NotFound, Unavailable
from biosegment.ids import new_id
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import Objects
from biosegment_datastore.instances.catalogue import Catalogue
from biosegment_datastore.layer import Layer
from biosegment_datastore.sql.instance import InstanceLayer, SqlInstances
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

_KEPT = 8
_log = structlog.get_logger("biosegment_datastore.instances")


class Lister:
    """Knows the objects that layers were written with.

    Args:
        instances: The rows.
        objects: Where catalogues are.
        store: The same, for the worker process.
        limits: Of that process.
        wait_s: How long a caller waits for a catalogue that is being made.
    """

    def __init__(
        self,
        instances: SqlInstances,
        objects: Objects,
        store: ObjectStoreSettings,
        limits: WorkerLimits,
        wait_s: float,
    ) -> None:
        self._instances = instances
        self._objects = objects
        self._store = store
        self._limits = limits
        self._wait_s = wait_s
        self._making: dict[str, asyncio.Task[InstanceLayer]] = {}
        self._kept: OrderedDict[str, Catalogue] = OrderedDict()

    async def catalogue(self, layer: Layer) -> Catalogue:
        """The objects that a layer was written with.

        Raises:
            Unavailable: INSTANCES_BEING_LISTED when that takes longer than `wait_s`; it goes on.
            FailedPrecondition: INSTANCE_IDS_TOO_LARGE.
            NotFound: LAYER_NOT_FOUND when the layer was deleted meanwhile.
        """
        state = await self._instances.find(layer)
        if state is None:
            state = await self._made(layer, "")
        kept = self._kept.get(state.key)
        if kept is None:
            try:
                data = await self._objects.get(state.key)
            except NotFound:
                # Its file is lost, or was not in a backup: the layer still says everything.
                state = await self._made(layer, state.key)
                data = await self._objects.get(state.key)
            kept = self._kept[state.key] = await asyncio.to_thread(Catalogue.decode, data)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(state.key)
        return kept

    async def close(self) -> None:
        """End what is being made."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)

    async def _made(self, layer: Layer, lost: str) -> InstanceLayer:
        task = self._making.get(layer.key)
        if task is None:
            task = self._making[layer.key] = asyncio.create_task(self._make(layer, lost))
            task.add_done_callback(lambda _: self._making.pop(layer.key, None))
        done, _ = await asyncio.wait({task}, timeout=self._wait_s)
        if not done:
            raise Unavailable(
                "INSTANCES_BEING_LISTED",
                f"the objects of {layer.name} are being listed, once before its first edit; try again in a moment",
            )
        return task.result()

    async def _make(self, layer: Layer, lost: str) -> InstanceLayer:
        # Inside of the layer's place, so that it goes when the layer goes, whatever happens before the row is there.
        key = f"{layer.storage_key}/catalogue-{new_id()}"
        task = {"kind": "catalogue", "store": store_values(self._store), "array": layer.key, "key": key}
        made = await run_task(task, self._limits, _ignore)
        _log.info("instances_listed", layer=layer.name, count=made["count"], largest=made["largest"])
        if lost:
            state = await self._instances.replace_catalogue(layer, lost, key)
        else:
            state = await self._instances.enter(layer, key, made["largest"])
        if state.key != key:  # another instance was faster
            try:
                await self._objects.delete(key)
            except BiosegmentError as error:
                _log.warning("catalogue_left", key=key, reason=error.reason)
        return state


async def _ignore(done: int, total: int) -> None:
    pass
