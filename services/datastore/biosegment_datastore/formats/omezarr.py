"""OME-Zarr images, 0.4 (Zarr v2) and 0.5 (Zarr v3), in a folder or a zip file, and plain Zarr arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.omezarr_metadata import Multiscale, Node, below, multiscale_of, node_at
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import SourceOptions, unreadable
from biosegment_datastore.formats.tensors import Container, Folder, Zip, open_tensors

_NODES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_SHOWN = 20
DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What reading metadata of somebody else's may raise."""


@dataclass(frozen=True, slots=True)
class FoundArray:
    """The array that is meant.

    Attributes:
        node: Of the array.
        format: For people.
        axes: One letter each, or '' when nobody says.
        voxel_size: None when nobody says.
    """

    node: Node
    format: str
    axes: str
    voxel_size: VoxelSize | None


def recognises(path: Path, head: bytes) -> bool:
    """Whether it is a Zarr group or array of either version: a folder, or a zip file of one."""
    if head:
        return head.startswith(b"PK\x03\x04") and _is_zipped(path)
    return any((path / name).is_file() for name in _NODES)


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open one array: the full resolution of the only image, or what `dataset` names.

    `dataset` is the path of a level ('1'), of another image below the root ('labels/cells', '0'), or of any array.

    Raises:
        InvalidArgument: UNREADABLE_FILE, DATASET_MISSING, NO_DATASET, NOT_A_VOLUME, BAD_AXES, BAD_DTYPE,
            IMAGE_TOO_LARGE, and what is wrong with `channel` and `time_point`.
    """
    container: Container = Folder(path) if path.is_dir() else Zip(path, options.scratch_dir)
    try:
        return _open(container, options)
    except BaseException:
        container.close()
        raise


def _open(container: Container, options: SourceOptions) -> ArraySource:
    name = container.name
    try:
        found = find_array(container, options.dataset.strip("/"))
    except BiosegmentError:
        raise
    except DAMAGED as error:
        raise unreadable(
            name, f"its OME-Zarr metadata is missing or damaged ({type(error).__name__}: {error})"
        ) from error
    driver = "zarr3" if found.node.zarr_format == 3 else "zarr"
    tensors = open_tensors(container, found.node.key, driver)
    if found.axes and len(found.axes) != len(tensors.shape):
        raise unreadable(name, f"it names {len(found.axes)} axes for an array of {len(tensors.shape)}")
    selection = select(name, found.axes, tensors.shape, options)
    return chunked_source(
        name, found.format, tensors, selection, tensors.chunks, found.voxel_size, options, container.close
    )


def find_array(container: Container, wanted: str) -> FoundArray:
    """The array that a path below the root names; '' for the only image or array there is.

    Raises:
        InvalidArgument: UNREADABLE_FILE, DATASET_MISSING, NO_DATASET.
        OSError, ValueError, KeyError, IndexError, TypeError, AttributeError: Its metadata are damaged.
    """
    node = node_at(container, wanted)
    if node is None:
        raise InvalidArgument(
            "NO_DATASET",
            f"{container.name!r} has no image or array {wanted!r}; it has {_listed(container, '') or 'none'}",
        )
    image = multiscale_of(node)
    if image is not None:
        return _level_of(container, image, image.levels[0].path)
    if node.is_array:
        owner = _owner(container, wanted)
        return owner or FoundArray(node, f"Zarr v{node.zarr_format}", node.axes, None)
    nodes = below(container, wanted)
    if len(nodes) == 1:
        return find_array(container, nodes[0].key)
    if not nodes:
        raise InvalidArgument("NO_DATASET", f"{container.name!r} holds no image and no array")
    raise InvalidArgument(
        "DATASET_MISSING",
        f"{container.name!r} holds several images: say which with `dataset`; it has {_listed(container, wanted)}",
    )


def _level_of(container: Container, image: Multiscale, path: str) -> FoundArray:
    level = next(level for level in image.levels if level.path == path)
    key = f"{image.key}/{path}".lstrip("/")
    node = node_at(container, key)
    if node is None or not node.is_array:
        raise unreadable(container.name, f"its array {key!r} is missing")
    return FoundArray(node, f"OME-Zarr {image.version}", image.axes, image.voxel_size(level))


def _owner(container: Container, key: str) -> FoundArray | None:
    """The array as a level of the image that it belongs to."""
    parts = key.split("/")
    for count in range(len(parts) - 1, -1, -1):
        group = node_at(container, "/".join(parts[:count]))
        image = multiscale_of(group) if group is not None else None
        path = "/".join(parts[count:])
        if image is not None and any(level.path == path for level in image.levels):
            return _level_of(container, image, path)
    return None


def _listed(container: Container, key: str) -> str:
    names = [repr(node.key) for node in below(container, key)]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _is_zipped(path: Path) -> bool:
    try:
        archive = Zip(path, path.parent)
    except BiosegmentError:
        return False
    return any(archive.holds(name) for name in _NODES)
