"""`Range` of HTTP (RFC 9110, section 14), as far as one range of bytes goes."""

from __future__ import annotations

import re
from typing import Final

_RANGE: Final = re.compile(
    r"bytes[ \t]*=[ \t]*(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))[ \t]*", re.IGNORECASE
)


class UnsatisfiableRange(Exception):
    """The range lies beyond the end: 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the half-open range of bytes that is wanted of an object, or None for the whole of it.

    As the RFC wants, a header that is malformed or in another unit is ignored; several ranges are, as it
    allows, answered with the whole.

    Args:
        header: Value of `Range`, '' when there is none.
        size: Of the object in bytes.

    Raises:
        UnsatisfiableRange: The range is valid and holds no byte of the object.
    """
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise UnsatisfiableRange
        return max(0, size - int(suffix)), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableRange
    return start, min(int(last) + 1, size) if last else size
