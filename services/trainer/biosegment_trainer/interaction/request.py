"""What somebody asks, as plain values that were checked for themselves, before anything else is known."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.volume import Index, Region, VoxelSize
from biosegment_trainer.interaction.task import ClickedVoxel, Plane

MAX_CLICKS: Final = 1000
MAX_IMAGE_BYTES: Final = 4 << 20
_MAX_SESSION: Final = 200


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image that came along; `data` is a zlib stream of C-order bytes."""

    shape: Index
    dtype: np.dtype[Any]
    voxel_size: VoxelSize
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VolumePart:
    """A part of a volume; `level` None for the level that fits the working resolution."""

    volume: str
    region: Region
    level: int | None


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """One request; fields as in the message, `model` is a model id or ''."""

    project_id: str
    source: SentImage | VolumePart
    class_value: int
    plane: Plane
    model: str = ""
    clicks: tuple[ClickedVoxel, ...] = ()
    scribbles: bytes = field(default=b"", repr=False)
    previous_mask: bytes = field(default=b"", repr=False)
    base_layer: str = ""
    base_sequence: int | None = None
    with_probability: bool = False
    session: str = ""
    draft: bool = False
    network_features: bool = False

    @property
    def region(self) -> Region:
        """That is answered for, in voxels of level 0; of an image all of it."""
        if isinstance(self.source, VolumePart):
            return self.source.region
        return Region.of_shape(self.source.shape)

    def require_sound(self, max_voxels: int) -> None:
        """Check what can be checked without asking anybody.

        Raises:
            ResourceExhausted: REGION_TOO_LARGE, TOO_MANY_CLICKS, IMAGE_TOO_LARGE.
            InvalidArgument: NO_PROMPT, PROMPT_OUTSIDE, BAD_LEVEL, BAD_SESSION, BASE_WITHOUT_VOLUME, BAD_BASE.
        """
        region = self.region
        _require_size(region, max_voxels)
        if len(self.clicks) > MAX_CLICKS:
            raise ResourceExhausted(
                "TOO_MANY_CLICKS",
                f"{len(self.clicks)} clicks came, one request takes {MAX_CLICKS}; send the newest with the mask that "
                "the others led to",
            )
        if not self.clicks and not self.scribbles:
            raise InvalidArgument(
                "NO_PROMPT", "there is neither a click nor a stroke to segment from; send at least one"
            )
        for click in self.clicks:
            self._require_inside(click, region)
        if len(self.session) > _MAX_SESSION:
            raise InvalidArgument("BAD_SESSION", f"session may have at most {_MAX_SESSION} characters")
        if isinstance(self.source, SentImage):
            self._require_sound_image(self.source)
        elif self.source.level is not None and self.source.level < 0:
            raise InvalidArgument("UNKNOWN_LEVEL", f"level {self.source.level} is negative; 0 is the finest")
        if self.base_sequence is not None and self.base_sequence < 0:
            raise InvalidArgument("BAD_BASE", f"base_sequence {self.base_sequence} is negative")

    def _require_inside(self, click: ClickedVoxel, region: Region) -> None:
        inside = all(
            low <= at < high for at, low, high in zip(click.position, region.start, region.stop, strict=True)
        )
        if not inside:
            place = ",".join(map(str, click.position))
            raise InvalidArgument(
                "PROMPT_OUTSIDE",
                f"the click at voxel {place} (zyx) lies outside of the region {region}; click inside of it, or ask for "
                "another region",
                position=place,
            )

    def _require_sound_image(self, image: SentImage) -> None:
        _require_sendable(image)
        if self.base_layer or self.base_sequence is not None:
            raise InvalidArgument(
                "BASE_WITHOUT_VOLUME", "an image that is sent along has no layers; leave the base out"
            )


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """A region to label without a prompt; `model` is a model id or ''."""

    project_id: str
    source: SentImage | VolumePart
    model: str = ""

    def require_sound(self, max_voxels: int) -> None:
        """Check what can be checked without asking anybody.

        Raises:
            ResourceExhausted: REGION_TOO_LARGE, IMAGE_TOO_LARGE.
            InvalidArgument: UNKNOWN_LEVEL.
        """
        if isinstance(self.source, SentImage):
            _require_size(Region.of_shape(self.source.shape), max_voxels)
            _require_sendable(self.source)
            return
        _require_size(self.source.region, max_voxels)
        if self.source.level is not None:
            raise InvalidArgument("UNKNOWN_LEVEL", "a model works at its own resolution; leave the level out")


