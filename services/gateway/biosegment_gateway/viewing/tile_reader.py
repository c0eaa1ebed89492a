"""Tiles and thumbnails, drawn when they are first asked for and kept while there is room."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray
from PIL import Image

from biosegment.auth import Principal
from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region
from biosegment_gateway.viewing import drawing
from biosegment_gateway.viewing.byte_cache import ByteCache
from biosegment_gateway.viewing.drawing import Style
from biosegment_gateway.viewing.exhibit import Exhibit, Exhibition, Kind
from biosegment_gateway.viewing.tile import Tile, describe
from biosegment_gateway.viewing.voxels import Voxels

THUMBNAIL: Final = 256
"""Pixels along the longer side, at most."""
_WIDEST: Final = 2048
"""Pixels along each side of a slice that is read for a thumbnail; of larger ones the middle."""
_AT_ONCE: Final = 8
"""Tiles that are drawn at a time: across the slices of a volume one takes up to 64 MiB while it is read."""
_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture; `draw` makes it.

    Attributes:
        exhibit: What is drawn.
        principal: In whose name voxels are read that only the datastore can read.
        style: How values become colours.
        key: Of everything that decides about its bytes; '' when nobody can say whether they have changed.
        extension: `png` or `jpg`.
        tile: None for a thumbnail.
    """

    exhibit: Exhibit
    principal: Principal
    style: Style
    key: str
    extension: str
    tile: Tile | None = None

    @property
    def etag(self) -> str:
        """Entity tag; '' where it follows only from the bytes."""
        return f'"{self.key}"' if self.key else ""


class TileReader:
    """Draws parts of volumes and layers.

    Args:
        exhibition: What there is, and who may see it.
        voxels: What is drawn.
        max_bytes: Of pictures that are kept in memory.
    """

    def __init__(self, exhibition: Exhibition, voxels: Voxels, max_bytes: int = 64 << 20) -> None:
        self._exhibition = exhibition
        self._voxels = voxels
        self._pictures = ByteCache(max_bytes)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        # Of their own: encoding must not wait for disks, nor the other way round.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tiles")

    async def info(self, principal: Principal, name: str) -> dict[str, Any]:
        """What viewers need to know of a volume or layer; see `tile.describe`."""
        return describe(await self._exhibition.get(principal, name))

    async def tile(self, principal: Principal, name: str, tile: Tile, extension: str) -> Drawing:
        """A tile; nothing is read yet.

        Raises:
            NotFound: TILE_OUTSIDE; and of the volume or layer.
            InvalidArgument: NO_TILES, NOT_A_PHOTO for a layer as JPEG, which has no transparency.
        """
        exhibit = await self._exhibition.get(principal, name)
        tile.region(exhibit)
        if extension == "jpg" and exhibit.kind is not Kind.IMAGE:
            raise InvalidArgument("NOT_A_PHOTO", f"{name} is a layer, whose tiles are transparent: use .png")
        return await self._drawing(principal, exhibit, extension, tile)

    async def thumbnail(self, principal: Principal, name: str) -> Drawing:
        """The middle slice of a volume, at most 256 pixels along each side, pixels as wide as high."""
        return await self._drawing(principal, await self._exhibition.get(principal, name), "jpg", None)

    async def draw(self, wanted: Drawing) -> bytes:
        """The picture as a file."""

        async def make() -> bytes:
            async with self._turn:
                return await (self._draw_tile(wanted) if wanted.tile else self._draw_thumbnail(wanted))

        return await self._pictures.get(wanted.key, make) if wanted.key else await make()

    async def close(self) -> None:
        """Release threads."""
        await asyncio.to_thread(self._pool.shutdown)

    async def _drawing(
        self, principal: Principal, exhibit: Exhibit, extension: str, tile: Tile | None
    ) -> Drawing:
        is_image = exhibit.kind is Kind.IMAGE
        colors = {} if is_image else await self._exhibition.colors(principal, exhibit.name)
        style = drawing.style_of(exhibit, colors)
        key = ""
        if exhibit.version:
            text = f"{exhibit.name}\n{exhibit.version}\n{tile}\n{extension}\n{style.key}"
            key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return Drawing(exhibit, principal, style, key, extension, tile)

    async def _draw_tile(self, wanted: Drawing) -> bytes:
        assert wanted.tile is not None
        region = wanted.tile.region(wanted.exhibit)
        voxels = await self._voxels.read(wanted.principal, wanted.exhibit, wanted.tile.level, region)
        values = voxels.squeeze(wanted.tile.plane.normal_axis)
        return await self._in_thread(lambda: drawing.encode(values, wanted.style, wanted.extension))

    async def _draw_thumbnail(self, wanted: Drawing) -> bytes:
        exhibit = wanted.exhibit
        number = _thumbnail_level(exhibit)
        shape = exhibit.levels[number].shape
        middle = shape.z // 2
        (top, bottom), (left, right) = _middle(shape.y), _middle(shape.x)
        region = Region(Index(middle, top, left), Index(middle + 1, bottom, right))
        voxels = await self._voxels.read(wanted.principal, exhibit, number, region)
        size = exhibit.voxel_size.scaled(exhibit.levels[number].downsampling)
        return await self._in_thread(
            lambda: _shrunk(drawing.scaled(voxels[0], wanted.style.window), size.y_nm, size.x_nm)
        )

    async def _in_thread(self, call: Callable[[], bytes]) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _thumbnail_level(exhibit: Exhibit) -> int:
    """The coarsest level that is not smaller than a thumbnail; the finest one of a small volume."""
    for number in range(len(exhibit.levels) - 1, 0, -1):
        shape = exhibit.levels[number].shape
        if max(shape.y, shape.x) >= THUMBNAIL:
            return number
    return 0


def _middle(length: int) -> tuple[int, int]:
    cut = max(0, length - _WIDEST) // 2
    return cut, min(length, cut + _WIDEST)


def _shrunk(grey: NDArray[Any], row_nm: float, column_nm: float) -> bytes:
    """At most so many pixels along each side, as wide as high, whatever voxels are."""
    height, width = grey.shape[0] * row_nm, grey.shape[1] * column_nm
    pixel_nm = max(max(height, width) / THUMBNAIL, min(row_nm, column_nm))
    size = (max(1, round(width / pixel_nm)), max(1, round(height / pixel_nm)))
    image = Image.fromarray(grey)
    return drawing.jpeg(image if size == image.size else image.resize(size, Image.Resampling.BOX))
