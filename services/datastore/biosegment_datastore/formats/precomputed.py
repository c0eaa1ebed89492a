"""Neuroglancer's precomputed volumes: raw, jpeg, png and compressed_segmentation, sharded or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import SourceOptions, unreadable
from biosegment_datastore.formats.tensors import Folder, open_tensors

_PACKED = (".gz", ".br", ".zstd", ".xz")


def recognises(path: Path, head: bytes) -> bool:
    """Whether it is a folder with an `info` of scales."""
    if head or not (path / "info").is_file():
        return False
    try:
        return isinstance((Folder(path).json("info") or {}).get("scales"), list)
    except (BiosegmentError, OSError, ValueError):
        return False


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open the finest scale, or the one whose key `dataset` names. `voxel_offset` is not kept: the volume begins at 0.

    Raises:
        InvalidArgument: UNREADABLE_FILE, NO_DATASET, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE, and what is wrong with
            `channel`.
    """
    folder = Folder(path)
    try:
        scales = (folder.json("info") or {})["scales"]
        number = _choose(folder, scales, options.dataset.strip("/"))
        key, resolution = str(scales[number]["key"]), scales[number]["resolution"]
        voxel_size = voxel_size_of(*(nanometres(resolution[axis], "nm") for axis in (2, 1, 0)))
        _require_plain(folder, key)
    except BiosegmentError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise unreadable(path.name, f"its info is damaged ({type(error).__name__}: {error})") from error
    tensors = open_tensors(folder, "", "neuroglancer_precomputed", (3, 2, 1, 0), scale_index=number)
    selection = select(path.name, "czyx", tensors.shape, options)
    return chunked_source(path.name, "precomputed", tensors, selection, tensors.chunks, voxel_size, options)


def _choose(folder: Folder, scales: list[Mapping[str, Any]], wanted: str) -> int:
    keys = [str(scale["key"]) for scale in scales]
    if not wanted and keys:
        return min(range(len(keys)), key=lambda number: float(scales[number]["resolution"][0]))
    if wanted not in keys:
        raise InvalidArgument(
            "NO_DATASET", f"{folder.name!r} has no scale {wanted!r}; it has {', '.join(keys[:20]) or 'none'}"
        )
    return keys.index(wanted)


def _require_plain(folder: Folder, key: str) -> None:
    """Chunks that a web server would unpack are not found by their names, and would read as zeros."""
    place = folder.place(key)
    if not place.is_dir():
        raise unreadable(folder.name, f"the folder {key!r} of this scale is missing")
    with os.scandir(place) as entries:
        packed = next((entry.name for entry in entries if entry.name.endswith(_PACKED)), None)
    if packed:
        raise unreadable(folder.name, f"its chunks are packed one by one ({packed!r}): unpack them first")
