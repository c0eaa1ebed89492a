"""Which files of the server an import may read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from biosegment.errors import InvalidArgument, NotFound


def allowed_path(uri: str, roots: Sequence[Path]) -> Path:
    """The file that a path or `file://` URI means, symbolic links resolved.

    Raises:
        InvalidArgument: BAD_URI, or PATH_NOT_ALLOWED when it is not below an import root.
        NotFound: FILE_NOT_FOUND.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        text = unquote(parts.path)
    elif not parts.scheme or uri.startswith("/"):
        text = uri
    else:
        raise InvalidArgument(
            "BAD_URI", f"{uri[:200]!r} is neither a path nor a file:// URI; upload the file instead"
        )
    if not text.startswith("/") or "\0" in text:
        raise InvalidArgument("BAD_URI", f"{uri[:200]!r} is not an absolute path on the server")
    try:
        path = Path(text).resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidArgument("BAD_URI", f"{uri[:200]!r} cannot be resolved: {error}") from error
    # Looked at before the file is: outside of the roots nobody learns what exists.
    if not any(path.is_relative_to(root) for root in roots):
        where = ", ".join(map(str, roots)) or "none is set: upload the file instead"
        raise InvalidArgument(
            "PATH_NOT_ALLOWED", f"{text[:200]!r} is not below one of the datastore's import roots ({where})"
        )
    if not path.exists():
        raise NotFound("FILE_NOT_FOUND", f"there is no file {text[:200]!r} on the server")
    return path
