"""Makes a snapshot of a platform in a target."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

import biosegment
from biosegment.backup import rows
from biosegment.backup.copying import Copied, copy_into
from biosegment.backup.hold import LIFETIME_S, CollectorHold, Keeper, TargetLock, kept
from biosegment.backup.index import Index, Stored, Wanted
from biosegment.backup.line import read_parts, write_parts
from biosegment.backup.manifest import (
    OBJECTS,
    SNAPSHOTS,
    Manifest,
    ServiceRows,
    Table,
    load_manifest,
    manifest_key,
    snapshots,
)
from biosegment.backup.place import Installation
from biosegment.backup.progress import Progress, silent
from biosegment.backup.reference import Reference, model_prefix, references
from biosegment.backup.retention import prune
from biosegment.backup.stored import stored_digests
from biosegment.database import begin_reading, open_engine
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.failpoint import failpoint
from biosegment.storage.objects import BlockingObjects, open_blocking_objects

ORDER: Final = ("sampler", "trainer", "datastore", "gateway")
"""Snapshots of the databases are begun in this order, so that what one refers to is in the next ones: samples and jobs
in models and annotations, members in users."""
_SHOWN: Final = 1000
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot that was made.

    Attributes:
        manifest: What is in it.
        copied: Objects that the target did not have before.
        pruned: Older snapshots that were removed.
    """

    manifest: Manifest
    copied: Copied
    pruned: tuple[str, ...] = ()


def make_snapshot(
    installation: Installation,
    target: BlockingObjects,
    *,
    with_volumes: bool = True,
    keep: int = 0,
    say: Progress = silent,
    hold_lifetime_s: float = LIFETIME_S,
) -> Made:
    """Add a snapshot of a platform, running or not, to a target.

    Args:
        installation: The platform.
        target: Holds snapshots already, or nothing yet.
        with_volumes: Whether the voxels of volumes and layers, and exported files, come along.
        keep: Remove all but so many of the newest snapshots afterwards; 0 keeps all.
        say: Told how far it is.
        hold_lifetime_s: How long after its death a backup keeps others waiting.

    Raises:
        NotFound: NO_PLATFORM.
        InvalidArgument: BAD_KEEP.
        FailedPrecondition: TARGET_BUSY, TARGET_NOT_EMPTY, DATABASE_TOO_OLD, HOLD_LOST.
        Unavailable: DATABASE_UNAVAILABLE, OBJECT_STORE_UNAVAILABLE.
        ResourceExhausted: DISK_FULL.
    """
    if keep < 0:
        raise InvalidArgument("BAD_KEEP", f"keep is {keep}; give a number of snapshots, or 0 for all")
    installation.require_present()
    _require_backups(target)
    with contextlib.ExitStack() as stack:
        engines = {service: open_engine(url) for service, url in installation.databases.items()}
        for engine in engines.values():
            stack.callback(engine.dispose)
        _require_tables(engines)
        store = open_blocking_objects(installation.store)
        stack.callback(store.close)
        index = stack.enter_context(Index())
        holds = (TargetLock(target), CollectorHold(engines["datastore"]))
        keeper = stack.enter_context(kept(holds, hold_lifetime_s))
        work = _Snapshot(engines, store, target, index, keeper, with_volumes, say)
        made = work.make(installation.store.object_store_url)
        pruned = prune(target, keep, say) if keep else ()
    return Made(made.manifest, made.copied, pruned)


def _require_tables(engines: Mapping[str, sa.Engine]) -> None:
    for service, engine in engines.items():
        if not sa.inspect(engine).has_table(rows.REVISIONS):
            raise NotFound(
                "NO_PLATFORM",
                f"the database of the {service} is empty: no platform has run with it; see --data",
            )


def _require_backups(target: BlockingObjects) -> None:
    """Raise unless the target is empty or holds backups: a person may have named the wrong place."""
    if snapshots(target):
        return
    strange = [key for key in target.list("") if not key.startswith((OBJECTS, SNAPSHOTS)) and key != "lock"]
    if strange:
        raise FailedPrecondition(
            "TARGET_NOT_EMPTY",
            f"the place for the backup holds other things ({strange[0]}): name an empty or new one, or one that has "
            "backups already",
        )


