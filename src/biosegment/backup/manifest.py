"""What a snapshot consists of, and where its pieces lie in a target."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from biosegment.errors import FailedPrecondition, NotFound
from biosegment.storage.objects import BlockingObjects

FORMAT: Final = 1
SNAPSHOTS: Final = "snapshots/"
OBJECTS: Final = "objects/"
_MANIFEST_KEY: Final = re.compile(r"snapshots/([^/]+)/manifest\.json")


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines in a gzip file; `sha256` is that of the file."""

    key: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a table as they were at one moment."""

    name: str
    columns: tuple[str, ...]
    rows: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ServiceRows:
    """A service's database; `revision` is that of its migrations."""

    service: str
    revision: str
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One snapshot.

    Attributes:
        snapshot: Its id; later ones sort after earlier ones.
        version: Release that wrote it.
        time: ISO 8601, UTC: when the rows were read.
        with_volumes: Whether the voxels of volumes and layers, and exported files, are in it.
        store_url: Where the object storage was; rows may name it.
        services: Rows.
        objects: Parts of the list of objects.
        object_count: Objects in that list.
        object_bytes: Their sizes, together.
        missing: Keys that rows refer to and that the object storage did not have, the first ones.
        missing_count: All of them.
        damaged: Keys whose content is not what their row says, the first ones; they are in the list as they are.
        deleted_models: Models that were deleted while their weights were being copied.
    """

    snapshot: str
    version: str
    time: str
    with_volumes: bool
    store_url: str
    services: tuple[ServiceRows, ...]
    objects: tuple[Part, ...]
    object_count: int
    object_bytes: int
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    damaged: tuple[str, ...] = ()
    deleted_models: tuple[str, ...] = ()
    format: int = field(default=FORMAT)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            FailedPrecondition: BACKUP_TOO_NEW, or BACKUP_DAMAGED when it is none.
        """
        try:
            values = json.loads(data)
            if values["format"] > FORMAT:
                raise FailedPrecondition(
                    "BACKUP_TOO_NEW",
                    f"the backup was written by BioSegment {values['version']}: restore it with that release",
                )
            services = tuple(
                ServiceRows(item["service"], item["revision"], tuple(map(_table, item["tables"])))
                for item in values.pop("services")
            )
            objects = tuple(Part(**part) for part in values.pop("objects"))
            lists: dict[str, Any] = {
                name: tuple(values.pop(name)) for name in ("missing", "damaged", "deleted_models")
            }
            return cls(services=services, objects=objects, **lists, **values)
        except (ValueError, KeyError, TypeError) as error:
            raise FailedPrecondition(
                "BACKUP_DAMAGED",
                f"the manifest of a snapshot cannot be read ({error}): choose another snapshot",
            ) from error


def _table(values: Mapping[str, Any]) -> Table:
    parts = tuple(Part(**part) for part in values["parts"])
    return Table(values["name"], tuple(values["columns"]), values["rows"], parts)


def manifest_key(snapshot: str) -> str:
    return f"{SNAPSHOTS}{snapshot}/manifest.json"


def object_key(sha256: str) -> str:
    """Where content lies in a target."""
    return f"{OBJECTS}{sha256[:2]}/{sha256}"


def snapshots(target: BlockingObjects) -> list[str]:
    """Ids of the complete snapshots of a target, oldest first."""
    return [match[1] for key in target.list(SNAPSHOTS) if (match := _MANIFEST_KEY.fullmatch(key))]


def load_manifest(target: BlockingObjects, snapshot: str = "") -> Manifest:
    """The newest snapshot, or the one that is named.

    Raises:
        NotFound: NO_BACKUP.
        FailedPrecondition: BACKUP_TOO_NEW, BACKUP_DAMAGED.
    """
    known = snapshots(target)
    if not known:
        raise NotFound("NO_BACKUP", "there is no complete snapshot in this place; is it the right one?")
    if snapshot and snapshot not in known:
        raise NotFound("NO_BACKUP", f"there is no snapshot {snapshot!r}; there are: {', '.join(known)}")
    return Manifest.from_json(target.get(manifest_key(snapshot or known[-1])))
