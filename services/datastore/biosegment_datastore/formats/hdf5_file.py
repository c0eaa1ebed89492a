"""HDF5 files from elsewhere, walked so that they cannot lead to other files.

HDF5 can refer to other files in three ways: external links, data sets with external storage, and virtual data sets.
All are refused, before the library opens what they name. Soft links are followed here, not by the library, for a soft
link may lead through an external one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from biosegment.errors import InvalidArgument
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import SourceOptions, unreadable

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_OBJECTS = 20_000
_MAX_LINKS = 16


def has_signature(path: Path, head: bytes) -> bool:
    """Whether a file is HDF5; the signature may follow a block of the user's, as in MATLAB files."""
    if head.startswith(_SIGNATURE) or head[512:].startswith(_SIGNATURE):
        return True
    if len(head) < 1024 or not head.startswith(b"MATLAB"):
        return False
    with path.open("rb") as file:
        for place in (1024, 2048, 4096):
            file.seek(place)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
    return False


class Hdf5File:
    """An open file.

    Args:
        path: Of the file, which is opened for reading only.

    Raises:
        InvalidArgument: UNREADABLE_FILE, TRUNCATED_FILE.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        try:
            # Locks fail on read-only network file systems, and nobody writes here.
            self._file = h5py.File(path, "r", locking=False)
        except OSError as error:
            if "truncated" in str(error):
                raise InvalidArgument(
                    "TRUNCATED_FILE", f"{path.name!r} is shorter than it says: copy it again"
                ) from error
            raise unreadable(path.name, "its HDF5 structure is damaged") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def find(self, path: str) -> h5py.Group | h5py.Dataset | None:
        """The group or data set at a path from the root; None when there is none.

        Raises:
            InvalidArgument: UNREADABLE_FILE when a link on the way leads out of the file, or in circles.
        """
        here: Any = self._file.id
        parts = [part for part in path.split("/") if part not in ("", ".")]
        followed = 0
        trail: list[Any] = [here]
        while parts:
            name = parts.pop(0).encode()
            if not isinstance(here, h5py.h5g.GroupID | h5py.h5f.FileID) or name not in _names(here):
                return None
            kind = here.links.get_info(name).type
            if kind == h5py.h5l.TYPE_HARD:
                here = h5py.h5o.open(here, name)
                trail.append(here)
                continue
            if kind != h5py.h5l.TYPE_SOFT:
                raise self._leads_out(name.decode(errors="replace"), "a link to another file")
            followed += 1
            target = here.links.get_val(name).decode(errors="replace")
            if followed > _MAX_LINKS or ".." in target.split("/"):
                raise unreadable(self.name, f"the link {name.decode(errors='replace')!r} leads nowhere")
            parts = [part for part in target.split("/") if part not in ("", ".")] + parts
            if target.startswith("/"):
                here = self._file.id
        return self._wrapped(here)

    def group(self, path: str) -> h5py.Group | None:
        """The group at a path; None when there is none. Errors as of `find`."""
        found = self.find(path)
        return found if isinstance(found, h5py.Group) else None

    def dataset(self, path: str) -> h5py.Dataset | None:
        """The data set at a path, checked; None when there is none.

        Raises:
            InvalidArgument: UNREADABLE_FILE when its data are in other files or compressed in a way not known here,
                TRUNCATED_FILE; and what `find` raises.
        """
        found = self.find(path)
        if not isinstance(found, h5py.Dataset):
            return None
        why = outside(found)
        if why:
            raise self._leads_out(path, why)
        self._require_filters(found)
        self._require_bytes(found)
        return found

    def walk(self, path: str = "/") -> Iterator[tuple[str, h5py.Dataset]]:
        """Every data set below a group with its path; links to elsewhere are left out, data sets are not checked."""
        top = self.group(path)
        queue = [("" if path == "/" else path.strip("/"), top.id)] if top is not None else []
        seen = {h5py.h5o.get_info(top.id).addr} if top is not None else set()
        count = 0
        while queue:
            prefix, group = queue.pop(0)
            for name in sorted(_names(group)):
                if name.startswith(b"#") or group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                    continue
                count += 1
                if count > _MAX_OBJECTS:
                    raise unreadable(self.name, f"it holds more than {_MAX_OBJECTS} objects")
                info = h5py.h5o.get_info(group, name)
                if info.addr in seen:
                    continue
                seen.add(info.addr)
                place = f"{prefix}/{name.decode(errors='replace')}".lstrip("/")
                if info.type == h5py.h5o.TYPE_GROUP:
                    queue.append((place, h5py.h5o.open(group, name)))
                elif info.type == h5py.h5o.TYPE_DATASET:
                    yield place, h5py.Dataset(h5py.h5o.open(group, name))

    def numbered(self, pattern: str, path: str = "/") -> list[tuple[int, str]]:
        """Numbers and names of the entries of a group that match a pattern with one group of digits, in order."""
        group = self.group(path)
        names = [name.decode(errors="replace") for name in _names(group.id)] if group is not None else []
        matches = ((re.fullmatch(pattern, name), name) for name in names)
        return sorted((int(match[1]), name) for match, name in matches if match)

    def _wrapped(self, identifier: Any) -> h5py.Group | h5py.Dataset | None:
        if isinstance(identifier, h5py.h5d.DatasetID):
            return h5py.Dataset(identifier)
        if isinstance(identifier, h5py.h5f.FileID):
            return self._file
        return h5py.Group(identifier) if isinstance(identifier, h5py.h5g.GroupID) else None

    def _leads_out(self, path: str, what: str) -> InvalidArgument:
        return InvalidArgument(
            "UNREADABLE_FILE",
            f"{path!r} in {self.name!r} is {what}, which is not followed: copy the data into one file, "
            "for example with h5repack",
        )

    def _require_filters(self, dataset: h5py.Dataset) -> None:
        plist = dataset.id.get_create_plist()
        for number in range(plist.get_nfilters()):
            code, _, _, title = plist.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                raise unreadable(
                    self.name,
                    f"its data are compressed with the HDF5 filter {code} ({title.decode(errors='replace')[:80]}), "
                    "which is not known here; gzip is",
                )

    def _require_bytes(self, dataset: h5py.Dataset) -> None:
        plist = dataset.id.get_create_plist()
        offset = dataset.id.get_offset()
        if plist.get_layout() != h5py.h5d.CONTIGUOUS or offset is None:
            return
        needed, size = offset + dataset.nbytes, self.path.stat().st_size
        if needed > size:
            raise InvalidArgument(
                "TRUNCATED_FILE", f"{self.name!r} ends after {size} of {needed} bytes: copy it again"
            )


def outside(dataset: h5py.Dataset) -> str:
    """How a data set's data are in other files, or ''; to be asked before its shape, which may open those files."""
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        return "a virtual data set"
    return "a data set with external storage" if plist.get_external_count() else ""


