"""HDF5 as ilastik and the HDF5 plugin of Fiji read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from biosegment.storage.layout import DEFAULT_CHUNK
from biosegment.volume import BlockGrid, Index
from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    block_edges,
    little_endian,
    slices_done,
)

DATASET = "data"
GZIP_LEVEL = 1
_SPACE_AXIS = 2


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write the dataset `data`: chunked, gzip, with `axistags` and `element_size_um`.

    Raises:
        OSError: The disk is full, among others.
    """
    with h5py.File(path, "w", libver="earliest") as file:
        data = file.create_dataset(DATASET, **dataset_options(frame.shape, source))
        for name, value in _attributes(frame).items():
            data.attrs[name] = value
        grid = BlockGrid(frame.shape, block_edges(frame.shape))
        for number, box in enumerate(grid):
            data[box.slices] = source.read(box.shifted(frame.region.start))
            progress(slices_done(grid, number), frame.shape.z)


def dataset_options(shape: Index, source: ExportSource) -> dict[str, Any]:
    """How an array of voxels is stored."""
    return {
        "shape": tuple(shape),
        "dtype": little_endian(source.dtype),
        "chunks": tuple(min(edge, size) for edge, size in zip(DEFAULT_CHUNK, shape, strict=True)),
        "compression": "gzip",
        "compression_opts": GZIP_LEVEL,
        "shuffle": source.dtype.itemsize > 1,
    }


def _attributes(frame: ExportFrame) -> dict[str, Any]:
    axes = [{"key": axis, "typeFlags": _SPACE_AXIS, "resolution": 0, "description": ""} for axis in "zyx"]
    attributes: dict[str, Any] = {
        "axistags": json.dumps({"axes": axes}),
        "element_size_um": [float(f"{edge / 1000:.12g}") for edge in frame.voxel_size],
        "origin_um": [float(f"{offset / 1000:.12g}") for offset in frame.origin_nm],
        "name": frame.name,
        "description": frame.description,
    }
    if frame.classes:
        attributes["class_values"] = [each.value for each in frame.classes]
        attributes["class_names"] = [each.name for each in frame.classes]
        attributes["class_colors"] = [f"#{each.color_rgb:06x}" for each in frame.classes]
    return attributes
