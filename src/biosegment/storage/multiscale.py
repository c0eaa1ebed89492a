"""OME-Zarr 0.5 metadata: what makes a pyramid of arrays one image."""

from __future__ import annotations

import json
from dataclasses import dataclass

from biosegment.errors import Internal, NotFound
from biosegment.storage.objects import BlockingObjects
from biosegment.volume import Index, VoxelSize

_AXES = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of an image."""

    path: str
    """Key of the array, relative to the image: '0', '1' ..."""
    shape: Index
    downsampling: Index
    """Level-0 voxels per voxel of this level; the last voxel of an axis may cover fewer."""


def multiscale_metadata(
    name: str, levels: tuple[Level, ...], voxel_size: VoxelSize, method: str = "mean"
) -> dict[str, object]:
    """The group's `zarr.json` for an image of zyx arrays; `method`: how its levels were made, '' when unknown.

    Voxel centres of a level lie at `scale * index + translation` nanometres, with the centre of level 0's
    first voxel at the origin.
    """
    datasets = [
        {
            "path": level.path,
            "coordinateTransformations": [
                {"type": "scale", "scale": list(voxel_size.scaled(level.downsampling))},
                {
                    "type": "translation",
                    "translation": [
                        size * (factor - 1) / 2
                        for size, factor in zip(voxel_size, level.downsampling, strict=True)
                    ],
                },
            ],
        }
        for level in levels
    ]
    multiscale: dict[str, object] = {"name": name, "axes": _AXES, "datasets": datasets}
    if method:
        multiscale["type"] = method
    ome = {"version": "0.5", "multiscales": [multiscale]}
    return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}


def write_multiscale_metadata(
    objects: BlockingObjects, prefix: str, name: str, levels: tuple[Level, ...], voxel_size: VoxelSize
) -> None:
    """Write the image's metadata at `prefix` (no final '/'); do it last, for it makes the image visible."""
    text = json.dumps(multiscale_metadata(name, levels, voxel_size), indent=1)
    objects.put(f"{prefix}/zarr.json", text.encode())


def read_voxel_size(objects: BlockingObjects, prefix: str) -> VoxelSize:
    """Voxel size of level 0 of an image that `write_multiscale_metadata` wrote.

    Raises:
        NotFound: OBJECT_NOT_FOUND when there is no image at `prefix`.
        Internal: IMAGE_CORRUPT when its metadata is not ours.
    """
    try:
        attributes = json.loads(objects.get(f"{prefix}/zarr.json"))["attributes"]
        first = attributes["ome"]["multiscales"][0]["datasets"][0]
        return VoxelSize(*map(float, first["coordinateTransformations"][0]["scale"]))
    except NotFound:
        raise
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Internal("IMAGE_CORRUPT", f"the metadata of the image at {prefix!r} cannot be read") from error