def text(value: object) -> str:
    """An attribute as text: a string, bytes, or an array of single characters as Imaris writes."""
    if isinstance(value, np.ndarray):
        value = (
            b"".join(value.ravel().tolist()) if value.dtype.kind == "S" else "".join(map(str, value.ravel()))
        )
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def numbers(value: object, count: int) -> list[float] | None:
    """An attribute as so many numbers; None when it is something else."""
    try:
        found = [float(each) for each in np.asarray(value).ravel()]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count else None


def choose_stack(
    name: str, times: int, channels: int, shape: tuple[int, ...], options: SourceOptions
) -> tuple[int, int]:
    """Which time point and channel to take of a file that keeps each of its zyx stacks apart.

    Raises:
        InvalidArgument: CHANNEL_MISSING, BAD_CHANNEL, TIME_POINT_MISSING, BAD_TIME_POINT.
    """
    given = SourceOptions(channel=options.channel, time_point=options.time_point)
    # Such a file knows its z axis, so that one plane in z is not taken for a series in time.
    chosen = select(name, "tczyx", (times, channels, max(2, shape[0]), *shape[1:]), given).fixed
    return chosen[0] or 0, chosen[1] or 0


def _names(group: Any) -> set[bytes]:
    found: set[bytes] = set()
    group.links.iterate(found.add)
    return found
