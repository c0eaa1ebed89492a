"""From voxels to PNG and JPEG: grey values through a window, values of layers through a table of colours."""

from __future__ import annotations

import colorsys
import functools
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biosegment.volume.labels import FIRST_CLASS
from biosegment_gateway.viewing.exhibit import Exhibit, Kind

Values = NDArray[Any]
_JPEG_QUALITY: Final = 85
_PNG_LEVEL: Final = 1
"""Of zlib. EM noise does not get smaller with a higher one, only slower."""
_GREY: Final = 0x808080
_GOLDEN: Final = 0.618033988749895
_FIBONACCI: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Style:
    """How values become colours.

    Attributes:
        kind: What the values are.
        window: Of amounts: what is shown as nothing and as all.
        palette: RGBA of 256 entries; b'' for grey.
    """

    kind: Kind
    window: tuple[float, float]
    palette: bytes = b""

    @property
    def key(self) -> str:
        """Of all that decides about pixels."""
        return hashlib.sha256(f"{self.kind} {self.window} ".encode() + self.palette).hexdigest()[:16]


def style_of(exhibit: Exhibit, colors: Mapping[int, int]) -> Style:
    """How a volume or layer looks.

    Args:
        exhibit: What is shown.
        colors: 0xRRGGBB of the project's classes, by value.
    """
    window = exhibit.window or (0.0, 1.0)
    match exhibit.kind:
        case Kind.IMAGE:
            return Style(exhibit.kind, window)
        case Kind.PROBABILITIES:
            return Style(exhibit.kind, window, _ramp(colors.get(exhibit.class_value, _GREY)))
        case Kind.SCORE_MAP:
            return Style(exhibit.kind, window, _heat())
        case Kind.INSTANCES:
            return Style(exhibit.kind, window, _hues())
        case Kind.ANNOTATIONS | Kind.LABELS:
            return Style(exhibit.kind, window, _classes(tuple(sorted(colors.items()))))


def encode(values: Values, style: Style, extension: str) -> bytes:
    """A file of 2D values (rows, columns); layers are always PNG, with transparent background.

    Args:
        values: Of any type of voxels.
        style: How they look.
        extension: `png` or `jpg`.
    """
    if style.palette:
        return _indexed(_indices(values, style), style.palette)
    image = Image.fromarray(scaled(values, style.window))
    return jpeg(image) if extension == "jpg" else _png(image)


def jpeg(image: Image.Image) -> bytes:
    """A grey image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def scaled(values: Values, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Grey 0..255; `window` says which values become 0 and 255. What is no number becomes 0."""
    low, high = window
    high = high if high > low else low + 1.0  # an image of one value
    if values.dtype == np.uint8:
        return _table(low, high)[values]
    return _scaled(values.astype(np.float32), low, high)


def _scaled(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    within = np.clip(values, np.float32(low), np.float32(high)) - np.float32(low)
    grey: NDArray[np.float32] = np.rint(np.nan_to_num(within * np.float32(255.0 / (high - low))))
    return grey.astype(np.uint8)


@functools.lru_cache(256)
def _table(low: float, high: float) -> NDArray[np.uint8]:
    return _scaled(np.arange(256, dtype=np.float32), low, high)


def _indices(values: Values, style: Style) -> NDArray[np.uint8]:
    """Entries of the palette; 0 is transparent in all of them."""
    if style.kind is Kind.INSTANCES:
        # Neighbours mostly have consecutive ids, which must not look alike.
        mixed = values.astype(np.uint64) * np.uint64(_FIBONACCI) >> np.uint64(32)
        return np.where(values == 0, 0, 1 + mixed % np.uint64(255)).astype(np.uint8)
    if style.kind is Kind.SCORE_MAP:
        return np.where(np.isnan(values), 0, np.maximum(scaled(values, style.window), 1)).astype(np.uint8)
    if style.kind is Kind.PROBABILITIES:
        return scaled(values, style.window)
    return values.astype(np.uint8, copy=False)


def _indexed(indices: NDArray[np.uint8], palette: bytes) -> bytes:
    # A third of the time and size of four bytes for each pixel, and the same in every browser.
    image = Image.fromarray(indices)
    entries = np.frombuffer(palette, np.uint8).reshape(256, 4)
    image.putpalette(entries[:, :3].tobytes())
    return _png(image, transparency=entries[:, 3].tobytes())


def _png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=_PNG_LEVEL, **options)
    return buffer.getvalue()


@functools.lru_cache(256)
def _classes(colors: tuple[tuple[int, int], ...]) -> bytes:
    """Not annotated and background are transparent; a class that has no colour is grey."""
    table = np.zeros((256, 4), np.uint8)
    table[FIRST_CLASS:] = (128, 128, 128, 255)
    for value, color in colors:
        table[value] = (color >> 16 & 255, color >> 8 & 255, color & 255, 255)
    return table.tobytes()


@functools.lru_cache(256)
def _ramp(color: int) -> bytes:
    """One colour, the more opaque the larger the value."""
    table = np.zeros((256, 4), np.uint8)
    table[:, :3] = (color >> 16 & 255, color >> 8 & 255, color & 255)
    table[:, 3] = np.arange(256)
    return table.tobytes()


@functools.lru_cache(1)
def _heat() -> bytes:
    """Dark red to yellow, half transparent; entry 0 stands for no value."""
    amount = np.arange(256)
    table = np.zeros((256, 4), np.uint8)
    table[:, 0] = np.minimum(255, 64 + amount)
    table[:, 1] = amount
    table[1:, 3] = 160
    return table.tobytes()


@functools.lru_cache(1)
def _hues() -> bytes:
    """Colours far from each other."""
    table = np.zeros((256, 4), np.uint8)
    for number in range(1, 256):
        red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.75, (1.0, 0.8, 0.6)[number % 3])
        table[number] = (int(red * 255), int(green * 255), int(blue * 255), 255)
    return table.tobytes()
