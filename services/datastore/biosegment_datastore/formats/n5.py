"""N5 folders, as n5-viewer, Paintera, BigDataViewer and others lay them out. N5 names the fastest axis first: x, y, z.

Voxel sizes, in the array's attributes or those of the groups above it: `pixelResolution` (n5-viewer), `resolution` with
`units` or in nanometres (Paintera, and most others), `transform` (COSEM). The first two are of the full resolution and
are multiplied by the array's `downsamplingFactors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biosegment.errors import BiosegmentError
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.dataset import Candidate, choose_dataset
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import SourceOptions, unreadable
from biosegment_datastore.formats.tensors import Container, Folder, open_tensors

_MAX_FOLDERS = 5000
_MAX_DEPTH = 6


def recognises(path: Path, head: bytes) -> bool:
    """Whether it is a folder with N5's attributes."""
    return not head and (path / "attributes.json").is_file()


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open the only array, the finest of the only pyramid, or what `dataset` names.

    Raises:
        InvalidArgument: UNREADABLE_FILE, DATASET_MISSING, NO_DATASET, NOT_A_VOLUME, BAD_AXES, BAD_DTYPE,
            IMAGE_TOO_LARGE, and what is wrong with `channel` and `time_point`.
    """
    folder = Folder(path)
    try:
        key = _find(folder, options)
        voxel_size = _voxel_size(folder, key)
        axes = _axes(folder, key)
    except BiosegmentError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise unreadable(
            path.name, f"its N5 attributes are damaged ({type(error).__name__}: {error})"
        ) from error
    count = len(_dimensions(folder, key) or ())
    tensors = open_tensors(folder, key, "n5", range(count - 1, -1, -1))
    selection = select(path.name, axes, tensors.shape, options)
    return chunked_source(path.name, "N5", tensors, selection, tensors.chunks, voxel_size, options)


def _find(folder: Container, options: SourceOptions) -> str:
    wanted = options.dataset.strip("/")
    if _dimensions(folder, wanted) is not None:
        return wanted
    found = []
    for key in _arrays(folder, wanted):
        dimensions = _dimensions(folder, key) or ()
        if len(dimensions) >= 3:
            shape = tuple(int(size) for size in reversed(dimensions))
            found.append(Candidate(key, shape, str(_attributes(folder, key)["dataType"])))
    if wanted and not found:
        found = [
            Candidate(key, tuple(_dimensions(folder, key) or ()), str(_attributes(folder, key)["dataType"]))
            for key in _arrays(folder, "")
        ]
        return choose_dataset(folder.name, found, wanted, options)
    return choose_dataset(folder.name, found, "", options)


def _arrays(folder: Container, top: str) -> Iterator[str]:
    """Arrays below a group; of a pyramid (s0, s1 ...) the finest only."""
    queue = [(top, 0)]
    seen = 0
    while queue:
        key, depth = queue.pop(0)
        names = folder.folders(key)
        levels = [name for name in names if re.fullmatch(r"s\d+", name)]
        for name in names:
            place = f"{key}/{name}".lstrip("/")
            seen += 1
            if seen > _MAX_FOLDERS:
                return
            if _dimensions(folder, place) is None:
                if depth < _MAX_DEPTH:
                    queue.append((place, depth + 1))
            elif name not in levels or name == min(levels, key=lambda level: int(level[1:])):
                yield place


def _attributes(folder: Container, key: str) -> Mapping[str, Any]:
    return folder.json(f"{key}/attributes.json".lstrip("/")) or {}


def _dimensions(folder: Container, key: str) -> Sequence[int] | None:
    found = _attributes(folder, key).get("dimensions")
    return found if isinstance(found, list) else None


def _axes(folder: Container, key: str) -> str:
    """Slowest first; '' when nobody says what more than three axes are."""
    attributes = _attributes(folder, key)
    count = len(_dimensions(folder, key) or ())
    named = attributes.get("axes")
    letters = [str(axis).lower() for axis in named] if isinstance(named, list) else []
    if len(letters) == count and all(letter in tuple("zyxct") for letter in letters):
        return "".join(reversed(letters))
    return "zyx" if count == 3 else ""


def _voxel_size(folder: Container, key: str) -> VoxelSize | None:
    own = _attributes(folder, key)
    factors = own.get("downsamplingFactors") or [1, 1, 1]
    parts = key.split("/") if key else []
    for count in range(len(parts), -1, -1):
        attributes = _attributes(folder, "/".join(parts[:count]))
        edges = _edges(attributes)
        if edges is not None:
            return voxel_size_of(
                *(edge and edge * float(f) for edge, f in zip(edges, factors[2::-1], strict=True))
            )
        transform = attributes.get("transform")
        if isinstance(transform, dict) and count == len(parts):
            units = transform.get("units") or ["nm"] * 3
            sizes = dict(zip(transform["axes"], zip(transform["scale"], units, strict=True), strict=True))
            return voxel_size_of(*(nanometres(*sizes[axis]) for axis in "zyx"))
    return None


def _edges(attributes: Mapping[str, Any]) -> list[float | None] | None:
    """Edges of the full resolution, zyx."""
    pixel = attributes.get("pixelResolution")
    if isinstance(pixel, dict):
        values, units = pixel["dimensions"], [pixel.get("unit")] * 3
    elif isinstance(pixel, list):
        values, units = pixel, ["um"] * 3
    else:
        values, units = attributes.get("resolution"), attributes.get("units") or ["nm"] * 3
    if not isinstance(values, list) or len(values) < 3 or len(units) < 3:
        return None
    return [nanometres(value, unit) for value, unit in zip(values[2::-1], units[2::-1], strict=True)]
