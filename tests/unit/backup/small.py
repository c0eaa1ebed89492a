"""A platform that consists of its databases and objects alone, with a little of everything."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from biosegment.auth import SERVICES
from biosegment.backup.place import Installation
from biosegment.backup.rows import reflect
from biosegment.database import begin_reading, begin_writing, migrate, open_engine
from biosegment.ids import new_id
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import BlockingObjects, open_blocking_objects

ZEROS = {"int": 0, "float": 0.0, "str": "", "bool": False, "bytes": b""}


@dataclass
class Small:
    """An installation and its object storage."""

    installation: Installation
    objects: BlockingObjects

    @classmethod
    def at(cls, folder: Path, store: ObjectStoreSettings | None = None) -> Small:
        """Migrated and empty; the databases are files, whatever the store is."""
        installation = Installation.embedded(folder)
        if store is not None:
            installation = Installation(installation.databases, store)
        for service in SERVICES:
            migrate(installation.databases[service], f"biosegment_{service}")
        return cls(installation, open_blocking_objects(installation.store))

    def insert(self, service: str, table: str, *rows: dict[str, Any]) -> None:
        """Add rows; columns that are not given are empty, 0 or `{}`."""
        engine = open_engine(self.installation.databases[service])
        with begin_writing(engine) as connection:
            found = {item.name: item for item in reflect(connection)}[table]
            connection.execute(sa.insert(found), [{**_defaults(found), **row} for row in rows])
        engine.dispose()

    def rows(self, service: str, table: str) -> list[dict[str, Any]]:
        """All rows, in the order of the primary key."""
        engine = open_engine(self.installation.databases[service])
        with begin_reading(engine) as connection:
            found = {item.name: item for item in reflect(connection)}[table]
            query = sa.select(found).order_by(*found.primary_key)
            result = [dict(row) for row in connection.execute(query).mappings()]
        engine.dispose()
        return result

    def project(self) -> None:
        """A project with a volume; `annotate` adds to it."""
        self.insert("gateway", "users", {"user_id": "ada", "display_name": "Ada"})
        self.insert(
            "gateway", "tokens", {"token_id": new_id(), "user_id": "ada", "secret_sha256": bytes(range(32))}
        )
        self.insert("datastore", "projects", {"id": "em", "storage_key": "projects/em", "classes": []})
        volume = {"project_id": "em", "id": "stack", "key": "volumes/stack.ome.zarr"}
        self.insert("datastore", "volumes", volume)
        for number in range(3):
            self.objects.put(f"volumes/stack.ome.zarr/0/c/{number}", bytes([number]) * 1000)

    def annotate(self, count: int) -> list[str]:
        """Annotations with label blocks; returns their keys."""
        keys, rows = [], []
        first = len(self.rows("datastore", "annotations"))
        for number in range(first + 1, first + count + 1):
            labels = f"labels {number}".encode() * 20
            digest = hashlib.sha256(labels)
            keys.append(f"projects/em/annotations/{new_id()}")
            self.objects.put(keys[-1], b"BSL1" + digest.digest() + zlib.compress(labels))
            rows.append(
                {
                    "project_id": "em",
                    "id": f"a{number:06d}",
                    "volume_id": "stack",
                    "sequence": number,
                    "key": keys[-1],
                    "labels_sha256": digest.hexdigest(),
                }
            )
        self.insert("datastore", "annotations", *rows)
        return keys

    def model(self, model_id: str, weights: bytes = b"weights", deleted: bool = False) -> None:
        """A model with a bundle."""
        self.objects.put(f"models/{model_id}/models/model.pt", weights)
        self.objects.put(f"models/{model_id}/configs/metadata.json", b"{}")
        version = len(self.rows("trainer", "models")) + 1
        row = {"model_id": model_id, "project_id": "em", "version": version, "deleted": deleted}
        self.insert("trainer", "models", {**row, "weights_sha256": hashlib.sha256(weights).hexdigest()})


def _defaults(table: sa.Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column in table.columns:
        if column.nullable:
            continue
        if isinstance(column.type, sa.JSON):
            found[column.name] = {}
        else:
            found[column.name] = ZEROS[column.type.python_type.__name__]
    return found
