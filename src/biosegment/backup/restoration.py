"""Puts a snapshot onto an empty machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from biosegment.backup import rows
from biosegment.backup.copying import copy_back
from biosegment.backup.index import Stored
from biosegment.backup.line import read_parts
from biosegment.backup.manifest import Manifest, ServiceRows
from biosegment.backup.place import Installation
from biosegment.backup.progress import Progress, silent
from biosegment.backup.repair import Repairs
from biosegment.database import begin_writing, open_engine, upgrade
from biosegment.errors import FailedPrecondition
from biosegment.failpoint import failpoint
from biosegment.storage.objects import BlockingObjects, open_blocking_objects

ORDER: Final = ("gateway", "datastore", "trainer", "sampler")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        rows: Rows of all services.
        objects: Objects of the snapshot.
        written: Those that were not there already.
        layers_left_out: Names of layers whose voxels are neither in the backup nor in the object storage.
        artifacts_left_out: Names of exported files, likewise.
        volumes_without_voxels: Names of volumes, likewise; their rows and annotations are there.
    """

    rows: int
    objects: int
    written: int
    layers_left_out: tuple[str, ...]
    artifacts_left_out: tuple[str, ...]
    volumes_without_voxels: tuple[str, ...]


def restore(
    source: BlockingObjects,
    manifest: Manifest,
    installation: Installation,
    *,
    keep_objects: bool = False,
    say: Progress = silent,
) -> Restored:
    """Fill the empty databases and the empty object storage of a platform that does not run.

    Objects come first and the rows last, in transactions that end together, so that a restore that failed has left no
    rows and can be begun again with `keep_objects`.

    Args:
        source: The target of the backup.
        manifest: The snapshot.
        installation: Where to.
        keep_objects: Allow objects in the storage; those with the right key and size are not copied again.
        say: Told how far it is.

    Raises:
        FailedPrecondition: NOT_EMPTY, DATA_DIR_IN_USE, BACKUP_DAMAGED, BACKUP_MISMATCH, DATABASE_TOO_NEW.
        Unavailable: DATABASE_UNAVAILABLE, OBJECT_STORE_UNAVAILABLE.
        ResourceExhausted: DISK_FULL.
    """
    with installation.alone(), contextlib.ExitStack() as stack:
        engines = {service: open_engine(url) for service, url in installation.databases.items()}
        for engine in engines.values():
            stack.callback(engine.dispose)
        _require_empty_databases(engines)
        store = open_blocking_objects(installation.store)
        stack.callback(store.close)
        if not keep_objects:
            _require_empty_store(store)
        items = (Stored(*line) for line in read_parts(source, manifest.objects))
        written = copy_back(source, store, items, manifest.object_count, say)
        failpoint("restore.objects.written")
        new_url = installation.store.object_store_url
        repairs = Repairs(
            lambda prefix: bool(store.list(prefix)), manifest.store_url, new_url, manifest.deleted_models
        )
        count = _fill(source, manifest, engines, repairs, say)
    return Restored(
        count,
        manifest.object_count,
        written,
        tuple(repairs.layers_left_out),
        tuple(repairs.artifacts_left_out),
        tuple(repairs.volumes_without_voxels),
    )


def _require_empty_databases(engines: Mapping[str, sa.Engine]) -> None:
    for service, engine in engines.items():
        if tables := sa.inspect(engine).get_table_names():
            raise FailedPrecondition(
                "NOT_EMPTY",
                f"the database of the {service} has tables already ({tables[0]}): nothing was changed. Restore into "
                "empty databases, or into a data folder that is new; move the old one away when nobody needs it",
            )


def _require_empty_store(store: BlockingObjects) -> None:
    if keys := store.list(""):
        raise FailedPrecondition(
            "NOT_EMPTY",
            f"the object storage holds objects already ({keys[0]}): nothing was changed. Restore into an empty folder "
            "or bucket; or, to go on with a restore that was interrupted or when only the databases were lost, say "
            "--keep-objects",
        )


def _fill(
    source: BlockingObjects,
    manifest: Manifest,
    engines: Mapping[str, sa.Engine],
    repairs: Repairs,
    say: Progress,
) -> int:
    services = {item.service: item for item in manifest.services}
    total = sum(table.rows for item in manifest.services for table in item.tables)
    done = 0
    with contextlib.ExitStack() as stack:
        for service in ORDER:
            connection = stack.enter_context(begin_writing(engines[service]))
            for count in _fill_service(source, services[service], connection, repairs):
                done += count
                say(f"writing rows of the {service}", done, total)
        failpoint("restore.before_commit")
    return done


def _fill_service(
    source: BlockingObjects, service: ServiceRows, connection: sa.Connection, repairs: Repairs
) -> Iterator[int]:
    package = f"biosegment_{service.service}"
    upgrade(connection, package, service.revision)
    tables = {table.name: table for table in rows.reflect(connection)}
    dumped = {table.name: table for table in service.tables}
    if tables.keys() != dumped.keys():
        raise FailedPrecondition(
            "BACKUP_MISMATCH",
            f"the {service.service}'s tables in the backup are not those of its revision {service.revision}: "
            f"{sorted(tables.keys() ^ dumped.keys())}; restore with the release that made the backup",
        )
    for name, table in tables.items():
        lines = read_parts(source, dumped[name].parts)
        count = rows.insert(connection, table, dumped[name].columns, lines)
        if count != dumped[name].rows:
            raise FailedPrecondition(
                "BACKUP_DAMAGED",
                f"table {name} of the backup has {count} rows instead of {dumped[name].rows}: choose another snapshot",
            )
        yield count
    repairs.apply(service.service, connection, tables)
    upgrade(connection, package)
