"""The address of a store in a bucket."""

from __future__ import annotations

from urllib.parse import urlsplit

from biosegment.errors import InvalidArgument
from biosegment.storage.key import check_prefix


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Split `s3://bucket/optional/prefix` into the bucket and '' or 'optional/prefix/'.

    Raises:
        InvalidArgument: BAD_SETTINGS when the bucket is missing or the prefix is no key.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if not parts.netloc or "@" in parts.netloc:
        raise InvalidArgument("BAD_SETTINGS", "object_store_url must be s3://bucket or s3://bucket/prefix")
    return parts.netloc, check_prefix(prefix + "/") if prefix else ""
