"""What must not be as it was when a platform comes back: work under way, and places of the old machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from biosegment.backup.reference import layer_key

_ANNOTATIONS: Final = "annotations"


@dataclass(slots=True)
class Repairs:
    """What repairing needs, and what it did.

    Attributes:
        has_objects: Whether there is anything below a prefix of the object storage.
        old_store_url: Of the platform that was backed up.
        new_store_url: Of the one that is restored.
        deleted_models: Models whose weights are not in the backup.
        layers_left_out: Names of layers whose voxels are nowhere.
        artifacts_left_out: Names of exported files that are nowhere.
        volumes_without_voxels: Names.
    """

    has_objects: Callable[[str], bool]
    old_store_url: str
    new_store_url: str
    deleted_models: Sequence[str] = ()
    layers_left_out: list[str] = field(default_factory=list)
    artifacts_left_out: list[str] = field(default_factory=list)
    volumes_without_voxels: list[str] = field(default_factory=list)

    def apply(self, service: str, connection: sa.Connection, tables: dict[str, sa.Table]) -> None:
        """Repair one service's rows; the datastore's come before the sampler's."""
        if "jobs" in tables:
            _requeue(connection, tables["jobs"])
        if service == "datastore":
            self._datastore(connection, tables)
        elif service == "sampler":
            self._sampler(connection, tables)
        elif service == "trainer" and self.deleted_models:
            models = tables["models"]
            gone = sa.update(models).where(models.c.model_id.in_(self.deleted_models))
            connection.execute(gone.values(deleted=True))

    def _datastore(self, connection: sa.Connection, tables: dict[str, sa.Table]) -> None:
        # Uploads are begun anew; what was garbage was not copied.
        for name in ("uploads", "garbage", "holds"):
            if name in tables:
                connection.execute(sa.delete(tables[name]))
        layers, projections = tables["layers"], tables["projections"]
        connection.execute(sa.delete(layers).where(layers.c.kind == _ANNOTATIONS))
        connection.execute(sa.update(projections).values(applied_sequence=0, owner="", lease_us=0))
        committed = sa.select(layers).where(layers.c.state == "committed")
        for row in connection.execute(committed).mappings().all():
            if not self.has_objects(f"{layer_key(row['storage_key'], row['attempt'])}/"):
                self.layers_left_out.append(_layer_name(row))
                connection.execute(sa.delete(layers).where(*_same(layers, row)))
        artifacts = tables["artifacts"]
        for row in connection.execute(sa.select(artifacts)).mappings().all():
            if not self.has_objects(f"{row['key']}/"):
                self.artifacts_left_out.append(f"projects/{row['project_id']}/artifacts/{row['id']}")
                connection.execute(sa.delete(artifacts).where(*_same(artifacts, row)))
        for name in (*self.layers_left_out, *self.artifacts_left_out):
            # A job that asks for it once more must not be told that it is there.
            requests = tables["requests"]
            connection.execute(sa.delete(requests).where(requests.c.resource == name))
        volumes = tables["volumes"]
        for row in connection.execute(sa.select(volumes)).mappings():
            is_elsewhere = "reference" in row and bool(row["reference"])
            if not is_elsewhere and not self.has_objects(f"{row['key']}/"):
                self.volumes_without_voxels.append(f"projects/{row['project_id']}/volumes/{row['id']}")

    def _sampler(self, connection: sa.Connection, tables: dict[str, sa.Table]) -> None:
        maps, pools = tables["score_layers"], tables["pools"]
        for row in connection.execute(sa.select(maps)).mappings().all():
            if row["name"] in self.layers_left_out:
                # The model scores once more; until then samples are proposed as before the first model.
                connection.execute(sa.delete(maps).where(*_same(maps, row)))
                pool = sa.update(pools).where(pools.c.project_id == row["project_id"])
                connection.execute(pool.values(scored_model=""))
            elif row["uri"].startswith(f"{self.old_store_url}/"):
                uri = self.new_store_url + row["uri"].removeprefix(self.old_store_url)
                connection.execute(sa.update(maps).where(*_same(maps, row)).values(uri=uri))


def _requeue(connection: sa.Connection, jobs: sa.Table) -> None:
    """Nobody works on the jobs that were running: they wait for their next attempt, or are cancelled as was asked."""
    running = jobs.c.state == "running"
    changed = {"instance": "", "heartbeat_us": 0, "revision": jobs.c.revision + 1}
    asked = sa.update(jobs).where(running, jobs.c.cancel_requested)
    ended = {"state": "cancelled", "end_us": time.time_ns() // 1000, "cancel_requested": False}
    connection.execute(asked.values(**changed, **ended))
    connection.execute(sa.update(jobs).where(running).values(**changed, state="queued"))


def _layer_name(row: Any) -> str:
    return f"projects/{row['project_id']}/volumes/{row['volume_id']}/layers/{row['id']}"


def _same(table: sa.Table, row: Any) -> list[sa.ColumnElement[bool]]:
    return [column == row[column.name] for column in table.primary_key]
