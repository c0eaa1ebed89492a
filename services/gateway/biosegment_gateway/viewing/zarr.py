"""Reading the objects of volumes and layers for people outside, who know resource names and no storage keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.auth import Principal
from biosegment.errors import Conflict, InvalidArgument, NotFound
from biosegment.ids import is_id
from biosegment.storage.objects import Objects
from biosegment.volume import Region
from biosegment_gateway.viewing import ngff
from biosegment_gateway.viewing.byte_cache import ByteCache
from biosegment_gateway.viewing.exhibit import Exhibit, Exhibition, Location
from biosegment_gateway.viewing.view import MadeArray, Regions, make_object
from biosegment_gateway.viewing.voxels import Voxels

_PIECE: Final = 2 * 1024 * 1024
"""Bytes that one request holds in memory at a time; a shard of a volume may have 100 MB."""
_DOCUMENT: Final = "zarr.json"
_REMEMBERED: Final = 1024
_FOLDERS: Final = ("labels", "images")
_MADE_BYTES: Final = 32 << 20
_MADE_AT_ONCE: Final = 2
"""Chunks of coarser levels: each looks at up to 128 MiB."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object.

    Attributes:
        key: Where it is stored, or the path of one that was made.
        size: In bytes.
        etag: Entity tag as HTTP wants it.
        content: Of an object that was made just now.
        is_final: Its address will never mean other bytes.
    """

    key: str
    size: int
    etag: str
    content: bytes | None = None
    is_final: bool = False


class ZarrReader:
    """Objects below volumes and layers; `biosegment_gateway.viewing.ngff` says how they hang together."""

    def __init__(self, exhibition: Exhibition, objects: Objects, regions: Regions, voxels: Voxels) -> None:
        self._exhibition = exhibition
        self._objects = objects
        self._regions = regions
        self._voxels = voxels
        self._made = ByteCache(_MADE_BYTES)
        self._turn = asyncio.Semaphore(_MADE_AT_ONCE)
        self._documents: OrderedDict[str, ngff.Metadata] = OrderedDict()

    async def find(
        self, principal: Principal, name: str, path: str, chosen: Collection[str] | None = None
    ) -> StoredObject:
        """Look up one object.

        Args:
            principal: Needs PROJECT_READ, which the datastore checks.
            name: Of the volume or layer.
            path: Below it, for example `0/c/0/0/0`.
            chosen: Ids of the layers that can be seen below a volume; None for all.

        Raises:
            NotFound: There is no such volume or object, or the path is not one that objects can have.
        """
        exhibit = await self._exhibition.get(principal, name)
        if "/layers/" not in name:
            head, _, rest = path.partition("/")
            if path == _DOCUMENT:
                return _made(path, await self._volume(principal, exhibit, chosen))
            if head in _FOLDERS:
                return await self._below(principal, exhibit, head, rest, chosen)
        return await self._object(principal, exhibit, path)

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

    async def _object(self, principal: Principal, exhibit: Exhibit, path: str) -> StoredObject:
        """An object of the array or group itself."""
        location = exhibit.source
        if not isinstance(location, Location):
            content = await make_object(principal, location, path, self._regions)
            # Of the bytes themselves: nobody says when somebody else's file changes, and an edit changes few chunks.
            return _of_bytes(path, content)
        key = f"{location.prefix}/{path}"
        try:
            size = await self._objects.size(key)
        except (NotFound, InvalidArgument) as error:
            # Viewers probe for names of other formats, `.zattrs` among them: absent like any other.
            raise _absent(exhibit.name, path) from error
        seed = hashlib.sha256(f"{key}\n{location.version}\n{size}".encode()).hexdigest()[:32]
        etag = f'"{seed}"' if location.is_immutable else f'W/"{seed}"'
        is_chunk = path.startswith("c/") or "/c/" in path
        return StoredObject(key, size, etag, is_final=exhibit.is_final and is_chunk)

    async def _below(
        self,
        principal: Principal,
        volume: Exhibit,
        folder: str,
        path: str,
        chosen: Collection[str] | None,
    ) -> StoredObject:
        """An object below `labels` or `images`."""
        if path == _DOCUMENT:
            layers = await self._layers(principal, volume, folder, chosen)
            group = ngff.labels_metadata(layers) if folder == "labels" else ngff.group_metadata()
            return _made(f"{folder}/{path}", group)
        layer_id, _, rest = path.partition("/")
        if not is_id(layer_id) or (chosen is not None and layer_id not in chosen):
            raise _absent(volume.name, f"{folder}/{path}")
        layer = await self._exhibition.get(principal, f"{volume.name}/layers/{layer_id}")
        if not _belongs(layer, folder):
            raise _absent(volume.name, f"{folder}/{path}")
        if rest == _DOCUMENT:
            return _made(f"{folder}/{path}", await self._layer(principal, layer))
        number, _, place = rest.partition("/")
        if number not in {str(known) for known in range(len(layer.levels))}:
            raise _absent(volume.name, f"{folder}/{path}")
        if number == "0":
            return await self._object(principal, layer, place)
        return await self._sampled(principal, layer, int(number), place)

    async def _sampled(self, principal: Principal, layer: Exhibit, number: int, path: str) -> StoredObject:
        """An object of a level that is not stored."""
        view = MadeArray(layer.name, layer.levels[number].shape, layer.data_type)

        async def make() -> bytes:
            async with self._turn:
                return await make_object(principal, view, path, _Sampled(self._voxels, layer, number))

        found = _of_bytes(path, await self._made.get(f"{layer.name} {layer.version} {number} {path}", make))
        return replace(found, is_final=layer.is_final and path.startswith("c/"))

    async def _layers(
        self, principal: Principal, volume: Exhibit, folder: str, chosen: Collection[str] | None
    ) -> list[Exhibit]:
        if chosen is None:
            layers = list(await self._exhibition.layers(principal, volume.name))
        else:
            names = [f"{volume.name}/layers/{layer_id}" for layer_id in chosen]
            found = await asyncio.gather(*(self._still(principal, name) for name in names))
            layers = [layer for layer in found if layer is not None]
        return [layer for layer in layers if _belongs(layer, folder)]

    async def _still(self, principal: Principal, name: str) -> Exhibit | None:
        """A layer, unless it was deleted since somebody chose it."""
        try:
            return await self._exhibition.get(principal, name)
        except NotFound:
            return None

    async def _volume(
        self, principal: Principal, volume: Exhibit, chosen: Collection[str] | None
    ) -> ngff.Metadata:
        """The volume's group with all that is below it."""
        paths = [f"{level.path}/{_DOCUMENT}" for level in volume.levels]
        stored, *levels = await asyncio.gather(
            *(self._document(principal, volume, path) for path in (_DOCUMENT, *paths))
        )
        below: dict[str, ngff.Metadata] = {
            level.path: document for level, document in zip(volume.levels, levels, strict=True)
        }
        for folder in _FOLDERS:
            layers = await self._layers(principal, volume, folder, chosen)
            below[folder] = ngff.labels_metadata(layers) if folder == "labels" else ngff.group_metadata()
            for layer in layers:
                below[f"{folder}/{layer.id}"] = await self._layer(principal, layer)
                below[f"{folder}/{layer.id}/0"] = await self._document(principal, layer, _DOCUMENT)
                for number in range(1, len(layer.levels)):
                    made = await self._sampled(principal, layer, number, _DOCUMENT)
                    below[f"{folder}/{layer.id}/{number}"] = _parsed(made.content or b"")
        return ngff.consolidated(ngff.volume_metadata(stored, volume), below)

    async def _layer(self, principal: Principal, layer: Exhibit) -> ngff.Metadata:
        return ngff.layer_metadata(layer, await self._exhibition.colors(principal, layer.name))

    async def _document(self, principal: Principal, exhibit: Exhibit, path: str) -> ngff.Metadata:
        """Metadata of a group or array, which never changes where it is stored."""
        location = exhibit.source
        if not isinstance(location, Location):
            return _parsed(await make_object(principal, location, path, self._regions))
        key = f"{location.prefix}/{path}"
        found = self._documents.get(key)
        if found is None:
            try:
                found = _parsed(await self._objects.get(key))
            except NotFound as error:
                raise _absent(exhibit.name, path) from error
            self._documents[key] = found
            if len(self._documents) > _REMEMBERED:
                self._documents.popitem(last=False)
        return found


class _Sampled:
    """A level of a layer, as `make_object` reads regions."""

    def __init__(self, voxels: Voxels, layer: Exhibit, number: int) -> None:
        self._voxels = voxels
        self._layer = layer
        self._number = number

    async def read_region(
        self, principal: Principal, name: str, level: int, region: Region, *, with_edits: bool
    ) -> NDArray[np.generic]:
        return await self._voxels.read(principal, self._layer, self._number, region)


def _belongs(layer: Exhibit, folder: str) -> bool:
    """Whether a layer lies in a folder; maps of several values for each voxel are no images of three axes."""
    return layer.kind.is_label == (folder == "labels") and layer.channels == 1


def _parsed(content: bytes) -> ngff.Metadata:
    found: dict[str, Any] = json.loads(content)
    return found


def _made(path: str, document: ngff.Metadata) -> StoredObject:
    return _of_bytes(path, json.dumps(document).encode())


def _of_bytes(path: str, content: bytes) -> StoredObject:
    return StoredObject(path, len(content), f'"{hashlib.sha256(content).hexdigest()[:32]}"', content)


def _absent(name: str, path: str) -> NotFound:
    return NotFound("OBJECT_NOT_FOUND", f"{name} has no object {path[:200]!r}")
