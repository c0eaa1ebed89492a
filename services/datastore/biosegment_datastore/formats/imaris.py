"""Imaris 5.5 files (.ims): HDF5, every channel and time point a data set that is padded to whole chunks."""

from __future__ import annotations

import h5py

from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.hdf5_file import Hdf5File, choose_stack, text
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.source import SourceOptions, unreadable

_FINEST = "DataSet/ResolutionLevel 0"


def recognises_file(file: Hdf5File) -> bool:
    """Whether it has Imaris' groups."""
    return file.group(_FINEST) is not None and file.group("DataSetInfo/Image") is not None


def open_file(file: Hdf5File, options: SourceOptions) -> ArraySource:
    """The finest level of one channel at one time point; the source closes the file.

    Raises:
        InvalidArgument: UNREADABLE_FILE, BAD_DTYPE, IMAGE_TOO_LARGE, and what is wrong with `channel` and `time_point`.
    """
    info = file.group("DataSetInfo/Image")
    assert info is not None
    times = file.numbered(r"TimePoint (\d+)", _FINEST)
    channels = file.numbered(r"Channel (\d+)", f"{_FINEST}/{times[0][1]}") if times else []
    if not channels:
        raise unreadable(file.name, "it holds no channel")
    size = [_number(info, axis) for axis in "ZYX"]
    time, channel = choose_stack(file.name, len(times), len(channels), (2, 1, 1), options)
    dataset = file.dataset(f"{_FINEST}/{times[time][1]}/{channels[channel][1]}/Data")
    if dataset is None or len(dataset.shape) != 3:
        raise unreadable(file.name, "it lacks the voxels of this channel and time point")
    if any(not edge or edge < 1 or edge > padded for edge, padded in zip(size, dataset.shape, strict=True)):
        raise unreadable(
            file.name, f"it says that its size is {size} (zyx), but keeps {dataset.shape} voxels"
        )
    shape = Index(*(int(edge or 0) for edge in size))
    chunks = dataset.chunks or (1, *dataset.shape[1:])
    selection = Selection((None, None, None), (0, 1, 2), shape)
    return chunked_source(
        file.name, "Imaris", dataset, selection, chunks, _voxel_size(info, shape), options, file.close
    )


def _number(info: h5py.Group, attribute: str) -> float | None:
    try:
        return float(text(info.attrs[attribute]))
    except (KeyError, ValueError):
        return None


def _voxel_size(info: h5py.Group, shape: Index) -> VoxelSize | None:
    unit = text(info.attrs["Unit"]) if "Unit" in info.attrs else "um"
    edges = []
    for number, count in zip((2, 1, 0), shape, strict=True):
        low, high = _number(info, f"ExtMin{number}"), _number(info, f"ExtMax{number}")
        edges.append(None if low is None or high is None else nanometres((high - low) / count, unit))
    return voxel_size_of(*edges)
