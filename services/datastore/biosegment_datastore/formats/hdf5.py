"""HDF5: ilastik, CREMI, PlantSeg and whatever else keeps a volume in a data set; other layouts have their own modules.

Voxel sizes: `element_size_um` (micrometres), `resolution` or `voxel_size` (nanometres, as CREMI and funlib write), all
zyx, or the resolutions of ilastik's `axistags` with `axis_units`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from biosegment.errors import BiosegmentError
from biosegment.volume import VoxelSize
from biosegment_datastore.formats import bigdataviewer, imaris, mib
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.dataset import Candidate, choose_dataset
from biosegment_datastore.formats.hdf5_file import Hdf5File, has_signature, numbers, outside, text
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import SourceOptions, unreadable

_SINGLE = "ctsq"


def recognises(path: Path, head: bytes) -> bool:
    """Whether it is HDF5, also MATLAB 7.3 and Imaris."""
    return has_signature(path, head)


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open the volume in an HDF5 file.

    Raises:
        InvalidArgument: DATASET_MISSING, NO_DATASET, UNREADABLE_FILE, TRUNCATED_FILE, NOT_A_VOLUME, BAD_AXES,
            BAD_DTYPE, IMAGE_TOO_LARGE, and what is wrong with `channel` and `time_point`.
    """
    file = Hdf5File(path)
    try:
        if not options.dataset:
            for layout in (imaris, bigdataviewer, mib):
                if layout.recognises_file(file):
                    source: ArraySource = layout.open_file(file, options)
                    return source
        return _open(file, options)
    except BiosegmentError:
        file.close()
        raise
    except Exception as error:  # the library raises whatever it likes on damaged files
        file.close()
        raise unreadable(path.name, f"its HDF5 structure is damaged ({type(error).__name__})") from error


def _open(file: Hdf5File, options: SourceOptions) -> ArraySource:
    path = _choose(file, options)
    found = file.dataset(path)
    assert found is not None, path
    tags = _axis_tags(found)
    axes = "".join(tag.key for tag in tags) or _labels(found) or _matlab(found) or _guess(found.shape)
    selection = select(file.name, axes, found.shape, options)
    chunks = found.chunks or (1, *found.shape[1:])
    voxel_size = _voxel_size(found, tags)
    return chunked_source(file.name, "HDF5", found, selection, chunks, voxel_size, options, file.close)


def _choose(file: Hdf5File, options: SourceOptions) -> str:
    wanted = options.dataset.strip("/")
    if wanted and file.dataset(wanted) is not None:
        return wanted
    top = wanted if wanted and file.group(wanted) is not None else "/"
    candidates, elsewhere = [], []
    for path, dataset in file.walk(top):
        if outside(dataset):
            elsewhere.append(path)
            continue
        kind = _numeric(dataset)
        if kind is not None and len(dataset.shape or ()) >= 3:
            candidates.append(Candidate(path, dataset.shape, kind))
    if not candidates and elsewhere:
        file.dataset(elsewhere[0])  # says what is wrong with it
    return choose_dataset(file.name, candidates, wanted if top == "/" else "", options)


def _numeric(dataset: h5py.Dataset) -> str | None:
    try:
        kind = np.dtype(dataset.dtype)
    except (TypeError, ValueError):  # types that NumPy has no word for
        return None
    return kind.name if kind.kind in "uifb" else None


@dataclass(frozen=True, slots=True)
class _Tag:
    key: str
    resolution: float


def _axis_tags(dataset: h5py.Dataset) -> list[_Tag]:
    """Ilastik's axes, in the order of the data set; none when it has none, or others than axes."""
    try:
        axes = json.loads(text(dataset.attrs["axistags"]))["axes"]
        tags = [_Tag(str(axis["key"]).lower(), float(axis.get("resolution") or 0)) for axis in axes]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []
    return tags if len(tags) == len(dataset.shape) else []


def _labels(dataset: h5py.Dataset) -> str:
    if "DIMENSION_LABELS" not in dataset.attrs:
        return ""
    labels = [text(label).lower() for label in np.asarray(dataset.attrs["DIMENSION_LABELS"]).ravel()]
    known = len(labels) == len(dataset.shape) and all(
        len(label) == 1 and label in "zyxct" for label in labels
    )
    return "".join(labels) if known else ""


def _matlab(dataset: h5py.Dataset) -> str:
    """MATLAB's images are (y, x, z), and its axes are turned around in HDF5."""
    return "zxy" if "MATLAB_class" in dataset.attrs and len(dataset.shape) == 3 else ""


def _guess(shape: Sequence[int]) -> str:
    """Three axes that are longer than one are z, y and x."""
    long = [number for number, size in enumerate(shape) if size > 1]
    if len(shape) == 3 or len(long) != 3 or len(shape) - 3 > len(_SINGLE):
        return ""
    names = dict(zip(long, "zyx", strict=True))
    rest = iter(_SINGLE)
    return "".join(names.get(number) or next(rest) for number in range(len(shape)))


def _voxel_size(dataset: h5py.Dataset, tags: Sequence[_Tag]) -> VoxelSize | None:
    for attribute, default in (("element_size_um", "um"), ("resolution", "nm"), ("voxel_size", "nm")):
        edges = numbers(dataset.attrs[attribute], 3) if attribute in dataset.attrs else None
        if edges is not None:
            units = _units(dataset) if default == "nm" else None
            return voxel_size_of(*map(nanometres, edges, units or [default] * 3))
    try:
        named: dict[str, Any] = json.loads(text(dataset.attrs["axis_units"]))
        sizes = {tag.key: nanometres(tag.resolution, named.get(tag.key)) for tag in tags}
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return voxel_size_of(sizes.get("z"), sizes.get("y"), sizes.get("x"))


def _units(dataset: h5py.Dataset) -> list[str] | None:
    if "units" not in dataset.attrs:
        return None
    found = np.asarray(dataset.attrs["units"]).ravel()
    named = [text(each) for each in found]
    return named * 3 if len(named) == 1 else named if len(named) == 3 else None
