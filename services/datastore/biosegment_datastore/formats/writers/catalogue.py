"""The formats of exports: names, suffixes, and what each can hold. Libraries are imported by their writers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from biosegment.errors import InvalidArgument
from biosegment_datastore.formats.writers.target import ExportFrame, ExportSource, Progress

_SMALL: Final = ("uint8", "int8", "uint16", "int16", "float32")
_ALL: Final = (*_SMALL, "uint32", "uint64")

Write = Callable[[Path, ExportSource, ExportFrame, Progress], None]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format that an export can have.

    Attributes:
        key: As in the names of the API, in lower case.
        name: For people.
        module: Of this package; its `write` makes the file.
        dtypes: Of the voxels that the file can hold without loss.
        suffix: Of the file's name.
        classes_suffix: The same for class labels alone; '' for the same.
        labels_only: The format knows no grey values.
    """

    key: str
    name: str
    module: str
    media_type: str
    suffix: str
    dtypes: tuple[str, ...]
    classes_suffix: str = ""
    labels_only: bool = False

    def holds(self, dtype: str, is_labels: bool) -> bool:
        """Whether such voxels can be written."""
        return dtype in self.dtypes and (is_labels or not self.labels_only)

    def suffix_of(self, has_classes: bool) -> str:
        """Suffix of a file of such voxels."""
        return (has_classes and self.classes_suffix) or self.suffix

    def require(self, dtype: str, is_labels: bool) -> None:
        """InvalidArgument FORMAT_CANNOT_HOLD, with the names of formats that can hold such voxels."""
        if self.holds(dtype, is_labels):
            return
        what = "grey values" if self.labels_only and not is_labels else f"{dtype} voxels"
        others = ", ".join(each.key for each in FORMATS if each.holds(dtype, is_labels))
        raise InvalidArgument(
            "FORMAT_CANNOT_HOLD", f"{self.name} cannot hold {what}; these formats can: {others}"
        )

    def writer(self) -> Write:
        """What makes a file of this format."""
        write: Write = import_module(f"biosegment_datastore.formats.writers.{self.module}").write
        return write


FORMATS: Final = (
    FileFormat("ome_tiff", "OME-TIFF", "ometiff", "image/tiff", ".ome.tif", (*_SMALL, "uint32")),
    FileFormat("tiff", "TIFF", "tiff", "image/tiff", ".tif", (*_SMALL, "uint32")),
    FileFormat("ome_zarr", "OME-Zarr", "omezarr", "application/zip", ".ome.zarr.zip", _ALL),
    FileFormat("hdf5", "HDF5", "hdf5", "application/x-hdf5", ".h5", _ALL),
    FileFormat("mrc", "MRC", "mrc", "application/octet-stream", ".mrc", _SMALL),
    FileFormat("nrrd", "NRRD", "nrrd", "application/octet-stream", ".nrrd", _ALL, classes_suffix=".seg.nrrd"),
    FileFormat("nifti", "NIfTI", "nifti", "application/gzip", ".nii.gz", _ALL),
    FileFormat(
        "ims", "Imaris", "imaris", "application/x-hdf5", ".ims", ("uint8", "uint16", "uint32", "float32")
    ),
    FileFormat(
        "amiramesh",
        "AmiraMesh",
        "amira",
        "application/octet-stream",
        ".am",
        ("uint8", "uint16", "int16", "float32"),
    ),
    FileFormat(
        "mib_model",
        "MIB model",
        "mib",
        "application/x-hdf5",
        ".model",
        ("uint8", "uint16", "uint32"),
        labels_only=True,
    ),
)

BY_KEY: Final = {each.key: each for each in FORMATS}
