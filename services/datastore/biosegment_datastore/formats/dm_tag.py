"""The tree of tags that a DigitalMicrograph file consists of.

A header (version, size, byte order of the values) and one group. A group is a list of entries, each a named group or a
named value. Lengths and types are big-endian, of 4 bytes in version 3 and mostly of 8 in version 4; values are in the
header's byte order. Large values are noted and not read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from biosegment_datastore.formats.compressed import truncated
from biosegment_datastore.formats.raw import read_exactly
from biosegment_datastore.formats.source import unreadable

Tags = dict[str, Any]
"""A group: nested groups, numbers, `Blob`s; entries without a name are counted."""

_GROUP, _VALUE = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_CODES: Final = {
    **{2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?", 9: "b", 10: "B", 11: "q", 12: "Q"},
}
_MAX_DEPTH: Final = 64
_MAX_TAGS: Final = 200_000
_MAX_TEXT_BYTES: Final = 4096
_MAX_INFO: Final = 4096


@dataclass(frozen=True, slots=True)
class Blob:
    """A value that was not read: where it is and how many bytes it has."""

    offset: int
    size: int


def read_tags(name: str, file: BinaryIO, size: int) -> tuple[Tags, str]:
    """Read all tags.

    Args:
        name: Of the file, for messages.
        file: Positioned anywhere.
        size: Of the file.

    Returns:
        The root group, with the format's number as `version`, and the byte order of values, '<' or '>'.

    Raises:
        InvalidArgument: TRUNCATED_FILE or UNREADABLE_FILE.
    """
    file.seek(0)
    version = struct.unpack(">I", read_exactly(name, file, 4))[0]
    if version not in (3, 4):
        raise unreadable(name, f"version {version} is not known")
    reader = _Reader(name, file, size, "I" if version == 3 else "Q")
    reader.integer()
    reader.order = "<" if struct.unpack(">I", read_exactly(name, file, 4))[0] else ">"
    return {**reader.group(0), "version": version}, reader.order


def read_text(name: str, file: BinaryIO, blob: Blob, order: str) -> str:
    """The text that a short array of 16-bit numbers is; '' for a long one."""
    if blob.size > _MAX_TEXT_BYTES:
        return ""
    file.seek(blob.offset)
    return read_exactly(name, file, blob.size).decode("utf-16-le" if order == "<" else "utf-16-be", "replace")


class _Reader:
    def __init__(self, name: str, file: BinaryIO, size: int, width: str) -> None:
        self._name, self._file, self._size, self._width = name, file, size, width
        self._count = 0
        self.order = "<"

    def integer(self, code: str = "") -> int:
        code = code or self._width
        return int(struct.unpack(">" + code, read_exactly(self._name, self._file, struct.calcsize(code)))[0])

    def group(self, depth: int) -> Tags:
        if depth > _MAX_DEPTH:
            raise unreadable(self._name, f"its tags are nested deeper than {_MAX_DEPTH} levels")
        self._file.seek(2, 1)  # sorted, open
        entries: Tags = {}
        for number in range(self.integer()):
            self._count += 1
            if self._count > _MAX_TAGS:
                raise unreadable(self._name, f"it has more than {_MAX_TAGS} tags")
            kind, label = self.integer("B"), read_exactly(self._name, self._file, self.integer("H"))
            if self._width == "Q":
                self.integer()  # bytes to the next entry
            if kind not in (_GROUP, _VALUE):
                raise unreadable(self._name, f"there is no tag of kind {kind}")
            value = self.group(depth + 1) if kind == _GROUP else self._value()
            entries[label.decode("latin-1") or f"#{number}"] = value
        return entries

    def _value(self) -> Any:
        if read_exactly(self._name, self._file, 4) != b"%%%%":
            raise unreadable(self._name, f"there is no value at byte {self._file.tell() - 4}")
        length = self.integer()
        if not 1 <= length <= _MAX_INFO:
            raise unreadable(self._name, f"a tag has a type of {length} words")
        info = [self.integer() for _ in range(length)]
        if len(info) == 1 and info[0] in _CODES:
            code = self.order + _CODES[info[0]]
            return struct.unpack(code, read_exactly(self._name, self._file, struct.calcsize(code)))[0]
        blob = Blob(self._file.tell(), self._bytes(info))
        if blob.offset + blob.size > self._size:
            raise truncated(self._name, f"it ends after {self._size} of {blob.offset + blob.size} bytes")
        self._file.seek(blob.offset + blob.size)
        return blob

    def _bytes(self, info: list[int]) -> int:
        """Length of a value of the type `info`."""
        kind = info[0]
        if kind == _STRUCT:
            return self._struct_bytes(info)
        if kind == _STRING and len(info) == 2:
            return 2 * info[1]
        if kind == _ARRAY and len(info) >= 3:
            element = info[1:-1]
            if element[0] == _ARRAY:
                raise unreadable(self._name, "an array of arrays is not known")
            return self._bytes(element) * info[-1]
        if kind in _CODES and len(info) == 1:
            return struct.calcsize("=" + _CODES[kind])
        raise unreadable(self._name, f"there is no value of type {info[:4]}")

    def _struct_bytes(self, info: list[int]) -> int:
        # Length of its name, number of fields, then length of name and type of each.
        if len(info) < 3 or len(info) != 3 + 2 * info[2]:
            raise unreadable(self._name, "a structure has the wrong number of fields")
        return sum(self._bytes([kind]) for kind in info[4::2])
