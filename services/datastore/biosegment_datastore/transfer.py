"""Files on their way in (uploads) and out (artifacts)."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.errors import InvalidArgument, ResourceExhausted


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
class UploadLimits:
    """What uploads may take.

    Attributes:
        file_bytes: Of one file.
        project_bytes: Of all uploads of a project that are not imported yet, as announced.
        project_uploads: How many of these there may be.
        lifetime_s: They are dropped so long after the last byte.
    """

    file_bytes: int
    project_bytes: int
    project_uploads: int
    lifetime_s: float

    def require_size(self, file_name: str, size_bytes: int) -> None:
        """Raise InvalidArgument BAD_SIZE or ResourceExhausted UPLOAD_TOO_LARGE."""
        if size_bytes < 1:
            raise InvalidArgument(
                "BAD_SIZE", f"size_bytes {size_bytes} must be the size of the file, at least 1"
            )
        if size_bytes > self.file_bytes:
            raise ResourceExhausted(
                "UPLOAD_TOO_LARGE",
                f"{file_name!r} has {size_bytes} bytes; at most {self.file_bytes} may come: import a path",
            )

    def require_room(self, upload: Upload, count: int, announced_bytes: int) -> None:
        """Raise ResourceExhausted TOO_MANY_UPLOADS when a project has `count` others of `announced_bytes`."""
        if count >= self.project_uploads or announced_bytes + upload.size_bytes > self.project_bytes:
            raise ResourceExhausted(
                "TOO_MANY_UPLOADS",
                f"project {upload.project_id!r} has {count} uploads of {announced_bytes} bytes that wait for import; "
                f"at most {self.project_uploads} of {self.project_bytes} bytes may be: import or delete some first",
            )


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


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """What a service says about a file that it has written."""

    project_id: str
    artifact_id: str
    file_name: str
    size_bytes: int
    sha256: str
    media_type: str


def artifact_home(storage_key: str, artifact_id: str) -> str:
    """Where the attempts at an artifact lie: each below its number."""
    return f"{storage_key}/artifacts/{artifact_id}"


def check_file_name(value: str) -> str:
    """Return the name of a file without a folder; InvalidArgument BAD_FILE_NAME otherwise."""
    if not 1 <= len(value) <= 200 or value.startswith(".") or any(c in "/\\" or ord(c) < 32 for c in value):
        raise InvalidArgument(
            "BAD_FILE_NAME",
            f"file name {value[:80]!r} must be 1 to 200 characters, without a folder or a leading dot",
        )
    return value
