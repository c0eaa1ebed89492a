"""WEBKNOSSOS data sets with Zarr or N5 layers: `datasource-properties.json` names layers, magnifications and axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.dataset import Candidate, choose_dataset
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import Selection, select
from biosegment_datastore.formats.source import SourceOptions, unreadable
from biosegment_datastore.formats.tensors import Folder, Tensors, open_tensors

_PROPERTIES = "datasource-properties.json"
_DRIVERS = {"zarr": "zarr", "zarr3": "zarr3", "n5": "n5"}
_DTYPES = {"float": "float32", "double": "float64"}


def recognises(path: Path, head: bytes) -> bool:
    """Whether it is a folder with WEBKNOSSOS' properties."""
    return not head and (path / _PROPERTIES).is_file()


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open the finest magnification of a layer, inside its bounding box; `dataset` is the layer's name.

    Raises:
        InvalidArgument: UNREADABLE_FILE, DATASET_MISSING, NO_DATASET, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE, and
            what is wrong with `channel`.
    """
    folder = Folder(path)
    try:
        properties = folder.json(_PROPERTIES) or {}
        layer = _layer(folder, properties, options)
        mag, key, axes = _finest(layer)
        voxel_size = _voxel_size(properties, mag)
        box = _box(layer, mag)
        kind = str(layer.get("dataFormat"))
    except BiosegmentError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise unreadable(
            path.name, f"its {_PROPERTIES} is damaged ({type(error).__name__}: {error})"
        ) from error
    if kind not in _DRIVERS:
        raise unreadable(path.name, f"its layer is in the format {kind!r}: convert it to Zarr in WEBKNOSSOS")
    tensors = open_tensors(folder, key, _DRIVERS[kind])
    plain = SourceOptions(channel=options.channel, time_point=options.time_point)
    selection = select(path.name, axes, tensors.shape, plain)
    array, cropped = _cropped(path.name, tensors, selection, box)
    return chunked_source(path.name, "WEBKNOSSOS", array, cropped, tensors.chunks, voxel_size, options)


def _layer(folder: Folder, properties: Mapping[str, Any], options: SourceOptions) -> Mapping[str, Any]:
    layers = {str(layer["name"]): layer for layer in properties["dataLayers"]}
    wanted = options.dataset.strip("/")
    if wanted in layers:
        found: Mapping[str, Any] = layers[wanted]
        return found
    candidates = []
    for name, layer in layers.items():
        box = layer["boundingBox"]
        shape = (int(box["depth"]), int(box["height"]), int(box["width"]))
        element = str(layer["elementClass"])
        candidates.append(Candidate(name, shape, _DTYPES.get(element, element)))
    chosen: Mapping[str, Any] = layers[choose_dataset(folder.name, candidates, wanted, options)]
    return chosen


def _finest(layer: Mapping[str, Any]) -> tuple[Index, str, str]:
    """Magnification (zyx), path and axes of the finest array."""
    mags = []
    for entry in layer.get("mags") or layer.get("wkwResolutions") or ():
        mag = entry.get("mag", entry.get("resolution"))
        x, y, z = mag if isinstance(mag, list) else map(int, (str(mag).split("-") * 3)[:3])
        order = entry.get("axisOrder") or {"c": 0, "x": 1, "y": 2, "z": 3}
        axes = "".join(sorted(order, key=lambda axis: int(order[axis])))
        default = f"{layer['name']}/{x if x == y == z else f'{x}-{y}-{z}'}"
        mags.append((Index(int(z), int(y), int(x)), str(entry.get("path") or default), axes))
    if not mags:
        raise ValueError("a layer without magnifications")
    mag, path, axes = min(mags, key=lambda each: each[0].z * each[0].y * each[0].x)
    return mag, path.removeprefix("./").rstrip("/"), axes


def _voxel_size(properties: Mapping[str, Any], mag: Index) -> VoxelSize | None:
    scale = properties.get("scale")
    factor, unit = (scale["factor"], scale.get("unit")) if isinstance(scale, dict) else (scale, "nm")
    if not isinstance(factor, list) or len(factor) != 3:
        return None
    return voxel_size_of(
        *(nanometres(float(edge) * m, unit) for edge, m in zip(reversed(factor), mag, strict=True))
    )


def _box(layer: Mapping[str, Any], mag: Index) -> tuple[Index, Index]:
    """Start and stop of the layer's bounding box in voxels of the magnification, zyx."""
    box = layer["boundingBox"]
    x, y, z = (int(edge) for edge in box["topLeft"])
    start = Index(z, y, x)
    stop = Index(z + int(box["depth"]), y + int(box["height"]), x + int(box["width"]))
    return (
        Index(*(edge // m for edge, m in zip(start, mag, strict=True))),
        Index(*(-(-edge // m) for edge, m in zip(stop, mag, strict=True))),
    )


def _cropped(
    name: str, tensors: Tensors, selection: Selection, box: tuple[Index, Index]
) -> tuple[Tensors, Selection]:
    start, stop = box
    if any(not 0 <= low < high <= size for low, high, size in zip(start, stop, selection.shape, strict=True)):
        raise InvalidArgument(
            "UNREADABLE_FILE",
            f"{name!r} says that its layer lies in {tuple(start)} to {tuple(stop)} (zyx) of an array of "
            f"{tuple(selection.shape)} voxels: check its bounding box",
        )
    parts: list[slice] = [slice(None)] * len(tensors.shape)
    for axis, low, high in zip(selection.order, start, stop, strict=True):
        parts[axis] = slice(low, high)
    shape = Index(*(high - low for low, high in zip(start, stop, strict=True)))
    return tensors.part(tuple(parts)), Selection(selection.fixed, selection.order, shape)
