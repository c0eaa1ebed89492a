"""What the MONAI Label API remembers: rows of its tables as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from biosegment.volume import Index

FINAL: Final = "final"
ORIGINAL: Final = "original"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What is known of an image beside its volume.

    Attributes:
        image_id: Its name.
        info: What clients and strategies noted; JSON, left out in a `ProjectContent`.
        uploaded_volume_id: Of the volume that a client uploaded under this name; '' for others.
        geometry: Rows of the uploaded file's affine map; None for what follows from the volume.
    """

    image_id: str
    info: Mapping[str, Any]
    uploaded_volume_id: str = ""
    geometry: list[list[float]] | None = None


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label of an image under a tag.

    Attributes:
        image_id: Of the image.
        tag: `final`, `original`, `version_1` ...
        extension: Of the file that clients get.
        info: What clients noted; JSON.
        author: User id.
        update_time_us: Microseconds since 1970.
        names: By position: voxels of value n are of the n-th name.
        labels: uint8 positions (z, y, x) over the image, a zlib stream; empty when a job predicts it.
        job: `jobs/{j}` that predicts it; '' for others.
        layer: That the job made; '' until it has ended well.
        annotations: Records that a final label became.
    """

    image_id: str
    tag: str
    extension: str
    info: Mapping[str, Any]
    author: str
    update_time_us: int
    names: tuple[str, ...] = ()
    labels: bytes = field(default=b"", repr=False)
    job: str = ""
    layer: str = ""
    annotations: tuple[str, ...] = ()

    @property
    def is_pending(self) -> bool:
        """Whether its job has not ended, as far as is known."""
        return bool(self.job) and not self.layer


@dataclass(frozen=True, slots=True)
class ProjectContent:
    """What tells which images a project has.

    Attributes:
        part: Largest voxels of an image; None when nobody set it.
        uploads: Images that clients uploaded, by id.
    """

    part: Index | None
    uploads: Mapping[str, ImageRecord]


@dataclass(frozen=True, slots=True)
class LabelNote:
    """What is noted of a label: see `LabelRecord`."""

    extension: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProjectNotes:
    """What clients and strategies noted of the images of a project.

    Attributes:
        images: By id, JSON.
        labels: Those that are there, by image and tag.
    """

    images: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, Mapping[str, LabelNote]]


@dataclass(frozen=True, slots=True)
class ServedSample:
    """An image that was given to somebody to label, until the lease ends.

    Attributes:
        image_id: Of the image.
        user_id: To whom.
        client_id: Which of their programs, as it calls itself.
        sample: `projects/{p}/samples/{s}` of the whole image.
        lease_token: For committing it.
        serve_time_us: When it was given.
        expire_time_us: When the lease ends.
    """

    image_id: str
    user_id: str
    client_id: str
    sample: str
    lease_token: str
    serve_time_us: int
    expire_time_us: int


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """An image that a client sent for itself, outside of every project's data."""

    session_id: str
    project_id: str
    user_id: str
    name: str
    size_bytes: int
    expiry_s: int
    create_time_us: int
    access_time_us: int


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Work that a client asked for and that several jobs do."""

    task_id: str
    project_id: str
    kind: str
    request: Mapping[str, Any]
    jobs: tuple[str, ...]
    user_id: str
    start_time_us: int
