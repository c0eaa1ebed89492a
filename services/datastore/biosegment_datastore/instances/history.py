"""The edits of layers as they are read again and again: remembered, with only newer ones fetched."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from biosegment_datastore.instances.composition import Composition
from biosegment_datastore.instances.edit import Edit, holding
from biosegment_datastore.layer import Layer
from biosegment_datastore.sql.instance import SqlInstances

_LAYERS = 32


@dataclass(frozen=True, slots=True)
class History:
    """All edits of a layer until one, and what they make together.

    Attributes:
        edits: In order, reverts included.
        sequence: Number of the last one; 0 when there is none.
        composition: Of those that hold.
    """

    edits: Sequence[Edit]
    sequence: int
    composition: Composition

    def at(self, sequence: int) -> Composition:
        """What the edits until one made together."""
        then = [each for each in self.edits if each.step.sequence <= sequence]
        return Composition(holding(then, then[-1].create_time_us) if then else ())


class Histories:
    """Histories of layers.

    Args:
        instances: The rows.
    """

    def __init__(self, instances: SqlInstances) -> None:
        self._instances = instances
        self._known: OrderedDict[str, History] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of(self, layer: Layer, as_of_us: int | None = None) -> History:
        """The edits of a layer as they are, or were at a moment (microseconds since 1970)."""
        # One caller fetches and composes what is new; those that come meanwhile find it done.
        async with self._locks.setdefault(layer.storage_key, asyncio.Lock()):
            known = await self._newest(layer)
        return known if as_of_us is None else await asyncio.to_thread(_then, known, as_of_us)

    async def _newest(self, layer: Layer) -> History:
        known = self._known.get(layer.storage_key)
        if known is None:
            known = History((), 0, Composition(()))
        newer = await self._instances.after(layer, known.sequence)
        if newer:
            known = await asyncio.to_thread(_extended, known, newer)
        self._known[layer.storage_key] = known
        self._known.move_to_end(layer.storage_key)
        if len(self._known) > _LAYERS:
            self._known.popitem(last=False)
        return known


def _extended(known: History, newer: Sequence[Edit]) -> History:
    taken_back = {each.reverts: each.create_time_us for each in newer if each.reverts}
    edits = [
        replace(each, revert_time_us=taken_back[each.id]) if each.id in taken_back else each
        for each in (*known.edits, *newer)
    ]
    return History(edits, newer[-1].step.sequence, Composition(holding(edits)))


def _then(known: History, as_of_us: int) -> History:
    then = [each for each in known.edits if each.create_time_us <= as_of_us]
    sequence = then[-1].step.sequence if then else 0
    return History(then, sequence, Composition(holding(then, as_of_us)))