class _Snapshot:
    def __init__(
        self,
        engines: Mapping[str, sa.Engine],
        store: BlockingObjects,
        target: BlockingObjects,
        index: Index,
        keeper: Keeper,
        with_volumes: bool,
        say: Progress,
    ) -> None:
        self._engines = engines
        self._store = store
        self._target = target
        self._index = index
        self._keeper = keeper
        self._with_volumes = with_volumes
        self._say = say
        self._time = datetime.now(UTC)
        self._id = f"{self._time:%Y%m%d-%H%M%S-%f}"
        self._models: list[str] = []
        self._folders: list[Reference] = []
        self._absent: list[str] = []

    def make(self, store_url: str) -> Made:
        self._learn_newest()
        services = self._rows()
        self._look_into_folders()
        failpoint("backup.rows.written")
        copied = copy_into(self._target, self._store, self._index, self._say)
        deleted = self._deleted_models()
        missing = [*self._absent, *islice(self._index.missing(), _SHOWN)]
        listing = _Listing()
        lines = listing.counted(self._index.results())
        objects = write_parts(self._target, f"{SNAPSHOTS}{self._id}/objects", lines)
        manifest = Manifest(
            snapshot=self._id,
            version=biosegment.__version__,
            time=self._time.isoformat(timespec="microseconds"),
            with_volumes=self._with_volumes,
            store_url=store_url,
            services=services,
            objects=objects,
            object_count=listing.count,
            object_bytes=listing.size_bytes,
            missing=tuple(missing[:_SHOWN]),
            missing_count=len(self._absent) + sum(1 for _ in self._index.missing()),
            damaged=tuple(copied.damaged[:_SHOWN]),
            deleted_models=deleted,
        )
        self._keeper.require()
        failpoint("backup.before_manifest")
        self._target.put(manifest_key(self._id), manifest.to_json())
        return Made(manifest, copied)

    def _learn_newest(self) -> None:
        """What the newest snapshot has, and whose content is really there."""
        if not snapshots(self._target):
            return
        # Damage in an older snapshot costs reading more, and must not keep anybody from making a new one.
        with contextlib.suppress(FailedPrecondition):
            newest = load_manifest(self._target)
            self._index.know(Stored(*line) for line in read_parts(self._target, newest.objects))
        for digests in stored_digests(self._target, self._say):
            self._index.store(digests)

    def _rows(self) -> tuple[ServiceRows, ...]:
        with contextlib.ExitStack() as stack:
            connections = {
                service: stack.enter_context(begin_reading(self._engines[service])) for service in ORDER
            }
            self._time = datetime.now(UTC)
            return tuple(self._service(service, connections[service]) for service in ORDER)

    def _service(self, service: str, connection: sa.Connection) -> ServiceRows:
        found = tuple(self._table(service, connection, table) for table in rows.reflect(connection))
        return ServiceRows(service, rows.revision(connection), found)

    def _table(self, service: str, connection: sa.Connection, table: sa.Table) -> Table:
        columns = tuple(table.columns.keys())
        find = references(service, table.name, columns, self._with_volumes)
        count = 0

        def lines() -> Iterator[list[Any]]:
            nonlocal count
            read = rows.read(connection, table)
            while batch := list(islice(read, _AT_ONCE)):
                if find is not None:
                    self._want(find, [dict(zip(columns, row, strict=True)) for row in batch])
                count += len(batch)
                self._say(f"reading {service} {table.name}", count, 0)
                yield from map(list, batch)

        parts = write_parts(self._target, f"{SNAPSHOTS}{self._id}/rows/{service}/{table.name}", lines())
        return Table(table.name, columns, count, parts)

    def _want(
        self, find: Callable[[Mapping[str, Any]], Sequence[Reference]], batch: Sequence[Mapping[str, Any]]
    ) -> None:
        found = [reference for row in batch for reference in find(row)]
        self._models += [item.key for item in found if item.check_kind == "sha256"]
        # Looked into when the transactions have ended: listing a bucket takes its time.
        self._folders += [item for item in found if item.kind != "object"]
        self._index.want(
            Wanted(item.key, item.is_immutable, item.check_kind, item.check_value)
            for item in found
            if item.kind == "object"
        )

    def _look_into_folders(self) -> None:
        for number, folder in enumerate(self._folders):
            self._say("listing objects", number, len(self._folders))
            keys = self._store.list(f"{folder.key}/")
            if folder.kind == "any" and self._store.exists(folder.key):
                keys.append(folder.key)
            if not keys:
                self._absent.append(folder.key)
            self._index.want(Wanted(key, folder.is_immutable) for key in keys)

    def _deleted_models(self) -> tuple[str, ...]:
        """Models of the snapshot that have been deleted since: their weights may be gone, in part or whole."""
        prefixes = {key.split("/")[1] for key in self._models}
        models = sa.table("models", sa.column("model_id"), sa.column("deleted", sa.Boolean))
        with begin_reading(self._engines["trainer"]) as connection:
            gone = connection.execute(sa.select(models.c.model_id).where(models.c.deleted)).scalars()
            deleted = tuple(sorted(prefixes & set(gone)))
        for model_id in deleted:
            self._index.forget(f"{model_prefix(model_id)}/")
            self._absent = [key for key in self._absent if key != model_prefix(model_id)]
        return deleted


class _Listing:
    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0

    def counted(self, items: Iterator[Stored]) -> Iterator[list[Any]]:
        for item in items:
            self.count += 1
            self.size_bytes += item.size
            yield [item.key, item.sha256, item.size]
