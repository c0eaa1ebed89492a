"""One slice: what its header says, and its voxels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment_datastore.formats.source import MAX_PLANE_BYTES, Voxels, unreadable

_MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
_SAMPLES = {"RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4, "YCbCr": 3}
_DTYPES = {"1": "bool", "L": "uint8", "P": "uint8", "I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16"}
_PNG_GREY, _PNG_PALETTE = 0, 3


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What is known of a slice before it is decoded; `shape` is (y, x) or, in colour, (y, x, samples)."""

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        samples = f", {self.shape[2]} samples" if len(self.shape) > 2 else ""
        return f"{self.shape[0]} x {self.shape[1]} (y, x){samples}, {self.dtype.name}"


def kind_of(head: bytes) -> str:
    """TIFF, PNG or JPEG by the first bytes of a file; '' for anything else."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def read_slice(name: str, file: BinaryIO, check: Callable[[SliceHeader], None]) -> Voxels:
    """Decode one slice.

    Args:
        name: For messages.
        file: Open at its beginning, seekable.
        check: Called with the header before anything is decoded; raises to refuse it.

    Returns:
        (y, x) or (y, x, samples), native byte order, values as in the file.

    Raises:
        InvalidArgument: UNREADABLE_FILE, NOT_A_SLICE, BAD_DTYPE, IMAGE_TOO_LARGE.
    """
    voxels = _open(name, file, check, decode=True)
    assert voxels is not None
    return voxels


def read_header(name: str, file: BinaryIO) -> SliceHeader:
    """The header of one slice; errors as those of `read_slice`."""
    found: list[SliceHeader] = []
    _open(name, file, found.append, decode=False)
    return found[0]


def _open(name: str, file: BinaryIO, check: Callable[[SliceHeader], None], decode: bool) -> Voxels | None:
    try:
        head = file.read(26)
        file.seek(0)
        kind = kind_of(head)
        if not kind:
            raise unreadable(name, "it is no TIFF, PNG or JPEG image, whatever its name says")
        if kind == "TIFF":
            return _tiff(name, file, check, decode)
        return _pillow(name, kind, head, file, check, decode)
    except (BiosegmentError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise unreadable(name, f"it does not decode ({error})") from error


def _checked(name: str, header: SliceHeader, check: Callable[[SliceHeader], None]) -> None:
    if min(header.shape) < 1 or header.size_bytes > MAX_PLANE_BYTES:
        raise InvalidArgument(
            "IMAGE_TOO_LARGE", f"{name!r} claims {header}: a slice of more than {MAX_PLANE_BYTES} bytes"
        )
    check(header)


def _tiff(name: str, file: BinaryIO, check: Callable[[SliceHeader], None], decode: bool) -> Voxels | None:
    import tifffile

    with tifffile.TiffFile(file, name=name, _multifile=False) as tiff:
        series = tiff.series[0]
        others = [one for one in tiff.series[1:] if one.shape == series.shape]
        if series.axes not in ("YX", "YXS", "SYX") or others:
            raise InvalidArgument(
                "NOT_A_SLICE",
                f"{name!r} holds more than one image (axes {series.axes} of shape {tuple(series.shape)}): a slice is "
                "one; import a stack by itself",
            )
        page = series.keyframe
        y, x = series.shape[series.axes.index("Y")], series.shape[series.axes.index("X")]
        samples = (series.shape[series.axes.index("S")],) if "S" in series.axes else ()
        dtype = np.dtype(series.dtype).newbyteorder("=")
        _checked(name, SliceHeader("TIFF", (int(y), int(x), *map(int, samples)), dtype), check)
        # The decoder fills in what a file lacks; only the header says that it is not all there.
        if any(
            offset + size > _size(file)
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True)
        ):
            raise unreadable(name, "it ends before its data does")
        if not decode:
            return None
        voxels = page.asarray(maxworkers=1)
        if series.axes == "SYX":
            voxels = voxels.transpose(1, 2, 0)
        return np.asarray(voxels, dtype)


def _size(file: BinaryIO) -> int:
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size


def _pillow(
    name: str, kind: str, head: bytes, file: BinaryIO, check: Callable[[SliceHeader], None], decode: bool
) -> Voxels | None:
    from PIL import Image

    # Large slices are what this is about; `_checked` has bounds of its own.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(file, formats=[kind]) as image:
        depth, colour = (head[24], head[25]) if kind == "PNG" else (8, _PNG_GREY)
        if image.mode not in _DTYPES and image.mode not in _SAMPLES:
            raise InvalidArgument(
                "BAD_DTYPE", f"{name!r} has voxels of the kind {image.mode}: save it in grey values"
            )
        if depth == 16 and colour != _PNG_GREY:
            raise InvalidArgument("BAD_DTYPE", f"{name!r} has 16-bit colours: save it in grey values")
        samples = (_SAMPLES[image.mode],) if image.mode in _SAMPLES else ()
        dtype = np.dtype(_DTYPES.get(image.mode, "uint8"))
        is_palette = colour == _PNG_PALETTE
        _checked(
            name,
            SliceHeader("palette PNG" if is_palette else kind, (image.height, image.width, *samples), dtype),
            check,
        )
        if not decode:
            return None
        voxels = np.asarray(image)
        if colour == _PNG_GREY and depth in (2, 4):
            # Spread over 0..255 by the decoder; the file's own values are wanted.
            voxels = voxels // np.uint8(255 // (2**depth - 1))
        return np.asarray(voxels, dtype)
