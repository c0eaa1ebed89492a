"""What an operator may set, as `BIOSEGMENT_DATASTORE__<FIELD>`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import Field, field_validator

from biosegment.settings import ServiceSettings

SERVICE = "datastore"


class DatastoreSettings(ServiceSettings):
    """Settings of the datastore."""

    import_roots: str = ""
    """Absolute folders, separated by ':', below which imports may read files; none means uploads only."""
    scratch_dir: Path = Path(tempfile.gettempdir())
    """Local folder for uploads that are being imported and files that are being exported."""
    max_upload_bytes: int = 1 << 42
    """Largest file of one upload."""
    max_project_upload_bytes: int = 1 << 43
    """All uploads of a project that are not imported yet, together, as announced."""
    max_project_uploads: int = 64
    """How many of these there may be."""
    max_region_bytes: int = 1 << 30
    """Largest region of one ReadRegion or WriteRegion."""
    read_memory_bytes: int = 256 << 20
    """Voxels that all ReadRegion streams together hold in memory."""
    import_memory_bytes: int = 4 << 30
    """Address space of the process that reads or writes one file. What it really uses stays below 1.5 GB, unless a file
    can only be decoded in pieces (planes compressed as one strip, chunks) of several hundred megabytes."""
    import_timeout_s: float = 7 * 24 * 3600.0
    """Time of one import or export."""
    concurrent_jobs: int = 1
    max_user_jobs: int = Field(default=200, ge=0)
    """Imports and exports of one user that may wait or run; 0 for any number."""
    upload_lifetime_s: float = 7 * 24 * 3600.0
    """Unfinished or unused uploads are deleted so long after the last byte."""
    projection_lease_s: float = 5.0
    """How long an instance that died keeps others from writing an annotations layer."""
    projection_poll_s: float = 1.0
    """How often records of other instances are looked for."""
    collect_every_s: float = 60.0
    """How often deleted things are removed from the object storage."""
    max_drafts: int = 100
    """Drafts that one person may have in one project."""
    list_wait_s: float = 45.0
    """How long the first edit of a layer of instances waits while its objects are listed; then it is to be repeated."""
    orphan_grace_s: float = 3600.0
    """Label blocks and blocks of edits without a record are deleted when they are older."""

    @field_validator("import_roots")
    @classmethod
    def _absolute_roots(cls, value: str) -> str:
        for root in filter(None, value.split(":")):
            if not Path(root).is_absolute():
                raise ValueError(f"{root!r} is not an absolute folder")
        return value

    @property
    def roots(self) -> tuple[Path, ...]:
        """The import roots, symbolic links resolved."""
        return tuple(Path(root).resolve() for root in self.import_roots.split(":") if root)
