"""Identifiers and resource names.

An id is 26 lower-case characters: 48 bits of time in ms, 80 random bits, Crockford base 32 (a lower-case ULID), so that
ids sort by creation time. A resource name is a path of collections and ids: `projects/{project}/volumes/{volume}`.
"""

from __future__ import annotations

import os
import re
import time

from biosegment.errors import InvalidArgument

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def new_id() -> str:
    """Make a new id; later ones sort after earlier ones at millisecond resolution."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def is_id(value: str) -> bool:
    """Whether `value` may serve as an id."""
    return _ID.fullmatch(value) is not None


def check_id(value: str, what: str) -> str:
    """Return `value` when it may serve as an id (1 to 63 of a-z, 0-9, '-'); raise InvalidArgument otherwise."""
    if not is_id(value):
        raise InvalidArgument(
            "BAD_ID",
            f"{what} id {value!r} is not allowed: use 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'",
        )
    return value


def parse_name(name: str, pattern: str) -> tuple[str, ...]:
    """Split a resource name by a pattern such as `projects/*/volumes/*` and return the ids.

    Raises:
        InvalidArgument: BAD_NAME when the name does not fit the pattern.
    """
    parts, wanted = name.split("/"), pattern.split("/")
    if len(parts) == len(wanted) and all(
        _ID.fullmatch(part) if want == "*" else part == want for part, want in zip(parts, wanted, strict=True)
    ):
        return tuple(part for part, want in zip(parts, wanted, strict=True) if want == "*")
    raise InvalidArgument("BAD_NAME", f"resource name {name!r} is not of the form {pattern}")
