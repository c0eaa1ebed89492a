"""Object keys: relative paths of plain segments, the same on a folder and on S3."""

from __future__ import annotations

import re

from biosegment.errors import InvalidArgument

MAX_KEY_BYTES = 900
"""S3 allows 1024 bytes; the rest is room for the prefix of the store."""

# No leading dot: hidden names are ours (files being written), and '.' and '..' must never get through.
_SEGMENT = re.compile(r"[A-Za-z0-9_+=@~-][A-Za-z0-9._+=@~-]{0,199}")


def check_key(key: str) -> str:
    """Return `key` when it may name an object.

    Raises:
        InvalidArgument: BAD_OBJECT_KEY when it is empty, absolute, too long or holds a segment such as '..'.
    """
    if len(key) > MAX_KEY_BYTES or not all(_SEGMENT.fullmatch(part) for part in key.split("/")):
        raise InvalidArgument(
            "BAD_OBJECT_KEY",
            f"object key {key[:200]!r} is not allowed: use segments of a-z, A-Z, 0-9 and ._+=@~- (no "
            f"leading dot), separated by single '/', at most {MAX_KEY_BYTES} characters",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` when it names a folder of keys: '' for the whole store, or a key and a final '/'.

    Raises:
        InvalidArgument: BAD_OBJECT_KEY otherwise.
    """
    if prefix:
        if not prefix.endswith("/"):
            raise InvalidArgument("BAD_OBJECT_KEY", f"prefix {prefix[:200]!r} must end with '/'")
        check_key(prefix[:-1])
    return prefix
