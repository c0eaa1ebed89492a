"""What the metadata of OME-Zarr says: 0.4 (and before) in `.zattrs`, 0.5 in `zarr.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biosegment.volume import VoxelSize
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.tensors import Container

_MAX_NODES = 2000
_MAX_DEPTH = 4
_TYPES = {"time": "t", "channel": "c"}


@dataclass(frozen=True, slots=True)
class Node:
    """A group or array.

    Attributes:
        key: Below the container's root.
        is_array: A group otherwise.
        zarr_format: 2 or 3.
        attributes: The user's.
        axes: What an array itself says of its axes, one letter each, or ''.
    """

    key: str
    is_array: bool
    zarr_format: int
    attributes: Mapping[str, Any]
    axes: str = ""


@dataclass(frozen=True, slots=True)
class ImageLevel:
    """One level of a multiscale image.

    Attributes:
        path: Below the image's group.
        scale: Size of a voxel along every axis, in the axes' units; None when it is not told.
    """

    path: str
    scale: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image: its levels, finest first.

    Attributes:
        key: Of its group.
        version: Of the specification.
        axes: One letter per axis, slowest first; see `selection.select`.
        units: Of the axes.
    """

    key: str
    version: str
    axes: str
    units: tuple[object, ...]
    levels: tuple[ImageLevel, ...]

    def voxel_size(self, level: ImageLevel) -> VoxelSize | None:
        """Of a level; None when it is not known along z, y and x."""
        if level.scale is None:
            return None
        sizes = zip(self.axes, level.scale, self.units, strict=True)
        edges = {axis: nanometres(size, unit) for axis, size, unit in sizes}
        return voxel_size_of(edges.get("z"), edges.get("y"), edges.get("x"))


def node_at(container: Container, key: str) -> Node | None:
    """The node at a key; None when there is none.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: Its metadata are damaged.
    """
    below = f"{key}/" if key else ""
    document = container.json(f"{below}zarr.json")
    if document is not None:
        names = document.get("dimension_names")
        return Node(
            key, document.get("node_type") == "array", 3, document.get("attributes") or {}, _letters(names)
        )
    array = container.json(f"{below}.zarray")
    if (
        array is None
        and container.json(f"{below}.zgroup") is None
        and container.json(f"{below}.zattrs") is None
    ):
        return None
    attributes = container.json(f"{below}.zattrs") or {}
    return Node(key, array is not None, 2, attributes, _letters(attributes.get("_ARRAY_DIMENSIONS")))


def multiscale_of(node: Node) -> Multiscale | None:
    """The first image of a group; None when the group is no image. Errors as of `node_at`."""
    ome = node.attributes.get("ome", node.attributes)
    if "multiscales" not in ome:
        return None
    found = ome["multiscales"][0]
    # Before 0.4 axes had names only, and before 0.3 no names either.
    axes = [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in found.get("axes", "tczyx")]
    levels = tuple(_level(found, dataset, len(axes)) for dataset in found["datasets"])
    if not levels:
        raise ValueError("an image without levels")
    version = ome.get("version") or found.get("version") or "0.4"
    letters = "".join(_letter(axis) for axis in axes)
    return Multiscale(node.key, str(version), letters, tuple(axis.get("unit") for axis in axes), levels)


def below(container: Container, key: str) -> Sequence[Node]:
    """Images and arrays below a group, not those inside of other images. Errors as of `node_at`."""
    found: list[Node] = []
    queue = [(key, 0)]
    seen = 0
    while queue:
        place, depth = queue.pop(0)
        for name in container.folders(place):
            seen += 1
            node = node_at(container, f"{place}/{name}".lstrip("/")) if seen <= _MAX_NODES else None
            if node is None:
                continue
            if node.is_array or multiscale_of(node) is not None:
                found.append(node)
            elif depth < _MAX_DEPTH:
                queue.append((node.key, depth + 1))
    return found


def _level(multiscale: Mapping[str, Any], dataset: Mapping[str, Any], count: int) -> ImageLevel:
    scale, known = [1.0] * count, False
    for owner in (dataset, multiscale):
        for transformation in owner.get("coordinateTransformations") or ():
            if transformation.get("type") == "scale":
                scale = [a * float(b) for a, b in zip(scale, transformation["scale"], strict=True)]
                known = True
    return ImageLevel(str(dataset["path"]), tuple(scale) if known else None)


def _letter(axis: Mapping[str, Any]) -> str:
    name = str(axis["name"]).lower()
    return name if name in tuple("zyxct") else _TYPES.get(str(axis.get("type")), "q")


def _letters(names: object) -> str:
    if not isinstance(names, list):
        return ""
    letters = [str(name).lower() for name in names]
    return "".join(letters) if all(letter in tuple("zyxct") for letter in letters) else ""
