"""Models of Microscopy Image Browser (.model, and .mat of version 1): MATLAB 7.3 files, which are HDF5.

`modelVariable` (`model_var`) names the variable that holds the labels: (y, x, z) or (y, x, z, t) in MATLAB, and so
(z, x, y) or (t, z, x, y) in HDF5. `BoundingBox` (`bounding_box`) is xmin, xmax, ymin, ymax, zmin, zmax between the
centres of the first and the last voxel, in micrometres. MIB's HDF5 images are ilastik's: `hdf5` reads them.
"""

from __future__ import annotations

import re

import numpy as np

from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.chunk_row import chunked_source
from biosegment_datastore.formats.hdf5_file import Hdf5File, numbers
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.selection import Selection, select
from biosegment_datastore.formats.source import SourceOptions, unreadable

_VARIABLES = ("modelVariable", "model_var")
_BOXES = ("BoundingBox", "bounding_box")
_MAX_NAME = 100


def recognises_file(file: Hdf5File) -> bool:
    """Whether it says which variable holds a model."""
    return _variable(file) is not None


def open_file(file: Hdf5File, options: SourceOptions) -> ArraySource:
    """The labels of one time point; the source closes the file.

    Raises:
        InvalidArgument: UNREADABLE_FILE, BAD_DTYPE, IMAGE_TOO_LARGE, and what is wrong with `time_point`.
    """
    variable = _variable(file)
    dataset = file.dataset(variable) if variable else None
    if dataset is None or len(dataset.shape) not in (2, 3, 4):
        raise unreadable(file.name, f"it lacks the model {variable!r}")
    axes = {2: "xy", 3: "zxy", 4: "tzxy"}[len(dataset.shape)]
    selection = select(file.name, axes, dataset.shape, SourceOptions(options.axes, None, options.time_point))
    chunks = dataset.chunks or (1,) * (len(dataset.shape) - 2) + dataset.shape[-2:]
    return chunked_source(
        file.name,
        "MIB model",
        dataset,
        selection,
        chunks,
        _voxel_size(file, selection),
        options,
        file.close,
    )


def _variable(file: Hdf5File) -> str | None:
    for name in _VARIABLES:
        found = file.dataset(name)
        if found is not None and found.dtype.kind == "u" and found.size and found.size <= _MAX_NAME:
            spelled = "".join(map(chr, np.asarray(found[()]).ravel().tolist()))
            return spelled if re.fullmatch(r"\w+", spelled) else None
    return None


def _voxel_size(file: Hdf5File, selection: Selection) -> VoxelSize | None:
    for name in _BOXES:
        found = file.dataset(name)
        if found is None or found.size != 6:
            continue
        box = numbers(found[()], 6)
        if box is not None:
            spans = (box[5] - box[4], box[3] - box[2], box[1] - box[0])
            return voxel_size_of(
                *(
                    nanometres(span / (max(count, 2) - 1), "um")
                    for span, count in zip(spans, selection.shape, strict=True)
                )
            )
    return None
