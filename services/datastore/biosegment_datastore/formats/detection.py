"""Which reader a file needs, told by its content: names lie."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from biosegment.errors import InvalidArgument, NotFound
from biosegment_datastore.formats.source import SourceOptions, VolumeSource

HEAD_BYTES = 1024

# Modules of this package, asked in this order. Each has
#   recognises(path: Path, head: bytes) -> bool    cheap; `head` is the file's beginning, b"" for a folder
#   open_source(path: Path, options: SourceOptions) -> VolumeSource
# and imports the library that it needs inside of `open_source`.
READERS = (
    "tiff",
    "hdf5",
    "nrrd",
    "nifti",
    "dm",
    "amira",
    "webknossos",
    "omezarr",
    "n5",
    "precomputed",
    "slices",
    "mrc",
)


def open_source(path: Path, options: SourceOptions | None = None) -> VolumeSource:
    """Open a file or folder for reading, whatever its format.

    Args:
        path: Where it is.
        options: What the importing person says about it.

    Raises:
        NotFound: FILE_NOT_FOUND.
        InvalidArgument: UNKNOWN_FORMAT, UNREADABLE_FILE, TRUNCATED_FILE, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE,
            BAD_AXES, CHANNEL_MISSING, BAD_CHANNEL, TIME_POINT_MISSING, BAD_TIME_POINT, DATASET_MISSING, NO_DATASET.
    """
    try:
        return _opened(path, options or SourceOptions())
    except PermissionError as error:
        raise _forbidden(path, error) from error


def _opened(path: Path, options: SourceOptions) -> VolumeSource:
    if not path.exists():
        raise NotFound("FILE_NOT_FOUND", f"there is no file {str(path)!r} on the server")
    head = b""
    if not path.is_dir():
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise _forbidden(path, error) from error
        if not head:
            raise InvalidArgument("UNREADABLE_FILE", f"{path.name!r} is empty: copy it again")
    for name in READERS:
        reader = import_module(f"biosegment_datastore.formats.{name}")
        if reader.recognises(path, head):
            source: VolumeSource = reader.open_source(path, options)
            return source
    raise InvalidArgument(
        "UNKNOWN_FORMAT",
        f"{path.name!r} is in no format that is known here; the documentation lists them, so convert it first",
    )


def _forbidden(path: Path, error: OSError) -> InvalidArgument:
    return InvalidArgument(
        "UNREADABLE_FILE",
        f"{path.name!r} cannot be opened by the server: {error.strerror}; check its permissions",
    )