def _require_sendable(image: SentImage) -> None:
    if len(image.data) > MAX_IMAGE_BYTES:
        raise ResourceExhausted(
            "IMAGE_TOO_LARGE",
            f"the image is {len(image.data)} bytes, at most {MAX_IMAGE_BYTES} are taken; import it as a volume",
        )


def _require_size(region: Region, max_voxels: int) -> None:
    if region.size > max_voxels:
        raise ResourceExhausted(
            "REGION_TOO_LARGE",
            f"region {region} is {region.size} voxels; at most {max_voxels} are taken; ask for a smaller one",
            limit=str(max_voxels),
        )


def previous_mask(data: bytes, shape: Index) -> NDArray[np.uint8]:
    """The mask of before, uint8 0/1 (z, y, x); InvalidArgument BAD_MASK."""
    mask = _unpacked(data, shape, np.dtype(np.uint8), "BAD_MASK", "previous_mask")
    if mask.max() > 1:
        raise InvalidArgument(
            "BAD_MASK", f"previous_mask holds the value {mask.max()}; it may hold 0 and 1 alone"
        )
    return mask


def strokes(data: bytes, shape: Index, classes: frozenset[int]) -> NDArray[np.uint8]:
    """Class values of strokes, uint8 (z, y, x).

    Raises:
        InvalidArgument: BAD_SCRIBBLES, UNKNOWN_CLASS for a value of no class, NO_PROMPT when there is no stroke.
    """
    found = _unpacked(data, shape, np.dtype(np.uint8), "BAD_SCRIBBLES", "scribbles")
    present = np.zeros(256, bool)
    present[found.ravel()] = True
    values = [int(value) for value in np.flatnonzero(present) if value]
    if not values:
        raise InvalidArgument("NO_PROMPT", "scribbles holds no stroke, nothing but 0; leave it out")
    unknown = [value for value in values if value != 1 and value not in classes]
    if unknown:
        raise unknown_class(unknown[0], classes, "scribbles holds")
    return found


def image(sent: SentImage) -> NDArray[Any]:
    """The voxels of a sent image, (z, y, x); InvalidArgument BAD_IMAGE."""
    found = _unpacked(sent.data, sent.shape, sent.dtype, "BAD_IMAGE", "image.data")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise InvalidArgument("BAD_IMAGE", "the image holds values that are not finite; replace them")
    return found


def unknown_class(value: int, classes: frozenset[int], where: str = "class_value is") -> InvalidArgument:
    """InvalidArgument UNKNOWN_CLASS."""
    known = ", ".join(map(str, sorted(classes))) or "none yet"
    return InvalidArgument(
        "UNKNOWN_CLASS",
        f"{where} {value}, which is no class of the project; there are {known}",
        value=str(value),
    )


def _unpacked(data: bytes, shape: Index, dtype: np.dtype[Any], reason: str, what: str) -> NDArray[Any]:
    """Decompress no more than is expected, whatever the stream would give."""
    expected = shape.z * shape.y * shape.x * dtype.itemsize
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, expected + 1)
    except zlib.error as error:
        raise InvalidArgument(reason, f"{what} is no zlib stream: {error}") from error
    if len(raw) != expected or not stream.eof or stream.unused_data:
        came = f"more than {expected}" if len(raw) > expected else str(len(raw))
        raise InvalidArgument(
            reason,
            f"{what} gives {came} bytes; {dtype} of shape {tuple(shape)} (zyx) is one whole zlib stream of {expected}",
        )
    return np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)
