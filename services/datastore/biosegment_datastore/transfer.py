"""Files on their way in (uploads) and out (artifacts)."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in.

    Attributes:
        received_bytes: Safely stored so far.
        key: Prefix of its parts.
        creator: User id.
    """

    project_id: str
    id: str
    file_name: str
    size_bytes: int
    received_bytes: int
    expire_time_us: int
    key: str
    creator: str

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/uploads/{self.id}"

    @property
    def is_complete(self) -> bool:
        return self.received_bytes == self.size_bytes


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file on its way out; `key` is the prefix of its parts."""

    project_id: str
    id: str
    file_name: str
    size_bytes: int
    sha256: str
    media_type: str
    key: str
    create_time_us: int

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/artifacts/{self.id}"


def check_file_name(value: str) -> str:
    """Return the name of a file without a folder; InvalidArgument BAD_FILE_NAME otherwise."""
    if not 1 <= len(value) <= 200 or value.startswith(".") or any(c in "/\\" or ord(c) < 32 for c in value):
        raise InvalidArgument(
            "BAD_FILE_NAME",
            f"file name {value[:80]!r} must be 1 to 200 characters, without a folder or a leading dot",
        )
    return value
