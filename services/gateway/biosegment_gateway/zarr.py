"""Reading the objects of volumes and layers for people outside, who know resource names and no storage keys."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from biosegment.auth import Principal
from biosegment.errors import Conflict, InvalidArgument, NotFound
from biosegment.storage.objects import Objects
from biosegment_gateway.referenced import ReferencedImage, Regions, make_object

_PIECE: Final = 2 * 1024 * 1024
"""Bytes that one request holds in memory at a time; a shard of a volume may have 100 MB."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the objects of a volume or layer lie.

    Attributes:
        prefix: Key of the group or array, without a final '/'.
        version: Changes whenever the bytes below it may have changed.
        is_immutable: False while somebody may be writing, so that a version covers different bytes for moments.
    """

    prefix: str
    version: str
    is_immutable: bool


class Locations(Protocol):
    """Who knows where volumes and layers lie, and who may see them."""

    async def locate(self, principal: Principal, name: str) -> Location | ReferencedImage:
        """Location of `projects/{p}/volumes/{v}` or a layer of it, or what is known of a volume that is a reference.

        NotFound for those who may not see it.
        """


class CachedLocations:
    """`Locations` that remembers answers, for each user, for seconds: a viewer asks for many chunks a second."""

    def __init__(self, locations: Locations, lifetime_s: float = 5.0, capacity: int = 4096) -> None:
        self._locations = locations
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._known: OrderedDict[tuple[Principal, str], tuple[float, Location | ReferencedImage]] = (
            OrderedDict()
        )

    async def locate(self, principal: Principal, name: str) -> Location | ReferencedImage:
        key = (principal, name)
        if key in self._known:
            known_until, location = self._known[key]
            if time.monotonic() < known_until:
                return location
        location = await self._locations.locate(principal, name)
        self._known.pop(key, None)
        self._known[key] = (time.monotonic() + self._lifetime_s, location)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return location


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object: its key, size in bytes, an entity tag as HTTP wants it, and its content when it was made just now."""

    key: str
    size: int
    etag: str
    content: bytes | None = None


class ZarrReader:
    """Objects below volumes and layers."""

    def __init__(self, locations: Locations, objects: Objects, regions: Regions) -> None:
        self._locations = locations
        self._objects = objects
        self._regions = regions

    async def find(self, principal: Principal, name: str, path: str) -> StoredObject:
        """Look up one object.

        Args:
            principal: Needs PROJECT_READ, which the datastore checks.
            name: Of the volume or layer.
            path: Below it, for example `0/c/0/0/0`.

        Raises:
            NotFound: There is no such volume or object, or the path is not one that objects can have.
        """
        location = await self._locations.locate(principal, name)
        if isinstance(location, ReferencedImage):
            content = await make_object(principal, location, path, self._regions)
            # Of the bytes themselves: nobody says when somebody else's file changes.
            return StoredObject(path, len(content), f'"{hashlib.sha256(content).hexdigest()[:32]}"', content)
        key = f"{location.prefix}/{path}"
        try:
            size = await self._objects.size(key)
        except (NotFound, InvalidArgument) as error:
            # Viewers probe for names of other formats, `.zattrs` among them: absent like any other.
            raise _absent(name, path) from error
        seed = hashlib.sha256(f"{key}\n{location.version}\n{size}".encode()).hexdigest()[:32]
        return StoredObject(key, size, f'"{seed}"' if location.is_immutable else f'W/"{seed}"')

    async def read(self, found: StoredObject, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes `[start, stop)` in pieces of at most 2 MiB; all of them, or an error."""
        if found.content is not None:
            yield found.content[start:stop]
            return
        while start < stop:
            end = min(stop, start + _PIECE)
            piece = await self._objects.get_range(found.key, start, end)
            if len(piece) != end - start:
                raise Conflict("OBJECT_CHANGED", f"object {found.key!r} changed while it was read; try again")
            yield piece
            start = end


def _absent(name: str, path: str) -> NotFound:
    return NotFound("OBJECT_NOT_FOUND", f"{name} has no object {path[:200]!r}")
