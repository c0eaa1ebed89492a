"""Files of images, made of the platform's voxels when they are first asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from biosegment.auth import Principal
from biosegment_gateway.monailabel.cache import CachedFile, FileCache
from biosegment_gateway.monailabel.dataset import Image
from biosegment_gateway.monailabel.file_writer import write_file
from biosegment_gateway.monailabel.geometry import LengthUnit
from biosegment_gateway.monailabel.services import Services


class Pictures:
    """Image files.

    Args:
        services: Where voxels come from, in the name of the user.
        cache: Where files are kept.
        unit: Of lengths in files.
        extension: Of files.
    """

    def __init__(self, services: Services, cache: FileCache, unit: LengthUnit, extension: str) -> None:
        self._services = services
        self._cache = cache
        self.unit: LengthUnit = unit
        self.extension = extension

    async def get(self, principal: Principal, image: Image) -> CachedFile:
        """The file of an image that the user may see."""

        async def make(path: Path) -> None:
            voxels = await self._services.read(principal, image.volume.name, image.region)
            await asyncio.to_thread(write_file, path, voxels, image.geometry, self.unit, self.extension)

        return await self._cache.get(self._key(image), make)

    async def peek(self, image: Image) -> CachedFile | None:
        """The file of an image, if it was made."""
        return await self._cache.peek(self._key(image))

    def name(self, image: Image) -> str:
        """What the file is called."""
        return f"{image.image_id}{self.extension}"

    def _key(self, image: Image) -> str:
        volume = image.volume
        key = f"{volume.name} {volume.version} {image.region} {image.geometry.to_list()}"
        return f"{key} {self.unit} {self.extension}"
