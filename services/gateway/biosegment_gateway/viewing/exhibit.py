"""What viewers see: volumes and layers, with all that it takes to draw them."""

from __future__ import annotations

import asyncio
import enum
import math
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from biosegment.auth import Principal
from biosegment.storage.multiscale import Level
from biosegment.volume import Index, VoxelSize
from biosegment_gateway.viewing.view import View

_T = TypeVar("_T")
_MADE_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")


class Kind(enum.StrEnum):
    """What the values are."""

    IMAGE = "image"
    ANNOTATIONS = "annotations"
    LABELS = "labels"
    INSTANCES = "instances"
    PROBABILITIES = "probabilities"
    SCORE_MAP = "score_map"

    @property
    def is_label(self) -> bool:
        """Whether the values are names of things and not amounts."""
        return self in (Kind.ANNOTATIONS, Kind.LABELS, Kind.INSTANCES)


@dataclass(frozen=True, slots=True)
class Location:
    """Where the objects of a volume or layer lie.

    Attributes:
        prefix: Key of the group or array, without a final '/'; no other one ever gets the same.
        version: Changes whenever the bytes below it may have changed.
        is_immutable: False while somebody may be writing, so that a version covers different bytes for moments.
    """

    prefix: str
    version: str
    is_immutable: bool


@dataclass(frozen=True, slots=True)
class ShownLevel(Level):
    """One resolution of a volume or layer.

    Attributes:
        sampling: Voxels of the finest level per voxel of this one, of which the middle one is taken; 1, 1, 1 for levels
            that are stored.
    """

    sampling: Index = Index(1, 1, 1)  # noqa: RUF009 - a tuple


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A volume or layer as viewers see it.

    Attributes:
        name: Resource name.
        display_name: For people.
        kind: What the values are.
        data_type: NumPy name.
        levels: Finest first. Paths are relative to `source`; '' for those of a layer, whose first one alone is stored.
        voxel_size: Of level 0 of the volume; that of a level follows from its downsampling.
        source: Where the voxels lie, or what is known of those that are made when they are asked for.
        version: Changes with the voxels; '' when nobody can say.
        window: Values that are shown black and white; None for labels.
        class_value: Class that a layer speaks of, 0 for none.
        channels: Values of a voxel, beside each other along x.
    """

    name: str
    display_name: str
    kind: Kind
    data_type: str
    levels: tuple[ShownLevel, ...]
    voxel_size: VoxelSize
    source: Location | View
    version: str
    window: tuple[float, float] | None = None
    class_value: int = 0
    channels: int = 1

    @property
    def id(self) -> str:
        """Last part of the name."""
        return self.name.rpartition("/")[2]

    @property
    def is_final(self) -> bool:
        """Whether the name always means these very voxels: ids that the platform made are not used twice."""
        return isinstance(self.source, Location) and self.source.is_immutable and is_made(self.name)


def layer_levels(
    shape: Index, downsampling: Index, volume: Exhibit, max_sampling: int
) -> tuple[ShownLevel, ...]:
    """The level of a layer that is stored, and those of its volume that are coarser, to be sampled from it.

    Args:
        shape: Of the stored array.
        downsampling: Voxels of the volume per voxel of it.
        volume: What the layer belongs to.
        max_sampling: Stored voxels per voxel of the coarsest level: making a chunk of it takes so many chunks.
    """
    levels = [ShownLevel("", shape, downsampling)]
    for level in volume.levels:
        factors = [whole / own for whole, own in zip(level.downsampling, downsampling, strict=True)]
        if math.prod(factors) <= 1 or any(factor < 1 or factor % 1 for factor in factors):
            continue
        step = Index(*(int(factor) for factor in factors))
        if math.prod(step) > max_sampling:
            break
        size = Index(*(-(-length // factor) for length, factor in zip(shape, step, strict=True)))
        levels.append(ShownLevel("", size, level.downsampling, step))
    return tuple(levels)


def is_made(name: str) -> bool:
    """Whether the platform, and no person, chose the ids of a volume or layer; projects do not count."""
    return all(_MADE_ID.fullmatch(part) for part in name.split("/")[3::2])


def volume_of(name: str) -> str:
    """The volume that a layer belongs to; a volume's own name."""
    return "/".join(name.split("/")[:4])


class Shelf(Protocol):
    """Who knows volumes, layers and classes, and who may see them: NotFound for others."""

    async def volume(self, principal: Principal, name: str) -> Exhibit: ...

    async def layer(self, principal: Principal, name: str, volume: Exhibit) -> Exhibit:
        """A layer of a volume that is known; NotFound while it is being written."""

    async def layers(self, principal: Principal, volume: Exhibit) -> tuple[Exhibit, ...]:
        """Layers of a volume that can be seen, oldest first."""

    async def colors(self, principal: Principal, project: str) -> Mapping[int, int]:
        """0xRRGGBB of the classes of a project, by value."""


@dataclass(slots=True)
class _Answer:
    known_until: float
    task: asyncio.Task[Any] = field(repr=False)


class Exhibition:
    """A `Shelf` whose answers are remembered, for each user, for seconds: a viewer asks many times a second.

    Who asks while an answer is on its way waits for that one. Errors are not remembered.

    Args:
        shelf: Who knows.
        lifetime_s: How long somebody who lost access may go on reading.
        capacity: Answers that are remembered.
    """

    def __init__(self, shelf: Shelf, lifetime_s: float = 5.0, capacity: int = 4096) -> None:
        self._shelf = shelf
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._known: OrderedDict[tuple[Principal, str, str], _Answer] = OrderedDict()

    async def get(self, principal: Principal, name: str) -> Exhibit:
        """The volume or layer; NotFound for those who may not see it."""
        if "/layers/" not in name:
            return await self._remembered(principal, "get", name, lambda: self._shelf.volume(principal, name))
        return await self._remembered(principal, "get", name, lambda: self._layer(principal, name))

    async def layers(self, principal: Principal, volume: str) -> tuple[Exhibit, ...]:
        """Layers of a volume, oldest first."""

        async def ask() -> tuple[Exhibit, ...]:
            return await self._shelf.layers(principal, await self.get(principal, volume))

        return await self._remembered(principal, "layers", volume, ask)

    async def colors(self, principal: Principal, name: str) -> Mapping[int, int]:
        """0xRRGGBB of the classes of the project that something belongs to, by value."""
        project = "/".join(name.split("/")[:2])
        return await self._remembered(
            principal, "colors", project, lambda: self._shelf.colors(principal, project)
        )

    async def _layer(self, principal: Principal, name: str) -> Exhibit:
        return await self._shelf.layer(principal, name, await self.get(principal, volume_of(name)))

    async def _remembered(
        self, principal: Principal, what: str, name: str, ask: Callable[[], Awaitable[_T]]
    ) -> _T:
        key = (principal, what, name)
        answer = self._known.get(key)
        if answer is None or (answer.task.done() and time.monotonic() >= answer.known_until):
            answer = self._ask(key, ask)
        # Who gives up must not spoil it for the others.
        found: _T = await asyncio.shield(answer.task)
        return found

    def _ask(self, key: tuple[Principal, str, str], ask: Callable[[], Awaitable[_T]]) -> _Answer:
        async def run() -> _T:
            return await ask()

        answer = _Answer(time.monotonic() + self._lifetime_s, asyncio.create_task(run()))
        self._known.pop(key, None)
        self._known[key] = answer
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

        def forget_errors(task: asyncio.Task[_T]) -> None:
            if (task.cancelled() or task.exception() is not None) and self._known.get(key) is answer:
                del self._known[key]

        answer.task.add_done_callback(forget_errors)
        return answer
