"""The files of a folder, or of a zip file, that are slices of one volume."""

from __future__ import annotations

import itertools
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

from biosegment.errors import InvalidArgument
from biosegment_datastore.formats.source import MAX_PLANE_BYTES, unreadable

_IGNORED = ("thumbs.db", "desktop.ini")
_MAX_DEPTH = 4
_SHOWN = 10


class SliceFiles(Protocol):
    """Where slices are; safe to use from several threads."""

    name: str
    """Of the folder or zip file, for messages."""

    def names(self) -> Sequence[str]:
        """Of all files but those that operating systems leave behind, in no particular order."""

    def open(self, name: str) -> BinaryIO:
        """One file, seekable."""

    def close(self) -> None: ...


class Folder:
    """Files of a folder on disk; when it holds nothing but another folder, of that one.

    Raises:
        InvalidArgument: UNSAFE_LINK when a link leads out of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.name, self._root, self._path = path.name, path.resolve(), path.resolve()
        for _ in range(_MAX_DEPTH):
            inside = [each for each in self._path.iterdir() if not _is_ignored(each.name)]
            if len(inside) != 1 or not self._safe(inside[0]).is_dir():
                break
            self._path = self._safe(inside[0])
        # Pipes and devices are no files: opening one might wait for ever.
        self._files = {each.name: self._safe(each) for each in inside if self._safe(each).is_file()}

    def names(self) -> Sequence[str]:
        return list(self._files)

    def open(self, name: str) -> BinaryIO:
        try:
            # What became a link since it was looked at is not followed.
            return cast(
                BinaryIO,
                open(
                    self._files[name], "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)
                ),
            )
        except OSError as error:
            raise unreadable(
                f"{self.name}/{name}", f"the server cannot open it ({error.strerror})"
            ) from error

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _safe(self, path: Path) -> Path:
        if not path.is_symlink():
            return path
        target = path.resolve()
        if not target.is_relative_to(self._root):
            raise InvalidArgument(
                "UNSAFE_LINK",
                f"{path.name!r} in {self.name!r} is a link out of the folder: copy the file itself into the folder",
            )
        return target


class Zip:
    """Files of a zip archive, which is never unpacked; all of one folder in it.

    Raises:
        InvalidArgument: UNREADABLE_FILE, UNSAFE_ARCHIVE, SEVERAL_FOLDERS.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise unreadable(path.name, f"the archive is damaged ({error})") from error
        try:
            self._entries = self._checked(self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise

    def names(self) -> Sequence[str]:
        return list(self._entries)

    def open(self, name: str) -> BinaryIO:
        try:
            return cast(BinaryIO, self._zip.open(self._entries[name]))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise unreadable(f"{self.name}/{name}", f"it does not unpack ({error})") from error

    def close(self) -> None:
        self._zip.close()

    def _checked(self, entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        folders = set()
        for entry in entries:
            parts = PurePosixPath(entry.filename).parts
            why = _unsafe(entry, parts)
            if why:
                raise InvalidArgument(
                    "UNSAFE_ARCHIVE",
                    f"{self.name!r} holds {entry.filename[:100]!r}, {why}: make a new archive of the slices",
                )
            if entry.is_dir() or any(_is_ignored(part) for part in parts):
                continue
            if parts[-1] in found:
                folders.add(parts[:-1])
            found[parts[-1]] = entry
            folders.add(parts[:-1])
        if len(folders) > 1:
            raise InvalidArgument(
                "SEVERAL_FOLDERS",
                f"{self.name!r} holds files in {len(folders)} folders: slices of one volume belong into one",
            )
        return found


def _unsafe(entry: zipfile.ZipInfo, parts: tuple[str, ...]) -> str:
    """Why an entry of an archive is refused; '' when it is not. Nothing is ever unpacked to a path, all the same."""
    if ".." in parts or entry.filename.startswith("/") or "\\" in entry.filename or ":" in entry.filename[:3]:
        return "a path that leaves the archive"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or a device"
    if entry.flag_bits & 1:
        return "which is encrypted"
    if entry.file_size > MAX_PLANE_BYTES:
        return f"which unpacks to {entry.file_size} bytes"
    return ""


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED or name == "__MACOSX"


def natural_order(names: Sequence[str]) -> list[str]:
    """Names in the order that people mean: slice2 before slice10."""
    return sorted(names, key=lambda name: (_parts(name.casefold()), name))


def _parts(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", name)))


@dataclass(frozen=True, slots=True)
class _Numbering:
    """Names that are alike but for one number; `numbers` in the order of the names."""

    numbers: tuple[int, ...]
    step: int


def require_complete(folder: str, names: Sequence[str]) -> None:
    """Refuse a numbered series with a hole; series without clear numbers are taken as they are.

    Args:
        folder: For messages.
        names: In natural order.

    Raises:
        InvalidArgument: SLICE_MISSING, SLICE_TWICE.
    """
    numbering = _numbering(names)
    if numbering is None:
        return
    numbers, step = numbering.numbers, numbering.step
    for before, number, name in zip(numbers, numbers[1:], names[1:], strict=False):
        if before == number:
            raise InvalidArgument(
                "SLICE_TWICE", f"{folder!r} holds slice {number} twice: remove {name!r} or its double"
            )
    held = set(numbers)
    wanted = range(numbers[0], numbers[-1] + 1, step)
    missing = len(wanted) - len(held)
    if missing > 0:
        first = [str(number) for number in wanted if number not in held][:_SHOWN]
        more = f" and {missing - len(first)} more" if missing > len(first) else ""
        what = (
            f"slice {first[0]} is missing" if missing == 1 else f"slices {', '.join(first)}{more} are missing"
        )
        raise InvalidArgument(
            "SLICE_MISSING", f"{what} in {folder!r}: add what is missing, or number the slices without gaps"
        )


def _numbering(names: Sequence[str]) -> _Numbering | None:
    if len(names) < 3:
        return None
    parts = [_parts(Path(name).stem.casefold()) for name in names]
    if len({len(each) for each in parts}) != 1:
        return None
    varying = [place for place, values in enumerate(zip(*parts, strict=True)) if len(set(values)) > 1]
    if not varying:
        return _Numbering(tuple(0 for _ in names), 1)
    if len(varying) != 1 or not varying[0] % 2:
        return None
    numbers = tuple(int(each[varying[0]]) for each in parts)
    steps = Counter(after - before for before, after in itertools.pairwise(numbers))
    step, often = steps.most_common(1)[0]
    if step == 0:
        return _Numbering(numbers, 1)
    # Times and positions are numbers too, but not evenly spaced ones.
    even = all(each % step == 0 for each in steps)
    return _Numbering(numbers, step) if even and often * 2 >= len(numbers) - 1 else None
