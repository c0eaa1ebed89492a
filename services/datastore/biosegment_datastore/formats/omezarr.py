"""OME-Zarr images on disk, 0.4 (Zarr v2) and 0.5 (Zarr v3), as volume sources."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import tensorstore as ts

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.source import SourceOptions, Voxels, check_image, slab_planes, unreadable

_MAX_JSON_BYTES = 16 << 20


class OmeZarrSource:
    """A `VolumeSource`; made by `open_source`."""

    def __init__(self, name: str, version: str, array: Any, voxel_size: VoxelSize | None) -> None:
        self._name, self._array = name, array
        self.format = f"OME-Zarr {version}"
        self.shape = Index(*(int(size) for size in array.shape))
        self.dtype: np.dtype[Any] = np.dtype(array.dtype.numpy_dtype).newbyteorder("=")
        self.voxel_size = voxel_size
        # Whole chunks, so that none is decoded twice.
        self.slab_planes = slab_planes(
            self.shape, self.dtype, int(array.chunk_layout.read_chunk.shape[0] or 1)
        )

    def read_slab(self, start: int, stop: int) -> Voxels:
        try:
            slab = self._array[start:stop].read(order="C").result()
        except ValueError as error:
            raise unreadable(
                self._name, f"slices {start} to {stop} do not decode ({_status(error)})"
            ) from error
        return np.ascontiguousarray(slab, self.dtype)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def recognises(path: Path, head: bytes) -> bool:
    """Whether a folder looks like a Zarr group or array of either version."""
    return any((path / name).is_file() for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray"))


def open_source(folder: Path, options: SourceOptions) -> OmeZarrSource:
    """Open the full resolution of the first image of an OME-Zarr folder.

    Raises:
        InvalidArgument: UNREADABLE_FILE, NOT_A_VOLUME, BAD_DTYPE or IMAGE_TOO_LARGE.
    """
    try:
        version, multiscale = _multiscale(folder)
        axes = _axes(multiscale)
        dataset = multiscale["datasets"][0]
        path = _inside(folder, str(dataset["path"]))
        sizes = _voxel_sizes(axes, multiscale, dataset)
    except BiosegmentError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise unreadable(folder.name, f"its OME-Zarr metadata is missing or damaged ({error!r})") from error
    driver = "zarr3" if (path / "zarr.json").is_file() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}
    try:
        array = ts.open(spec, open=True, read=True).result()
    except ValueError as error:
        raise unreadable(
            folder.name, f"array {dataset['path']!r} does not open ({_status(error)})"
        ) from error
    array = _zyx(folder.name, array, [str(axis["name"]) for axis in axes])
    kind = np.dtype(array.dtype.numpy_dtype)
    check_image(folder.name, Index(*(int(size) for size in array.shape)), kind)
    return OmeZarrSource(folder.name, version, array, sizes)


def _multiscale(folder: Path) -> tuple[str, dict[str, Any]]:
    if (folder / "zarr.json").is_file():
        attributes = _json(folder / "zarr.json").get("attributes", {})
        ome = attributes.get("ome", attributes)
    else:
        ome = _json(folder / ".zattrs")
    multiscale = ome["multiscales"][0]
    return str(ome.get("version") or multiscale.get("version") or "0.4"), multiscale


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes")
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return document


def _axes(multiscale: dict[str, Any]) -> list[dict[str, Any]]:
    """Axes as objects; version 0.3 has names only."""
    return [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in multiscale["axes"]]


def _inside(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    place = folder.joinpath(*parts).resolve()
    if path.startswith("/") or ".." in parts or not place.is_relative_to(folder.resolve()):
        raise InvalidArgument("UNREADABLE_FILE", f"{folder.name!r} refers to {path!r}, outside of itself")
    return place


def _voxel_sizes(
    axes: list[dict[str, Any]], multiscale: dict[str, Any], dataset: dict[str, Any]
) -> VoxelSize | None:
    scale = [1.0] * len(axes)
    known = False
    for transformations in (
        dataset.get("coordinateTransformations", []),
        multiscale.get("coordinateTransformations", []),
    ):
        for transformation in transformations:
            if transformation.get("type") == "scale":
                scale = [a * float(b) for a, b in zip(scale, transformation["scale"], strict=True)]
                known = True
    edges = {
        str(axis["name"]): nanometres(size, axis.get("unit")) for axis, size in zip(axes, scale, strict=True)
    }
    return voxel_size_of(edges.get("z"), edges.get("y"), edges.get("x")) if known else None


def _zyx(name: str, array: Any, axes: list[str]) -> Any:
    if len(axes) != len(array.shape):
        raise unreadable(name, f"it names {len(axes)} axes for an array of {len(array.shape)}")
    extra = [number for number, axis in enumerate(axes) if axis not in "zyx"]
    if sorted(axis for axis in axes if axis in "zyx") != ["x", "y", "z"] or any(
        array.shape[n] > 1 for n in extra
    ):
        raise InvalidArgument(
            "NOT_A_VOLUME",
            f"{name!r} has the axes {', '.join(axes)} of shape {tuple(array.shape)}: a volume needs z, y "
            "and x, and one channel and one time at most",
        )
    picked = array[tuple(0 if number in extra else slice(None) for number in range(len(axes)))]
    left = [axis for axis in axes if axis in "zyx"]
    return picked.transpose([left.index(axis) for axis in "zyx"])


def _status(error: ValueError) -> str:
    """The engine's status alone; its message holds paths of the server."""
    return str(error).partition(":")[0]
