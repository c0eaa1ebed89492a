"""Bundles as zip files: made for people, and taken from them with care."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Final

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.storage.objects import BlockingObjects

_MAX_FILES: Final = 200
_COPY_BYTES: Final = 1 << 20
_MAX_READ: Final = 1 << 20
"""Bytes that may be read at once: many times what a directory of so many files needs."""
_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LINK: Final = 0o120000
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)
"""What Python's reader raises for damaged files; ValueError for names that are no text, and odd offsets."""
_MARKS: Final = ("configs/metadata.json", "rdf.yaml", "bioimageio.yaml")
"""Files by which the root of a bundle, or of a bioimage.io package, is known."""


def pack(objects: BlockingObjects, key: str, folder_name: str, target: IO[bytes]) -> None:
    """Write the bundle below `key` as a zip file with one folder at its root."""
    # Weights do not shrink; the rest is small.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in objects.list(f"{key}/"):
            archive.writestr(f"{folder_name}/{name.removeprefix(f'{key}/')}", objects.get(name))


def unpack(source: Path, folder: Path, max_bytes: int) -> None:
    """Write the files of a bundle's zip file into `folder`, without the folder at its root.

    Raises:
        InvalidArgument: BAD_BUNDLE for what is no zip file, leads out of the folder, or is no bundle.
        ResourceExhausted: BUNDLE_TOO_LARGE when more than `max_bytes` come out of it, whatever it claims.
    """
    try:
        with _BoundedReader(io.FileIO(source)) as file, zipfile.ZipFile(file) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            if len(members) > _MAX_FILES:
                raise InvalidArgument(
                    "BAD_BUNDLE", f"the bundle holds {len(members)} files, over {_MAX_FILES}"
                )
            root = _root([item.filename for item in members])
            left = max_bytes
            for item in members:
                path = _inside(folder, item.filename.removeprefix(root))
                if (item.external_attr >> 16) & 0o170000 == _LINK:
                    raise InvalidArgument("BAD_BUNDLE", f"{item.filename!r} in the bundle is a link")
                # Python's readers of the other methods give all that comes out at once.
                if item.compress_type not in _PLAIN:
                    raise InvalidArgument(
                        "BAD_BUNDLE",
                        f"{item.filename[:100]!r} is compressed by method {item.compress_type}; "
                        "make the zip file with deflate, or without compression",
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(item) as reader, path.open("wb") as writer:
                    left = _copy(reader, writer, left, max_bytes)
    except _DAMAGE as error:
        raise InvalidArgument(
            "BAD_BUNDLE", f"the bundle is not a zip file that can be read: {error}"
        ) from error


class _BoundedReader(io.BufferedReader):
    """A file that is not read in larger pieces: `ZipFile` would read a directory of any size into memory, and
    make an object of each of its entries.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        limited = size is not None and 0 <= size <= _MAX_READ
        data = super().read(size if limited else _MAX_READ + 1)
        if len(data) > _MAX_READ:
            raise zipfile.BadZipFile(f"its directory is larger than {_MAX_READ} bytes")
        return data


def _root(names: Sequence[str]) -> str:
    """The folder in which the bundle lies: '' or `name/`."""
    found = [
        name.removesuffix(mark)
        for name in names
        for mark in _MARKS
        if name == mark or name.endswith(f"/{mark}")
    ]
    if not found:
        raise InvalidArgument("BAD_BUNDLE", f"the bundle has none of {list(_MARKS)}")
    root = min(found, key=len)
    outside = [name for name in names if not name.startswith(root)]
    if outside:
        raise InvalidArgument(
            "BAD_BUNDLE", f"the bundle holds files outside of {root!r}: {outside[0][:100]!r}"
        )
    return root


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise InvalidArgument("BAD_BUNDLE", f"file name {name[:100]!r} in the bundle leads out of it")
    return folder.joinpath(*parts)


def _copy(reader: IO[bytes], writer: IO[bytes], left: int, max_bytes: int) -> int:
    while data := reader.read(_COPY_BYTES):
        left -= len(data)
        if left < 0:
            raise ResourceExhausted(
                "BUNDLE_TOO_LARGE", f"the bundle holds more than the {max_bytes} bytes that are allowed"
            )
        writer.write(data)
    return left
