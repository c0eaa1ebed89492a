"""BigDataViewer's HDF5: a data set for each time point, view setup and level; voxel sizes are in an XML file beside it.

Its writers have no unsigned 16-bit type and store such voxels as signed ones: what is int16 in the file is uint16.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np

from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.hdf5_file import Hdf5File, choose_stack
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.source import SourceOptions, Voxels, unreadable

_MAX_XML_BYTES = 64 << 20


def recognises_file(file: Hdf5File) -> bool:
    """Whether it has time points that hold view setups."""
    times = file.numbered(r"t(\d{5,})")
    return bool(times) and bool(file.numbered(r"s(\d{2,})", times[0][1]))


def open_file(file: Hdf5File, options: SourceOptions) -> ArraySource:
    """The finest level of one view setup (`channel`) at one time point; the source closes the file.

    Raises:
        InvalidArgument: UNREADABLE_FILE, BAD_DTYPE, IMAGE_TOO_LARGE, and what is wrong with `channel` and `time_point`.
    """
    times = file.numbered(r"t(\d{5,})")
    setups = file.numbered(r"s(\d{2,})", times[0][1])
    time, channel = choose_stack(file.name, len(times), len(setups), (2, 1, 1), options)
    setup, setup_name = setups[channel]
    levels = file.numbered(r"(\d+)", f"{times[time][1]}/{setup_name}")
    dataset = file.dataset(f"{times[time][1]}/{setup_name}/{levels[0][1]}/cells") if levels else None
    if dataset is None or len(dataset.shape) != 3:
        raise unreadable(file.name, "it lacks the voxels of this view setup and time point")
    array: Any = _Unsigned(dataset) if dataset.dtype.kind == "i" and dataset.dtype.itemsize == 2 else dataset
    selection = Selection((None, None, None), (0, 1, 2), Index(*dataset.shape))
    chunks = dataset.chunks or (1, *dataset.shape[1:])
    return chunked_source(
        file.name,
        "BigDataViewer HDF5",
        array,
        selection,
        chunks,
        _voxel_size(file, setup),
        options,
        file.close,
    )


class _Unsigned:
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.dtype = np.dtype(np.uint16)

    def __getitem__(self, index: Any) -> Voxels:
        signed: Voxels = np.asarray(self._dataset[index], np.int16)
        return signed.view(np.uint16)


def _voxel_size(file: Hdf5File, setup: int) -> VoxelSize | None:
    beside = file.path.with_suffix(".xml")
    try:
        if beside.is_symlink() or not beside.is_file() or beside.stat().st_size > _MAX_XML_BYTES:
            return None
        document = beside.read_bytes()
        # Entities are the only way in which such a document can be larger than it is.
        root = None if b"<!DOCTYPE" in document else ElementTree.fromstring(document)
    except (OSError, ElementTree.ParseError):
        return None
    for view in root.iter("ViewSetup") if root is not None else ():
        if (view.findtext("id") or "").strip() == str(setup):
            unit = view.findtext("voxelSize/unit")
            edges = [nanometres(edge, unit) for edge in (view.findtext("voxelSize/size") or "").split()]
            return voxel_size_of(edges[2], edges[1], edges[0]) if len(edges) == 3 else None
    return None
