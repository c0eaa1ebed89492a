"""Bundles as zip files: made for people, and taken from them with care."""

from __future__ import annotations

import io
import re
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
_MARKS: Final = (
    "configs/metadata.json",
    "configs/metadata.yaml",
    "configs/metadata.yml",
    "rdf.yaml",
    "bioimageio.yaml",
)
"""Files by which the root of a bundle, or of a bioimage.io package, is known."""
_MACOS: Final = "__MACOSX"
"""Where macOS keeps what its own file system knows of each file."""
_MAX_SHOWN: Final = 3
_DRIVE: Final = re.compile(r"[A-Za-z]:")

_Parts = tuple[str, ...]


def pack(objects: BlockingObjects, key: str, folder_name: str, target: IO[bytes]) -> None:
    """Write the bundle below `key` as a zip file with one folder at its root."""
    # Weights do not shrink; the rest is small.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in objects.list(f"{key}/"):
            archive.writestr(f"{folder_name}/{name.removeprefix(f'{key}/')}", objects.get(name))


def unpack(source: Path, folder: Path, max_bytes: int) -> None:
    """Write the files of a bundle's zip file into `folder`, without the folder that the bundle lies in.

    What lies beside that folder, and what systems and tools add (`__MACOSX`, `.DS_Store`, `.git`), stays behind.

    Raises:
        InvalidArgument: BAD_BUNDLE for what is no zip file, leads out of the folder, or is not one bundle.
        ResourceExhausted: BUNDLE_TOO_LARGE when more than `max_bytes` come out of it, whatever it claims.
    """
    try:
        with _BoundedReader(io.FileIO(source)) as file, zipfile.ZipFile(file) as archive:
            files = [(item, _checked(item)) for item in archive.infolist() if not item.is_dir()]
            visible = [(item, parts) for item, parts in files if not _is_hidden(parts)]
            root = _root([parts for _, parts in visible])
            members = [(item, _below(root, parts)) for item, parts in visible if _lies_in(root, parts)]
            if len(members) > _MAX_FILES:
                raise InvalidArgument(
                    "BAD_BUNDLE", f"the bundle holds {len(members)} files, over {_MAX_FILES}"
                )
            left = max_bytes
            for item, parts in members:
                path = folder.joinpath(*parts)
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


def _checked(item: zipfile.ZipInfo) -> _Parts:
    """The parts of a file's path; InvalidArgument BAD_BUNDLE for one that could lead out of a folder.

    Files that stay behind are looked at, too: who writes such names means harm.
    """
    name = item.filename
    # Windows would take them for folders, others for a part of the name: which file is meant is not for us to guess.
    if "\\" in name:
        raise InvalidArgument(
            "BAD_BUNDLE",
            f"names in the zip file have backslashes, first {name[:100]!r}; zip the folder again with a tool that "
            "divides names with /",
        )
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\0" in name or ".." in parts or any(map(_DRIVE.match, parts)):
        raise InvalidArgument("BAD_BUNDLE", f"file name {name[:100]!r} in the bundle leads out of it")
    if (item.external_attr >> 16) & 0o170000 == _LINK:
        raise InvalidArgument("BAD_BUNDLE", f"{name[:100]!r} in the bundle is a link")
    return parts


def _is_hidden(parts: _Parts) -> bool:
    """Whether a file is no part of what people packed, as far as they know."""
    return any(part == _MACOS or part.startswith(".") for part in parts)


def _root(files: Sequence[_Parts]) -> _Parts:
    """The folder in which the bundle lies; one within another's counts as that one's."""
    marks = [tuple(mark.split("/")) for mark in _MARKS]
    found: list[_Parts] = []
    for parts in sorted(files, key=len):
        root = next((parts[: -len(mark)] for mark in marks if parts[-len(mark) :] == mark), None)
        if root is None or any(_lies_in(outer, root) for outer in found):
            continue
        found.append(root)
        # Enough to say so: a hostile file may hold very many.
        if len(found) == _MAX_SHOWN:
            break
    if not found:
        raise InvalidArgument("BAD_BUNDLE", f"the bundle has none of {list(_MARKS)}")
    if len(found) > 1:
        shown = ", ".join(repr("/".join(root)[:100]) for root in found)
        raise InvalidArgument(
            "BAD_BUNDLE", f"the zip file holds several bundles ({shown}); zip and import each by itself"
        )
    return found[0]


def _lies_in(folder: _Parts, parts: _Parts) -> bool:
    return parts[: len(folder)] == folder


def _below(folder: _Parts, parts: _Parts) -> _Parts:
    return parts[len(folder) :]


def _copy(reader: IO[bytes], writer: IO[bytes], left: int, max_bytes: int) -> int:
    while data := reader.read(_COPY_BYTES):
        left -= len(data)
        if left < 0:
            raise ResourceExhausted(
                "BUNDLE_TOO_LARGE", f"the bundle holds more than the {max_bytes} bytes that are allowed"
            )
        writer.write(data)
    return left
