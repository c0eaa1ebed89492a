"""Imaris 5.5 (.ims): HDF5 with resolution levels and histograms."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from biosegment.storage.multiscale import Level
from biosegment.volume import BlockGrid, Index, Region
from biosegment_datastore.formats.writers.hdf5 import dataset_options
from biosegment_datastore.formats.writers.shrinking import levels_of, shrunk, total_slices
from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    Voxels,
    block_edges,
    slices_done,
)

_BINS: Final = 256


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write one channel at one time point; lengths in µm, extents from edge to edge.

    Raises:
        OSError: The disk is full, among others.
    """
    levels = levels_of(frame)
    done, total = 0, total_slices(levels)
    with h5py.File(path, "w", libver="earliest") as file:
        _write_root(file)
        finer: Any = None
        histogram = _Histogram(source.dtype)
        for number, level in enumerate(levels):
            channel = file.create_group(f"DataSet/ResolutionLevel {number}/TimePoint 0/Channel 0")
            data = channel.create_dataset("Data", **dataset_options(level.shape, source))
            if finer is None:
                _copy(source, frame, data, histogram, lambda slices: progress(slices, total))
            else:
                read = _Counted(finer, histogram)
                for box, voxels in shrunk(
                    read, levels[number - 1], level, block_edges(level.shape), frame.is_labels
                ):
                    data[box.slices] = voxels
                    progress(done + box.stop.z, total)
                _describe_channel(finer.parent, levels[number - 1], histogram.taken())
            done += level.shape.z
            finer = data
        for box in BlockGrid(levels[-1].shape, block_edges(levels[-1].shape)):
            histogram.count(finer[box.slices])
        _describe_channel(finer.parent, levels[-1], histogram.taken())
        _write_info(file, frame, histogram)


class _Histogram:
    """Of 256 bins between the extremes of the image, or of its whole range for bytes."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._is_byte = dtype == np.uint8
        self.minimum, self.maximum = np.inf, -np.inf
        self._counts = np.zeros(_BINS, np.uint64)

    def stretch(self, voxels: Voxels) -> None:
        """Take the extremes of the full resolution into account."""
        self.minimum = min(self.minimum, float(voxels.min()))
        self.maximum = max(self.maximum, float(voxels.max()))

    def count(self, voxels: Voxels) -> None:
        if self._is_byte:
            self._counts += np.bincount(voxels.reshape(-1), minlength=_BINS).astype(np.uint64)
            return
        for plane in voxels:
            counts, _ = np.histogram(plane, _BINS, self.range)
            self._counts += counts.astype(np.uint64)

    @property
    def range(self) -> tuple[float, float]:
        """Of the bins; never empty."""
        if self._is_byte:
            return 0.0, 255.0
        return self.minimum, max(self.maximum, self.minimum + 1)

    def taken(self) -> tuple[Any, float, float]:
        """Counts since the last call, and the range."""
        counts, self._counts = self._counts, np.zeros(_BINS, np.uint64)
        return counts, *self.range


class _Counted:
    """Reads boxes of a level, each once, and counts what it reads."""

    def __init__(self, data: Any, histogram: _Histogram) -> None:
        self._data, self._histogram = data, histogram

    def __call__(self, box: Region) -> Voxels:
        voxels: Voxels = self._data[box.slices]
        self._histogram.count(voxels)
        return voxels


def _copy(source: ExportSource, frame: ExportFrame, data: Any, histogram: _Histogram, progress: Any) -> None:
    grid = BlockGrid(frame.shape, block_edges(frame.shape))
    for number, box in enumerate(grid):
        voxels = source.read(box.shifted(frame.region.start))
        histogram.stretch(voxels)
        data[box.slices] = voxels
        progress(slices_done(grid, number))


def _text(value: object) -> Any:
    """How Imaris writes every attribute: an array of single characters."""
    return np.frombuffer(str(value).encode("latin-1", "replace") or b" ", "S1")


def _write_root(file: Any) -> None:
    for name, value in {
        "DataSetDirectoryName": "DataSet",
        "DataSetInfoDirectoryName": "DataSetInfo",
        "ImarisDataSet": "ImarisDataSet",
        "ImarisVersion": "5.5.0",
        "ThumbnailDirectoryName": "Thumbnail",
    }.items():
        file.attrs[name] = _text(value)
    file.attrs["NumberOfDataSets"] = np.array([1], np.uint32)


def _describe_channel(channel: Any, level: Level, counted: tuple[Any, float, float]) -> None:
    counts, low, high = counted
    for axis, size in zip("ZYX", level.shape, strict=True):
        channel.attrs[f"ImageSize{axis}"] = _text(size)
    channel.attrs["HistogramMin"], channel.attrs["HistogramMax"] = _text(f"{low:.3f}"), _text(f"{high:.3f}")
    channel.create_dataset("Histogram", data=counts)


def _write_info(file: Any, frame: ExportFrame, histogram: _Histogram) -> None:
    shape: Index = frame.shape
    description = [frame.description, *(f"class {each.value}: {each.name}" for each in frame.classes)]
    image: dict[str, object] = {
        "Name": frame.name,
        "Description": "\n".join(description),
        "Unit": "um",
        "RecordingDate": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}.000",
        "ResampleDimensionX": "true",
        "ResampleDimensionY": "true",
        "ResampleDimensionZ": "true",
    }
    for number, axis in enumerate("XYZ"):
        place = 2 - number
        edge, start = [*frame.voxel_size][place] / 1000, frame.origin_nm[place] / 1000
        image[axis] = shape[place]
        image[f"ExtMin{number}"] = f"{start - edge / 2:.12g}"
        image[f"ExtMax{number}"] = f"{start + edge * (shape[place] - 0.5):.12g}"
    low, high = histogram.minimum, histogram.maximum
    channel = {
        "Name": frame.name,
        "Color": "1.000 1.000 1.000",
        "ColorMode": "BaseColor",
        "ColorOpacity": "1.000",
        "ColorRange": f"{low:.3f} {high:.3f}",
        "GammaCorrection": "1.000",
    }
    time = {"DatasetTimePoints": 1, "FileTimePoints": 1, "TimePoint1": image["RecordingDate"]}
    groups: dict[str, dict[str, Any]] = {
        "Image": image,
        "Channel 0": channel,
        "TimeInfo": time,
        "Imaris": {"Version": "5.5", "ThumbnailMode": "thumbnailNone"},
        "ImarisDataSet": {"Creator": "BioSegment", "NumberOfImages": 1},
    }
    for name, attributes in groups.items():
        group = file.create_group(f"DataSetInfo/{name}")
        for key, value in attributes.items():
            group.attrs[key] = _text(value)
