"""OME-Zarr 0.5 with its pyramid, in one uncompressed zip file (RFC 9 of the NGFF community)."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.multiscale import Level, multiscale_metadata
from biosegment.volume import BlockGrid, Index
from biosegment_datastore.formats.writers.shrinking import levels_of, shrunk, total_slices
from biosegment_datastore.formats.writers.target import ExportFrame, ExportSource, Progress, slices_done

_IMAGE = "image"
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write the arrays into a folder beside `path`, then pack them: the metadata first, nothing compressed twice.

    The layout is the store's. Labels have an `image-label` with colours and names.

    Raises:
        OSError: The disk is full, among others.
        ResourceExhausted: DISK_FULL.
    """
    levels = levels_of(frame)
    folder = path.with_name(path.name + ".parts")
    folder.mkdir()
    # Not what the environment says about the datastore's own store.
    arrays = Arrays(ObjectStoreSettings.model_validate({"object_store_url": f"file://{folder}"}))
    finer: Array | None = None
    done, total = 0, total_slices(levels)
    for number, level in enumerate(levels):
        array = arrays.create(f"{_IMAGE}/{level.path}", level.shape, source.dtype)
        if finer is None:
            _copy(source, frame, array, lambda slices: progress(slices, total))
        else:
            shard = Index(*array.layout.shard)
            for box, voxels in shrunk(finer.read, levels[number - 1], level, shard, frame.is_labels):
                array.write(box, voxels)
                progress(done + box.stop.z, total)
        done += level.shape.z
        finer = array
    _pack(path, folder / _IMAGE, json.dumps(image_metadata(frame, levels), indent=1).encode())


def _copy(source: ExportSource, frame: ExportFrame, array: Array, progress: Any) -> None:
    layout: ArrayLayout = array.layout
    grid = BlockGrid(frame.shape, Index(*layout.shard))
    for number, box in enumerate(grid):
        array.write(box, source.read(box.shifted(frame.region.start)))
        progress(slices_done(grid, number))


def image_metadata(frame: ExportFrame, levels: tuple[Level, ...]) -> dict[str, Any]:
    """The group's `zarr.json`; translations count from the volume's first voxel."""
    metadata: dict[str, Any] = multiscale_metadata(frame.name, levels, frame.voxel_size)
    ome = metadata["attributes"]["ome"]
    (multiscale,) = ome["multiscales"]
    multiscale["type"] = "mode" if frame.is_labels else "mean"
    multiscale["metadata"] = {"description": frame.description}
    for dataset in multiscale["datasets"]:
        translation = dataset["coordinateTransformations"][1]
        translation["translation"] = [
            inner + offset for inner, offset in zip(translation["translation"], frame.origin_nm, strict=True)
        ]
    if frame.is_labels:
        ome["image-label"] = {
            "colors": [{"label-value": each.value, "rgba": [*each.rgb, 255]} for each in frame.classes],
            "properties": [{"label-value": each.value, "name": each.name} for each in frame.classes],
        }
        if not frame.classes:
            ome["image-label"] = {}
    return metadata


def _pack(path: Path, folder: Path, metadata: bytes) -> None:
    """One file after the other, each removed when it is in: a large image is not on the disk twice."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    files.sort(key=lambda each: each.name != "zarr.json")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.comment = json.dumps({"ome": {"version": "0.5", "zipFile": {"jsonFirst": True}}}).encode()
        archive.writestr(zipfile.ZipInfo("zarr.json", _NO_TIME), metadata)
        for each in files:
            entry = zipfile.ZipInfo(each.relative_to(folder).as_posix(), _NO_TIME)
            with each.open("rb") as part, _entry(archive, entry, each.stat().st_size) as place:
                while piece := part.read(1 << 20):
                    place.write(piece)
            each.unlink()


@contextmanager
def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int) -> Iterator[Any]:
    entry.file_size = size
    with archive.open(entry, "w") as place:
        yield place
