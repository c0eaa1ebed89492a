"""OME-Zarr 0.5 metadata of a volume with its layers, as one hierarchy.

    zarr.json                   the volume: an image, with the metadata of everything below it (consolidated)
    0/ 1/ ...                   its levels
    labels/zarr.json            names of the layers of labels, annotations and instances
    labels/{layer}/zarr.json    an image with `image-label`: the colours of the classes
    labels/{layer}/0/           its array; 1/ 2/ ... sampled from that, as many levels as the image has
    images/{layer}/...          the same for probabilities and score maps, which are images and no labels

Readers that know only the volume's address find all of it, in one request where they read consolidated metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from biosegment.storage.multiscale import multiscale_metadata
from biosegment.volume.labels import BACKGROUND, NOT_ANNOTATED
from biosegment_gateway.viewing.exhibit import Exhibit, Kind

VERSION: Final = "0.5"
_LIMITS: Final = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}

Metadata = dict[str, Any]


def volume_metadata(stored: Metadata, volume: Exhibit) -> Metadata:
    """The group of a volume, with the display window where viewers look for it.

    Args:
        stored: Its `zarr.json`, as it was written at import or is made for a reference.
        volume: What it is.
    """
    ome = {**stored["attributes"]["ome"], "omero": _omero(volume)}
    return {**stored, "attributes": {**stored["attributes"], "ome": ome}}


def group_metadata() -> Metadata:
    """A group that says nothing."""
    return {"zarr_format": 3, "node_type": "group", "attributes": {}}


def labels_metadata(layers: Sequence[Exhibit]) -> Metadata:
    """The group `labels`."""
    return _with_ome(group_metadata(), {"version": VERSION, "labels": [layer.id for layer in layers]})


def layer_metadata(layer: Exhibit, colors: Mapping[int, int]) -> Metadata:
    """The group of a layer: an image with the voxel sizes of its levels.

    Args:
        layer: Of whatever kind.
        colors: 0xRRGGBB of the project's classes, by value.
    """
    levels = tuple(replace(level, path=str(number)) for number, level in enumerate(layer.levels))
    group = multiscale_metadata(layer.display_name, levels, layer.voxel_size, method="")
    ome: Metadata = group["attributes"]["ome"]  # type: ignore[index]
    if layer.kind.is_label:
        ome["image-label"] = {"version": VERSION, "source": {"image": "../../"}, **_colors(layer, colors)}
    elif layer.window is not None:
        ome["omero"] = _omero(layer)
    return dict(group)


def consolidated(group: Metadata, below: Mapping[str, Metadata]) -> Metadata:
    """A group that tells readers the metadata of everything below it, by path."""
    metadata = {"kind": "inline", "must_understand": False, "metadata": dict(sorted(below.items()))}
    return {**group, "consolidated_metadata": metadata}


def _with_ome(group: Metadata, ome: Metadata) -> Metadata:
    return {**group, "attributes": {**group["attributes"], "ome": ome}}


def _omero(image: Exhibit) -> Metadata:
    low, high = image.window or (0.0, 1.0)
    lowest, highest = _LIMITS.get(image.data_type, (low, high))
    if image.kind is Kind.SCORE_MAP:
        lowest, highest = low, high
    window = {"min": min(lowest, low), "max": max(highest, high), "start": low, "end": high}
    channel = {"label": image.display_name, "color": "FFFFFF", "active": True, "window": window}
    return {"version": VERSION, "channels": [channel], "rdefs": {"model": "greyscale"}}


def _colors(layer: Exhibit, colors: Mapping[int, int]) -> Metadata:
    """Of class values; the ids of instances have none."""
    if layer.kind is Kind.INSTANCES:
        return {}
    clear = [{"label-value": value, "rgba": [0, 0, 0, 0]} for value in (NOT_ANNOTATED, BACKGROUND)]
    opaque = [
        {"label-value": value, "rgba": [color >> 16 & 255, color >> 8 & 255, color & 255, 255]}
        for value, color in sorted(colors.items())
    ]
    return {"colors": clear + opaque}
