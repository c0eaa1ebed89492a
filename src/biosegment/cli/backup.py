"""Backups of the platform on this machine, or of the one that the services' settings describe; no client of it."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from biosegment.cli.output import JsonOption, console, notes, progress_bar, show, show_list
from biosegment.cli.platform import DataOption
from biosegment.client import default_data_dir
from biosegment.errors import FailedPrecondition

if TYPE_CHECKING:
    from biosegment.backup.manifest import Manifest
    from biosegment.backup.progress import Progress

_DEFAULT = "create"


class _CreateByDefault(TyperGroup):
    """`backup TARGET` is `backup create TARGET`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


backup = typer.Typer(
    cls=_CreateByDefault,
    no_args_is_help=True,
    help="Backups: `biosegment backup TARGET` makes one; `biosegment restore` brings it back.",
)
_Place = Annotated[
    str, typer.Argument(help="Folder, or s3://bucket/prefix, that holds the backups.", show_default=False)
]
_SnapshotOption = Annotated[
    str, typer.Option(help="Id of a snapshot; the newest one by default.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class _Summary:
    """What is shown of a snapshot."""

    snapshot: str
    time: str
    version: str
    with_volumes: bool
    rows: int
    objects: int
    size_bytes: int
    missing: int
    damaged: int


@backup.command(_DEFAULT)
def create(
    target: _Place,
    data: DataOption = None,
    volumes: Annotated[
        bool, typer.Option(help="Copy the voxels of volumes and layers, and exported files, too.")
    ] = True,
    keep: Annotated[
        int, typer.Option(help="Remove all but so many of the newest snapshots; 0 keeps all.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Add a snapshot of the platform to TARGET, while it runs or not; what TARGET has is not copied again."""
    _require_installed()
    from biosegment.backup.place import Installation, open_target
    from biosegment.backup.snapshot import make_snapshot

    installation = Installation.found(data, default_data_dir())
    installation.require_present()
    with contextlib.closing(open_target(target, must_exist=False)) as place, _progress(json) as say:
        made = make_snapshot(installation, place, with_volumes=volumes, keep=keep, say=say)
    manifest = made.manifest
    if json:
        show(_summary(manifest), True)
    else:
        _say_made(manifest, made.copied.copied, made.copied.copied_bytes, made.pruned)
    if manifest.missing_count or manifest.damaged:
        first = [*manifest.missing[:1], *manifest.damaged[:1]][0]
        raise FailedPrecondition(
            "BACKUP_INCOMPLETE",
            f"the snapshot is complete but for {manifest.missing_count} objects that the object storage has lost, and "
            f"{len(manifest.damaged)} that are damaged in it, such as {first}: look into the object storage, or bring "
            "them back from an earlier backup",
        )


def _say_made(manifest: Manifest, copied: int, copied_bytes: int, pruned: tuple[str, ...]) -> None:
    summary = _summary(manifest)
    console.print(f"snapshot {manifest.snapshot}", highlight=False)
    console.print(
        f"  {summary.rows} rows, {summary.objects} objects ({_size(summary.size_bytes)}); "
        f"{copied} new ones copied ({_size(copied_bytes)})",
        highlight=False,
    )
    if not manifest.with_volumes:
        console.print("  without the voxels of volumes and layers, and without exported files")
    for snapshot in pruned:
        console.print(f"  removed {snapshot}", highlight=False)


@backup.command("list")
def list_snapshots(target: _Place, json: JsonOption = False) -> None:
    """List the snapshots of TARGET, oldest first."""
    _require_installed()
    from biosegment.backup.manifest import load_manifest, snapshots
    from biosegment.backup.place import open_target

    with contextlib.closing(open_target(target, must_exist=True)) as place:
        found = [_summary(load_manifest(place, snapshot)) for snapshot in snapshots(place)]
    columns = ("snapshot", "version", "with_volumes", "rows", "objects", "size_bytes", "missing", "damaged")
    show_list(found, columns, json, "no snapshots")


@backup.command("verify")
def verify_snapshot(
    target: _Place,
    snapshot: _SnapshotOption = "",
    remove_damaged: Annotated[
        bool, typer.Option("--remove-damaged", help="Delete what is damaged: the next backup copies it anew.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Read a snapshot back and compare every checksum."""
    _require_installed()
    from biosegment.backup.manifest import load_manifest
    from biosegment.backup.place import open_target
    from biosegment.backup.verification import verify

    with contextlib.closing(open_target(target, must_exist=True)) as place, _progress(json) as say:
        manifest = load_manifest(place, snapshot)
        found = verify(place, manifest, remove_damaged=remove_damaged, say=say)
    show(found, json)
    if found.damaged_objects or found.damaged_parts:
        raise FailedPrecondition(
            "BACKUP_DAMAGED",
            f"{len(found.damaged_objects)} objects and {len(found.damaged_parts)} files of rows are missing or damaged "
            f"in snapshot {manifest.snapshot}: say --remove-damaged and make a new backup while the platform is there",
        )
    if not json:
        console.print(f"snapshot {manifest.snapshot} is sound", highlight=False)


def restore(
    source: _Place,
    data: DataOption = None,
    snapshot: _SnapshotOption = "",
    keep_objects: Annotated[
        bool,
        typer.Option(
            "--keep-objects",
            help="The object storage may hold objects (of a restore that was interrupted, or because only the "
            "databases were lost): those with the right key and size stay.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Bring a platform back from a backup, onto an empty data folder or empty databases and storage."""
    _require_installed()
    from biosegment.backup.manifest import load_manifest
    from biosegment.backup.place import Installation, open_target
    from biosegment.backup.restoration import restore as restore_snapshot

    installation = Installation.found(data, default_data_dir())
    with contextlib.closing(open_target(source, must_exist=True)) as place, _progress(json) as say:
        manifest = load_manifest(place, snapshot)
        done = restore_snapshot(place, manifest, installation, keep_objects=keep_objects, say=say)
    if json:
        show(done, True)
        return
    console.print(f"restored snapshot {manifest.snapshot} of {manifest.time}", highlight=False)
    console.print(
        f"  {done.rows} rows, {done.objects} objects, {done.written} of them written", highlight=False
    )
    for what, names in (
        ("is not in the backup: the platform had lost it already", manifest.missing),
        ("left out, its voxels are not in the backup", done.layers_left_out),
        ("left out, it is not in the backup", done.artifacts_left_out),
        ("has no voxels: copy them below its key into the object storage", done.volumes_without_voxels),
    ):
        for name in names:
            notes.print(f"  {name}: {what}", highlight=False, soft_wrap=True)
    console.print("Start the platform; the annotations layers are made anew from the records.")


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    if quiet:
        yield lambda step, done, total: None
        return
    with progress_bar() as bar:
        task = bar.add_task("beginning", total=None)

        def say(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None)

        yield say


def _summary(manifest: Manifest) -> _Summary:
    rows = sum(table.rows for service in manifest.services for table in service.tables)
    return _Summary(
        manifest.snapshot,
        manifest.time,
        manifest.version,
        manifest.with_volumes,
        rows,
        manifest.object_count,
        manifest.object_bytes,
        manifest.missing_count,
        len(manifest.damaged),
    )


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"


def _require_installed() -> None:
    missing = [name for name in ("alembic", "sqlalchemy") if importlib.util.find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            "MISSING_DEPENDENCY",
            f"not installed: {', '.join(missing)}; backups are made where the servers are: "
            "`pip install 'biosegment[server]'`",
        )
