"""Projects and volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from biosegment.cli.argument import (
    AxesOption,
    ChannelOption,
    DatasetOption,
    ProjectArgument,
    ProjectOption,
    RegionOption,
    TimePointOption,
    UploadOption,
    UserArgument,
    VolumeArgument,
    WaitOption,
    parse_region,
    parse_voxel_size,
    project_name,
    volume_name,
)
from biosegment.cli.output import JsonOption, console, follow, notes, progress_bar, show, show_list
from biosegment.cli.progress import print_summary
from biosegment.client import Client, connect
from biosegment.client.resources import Job
from biosegment.errors import InvalidArgument, NotFound

project = typer.Typer(no_args_is_help=True, help="Projects, their classes and members.")
volume = typer.Typer(no_args_is_help=True, help="Volumes and layers.")


@project.command("create")
def create_project(
    project_id: Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, '-'.")],
    classes: Annotated[list[str], typer.Option("--class", help="Name of a class to segment; repeatable.")],
    resolution_nm: Annotated[float, typer.Option(help="nm per pixel to work at; 0 for the default.")] = 0.0,
    json: JsonOption = False,
) -> None:
    """Make a project."""
    with connect() as client:
        made = client.projects.create(project_id, classes=classes, working_resolution_nm=resolution_nm)
    show(made, json)


@project.command("list")
def list_projects(json: JsonOption = False) -> None:
    """List your projects."""
    with connect() as client:
        found = client.projects.list()
    show_list(
        found, ("name", "display_name", "working_resolution_nm", "create_time"), json, "no projects yet"
    )


@project.command("show")
def show_project(project_id: ProjectArgument, json: JsonOption = False) -> None:
    """Show a project and how far it is."""
    with connect() as client:
        name = project_name(project_id)
        show(client.projects.get(name), json)
        if not json:
            print_summary(client.samples.progress(name))


@project.command("delete")
def delete_project(
    project_id: ProjectArgument,
    force: Annotated[bool, typer.Option(help="Also when it has volumes.")] = False,
) -> None:
    """Delete a project."""
    with connect() as client:
        client.projects.delete(project_name(project_id), force=force)


@project.command("members")
def list_members(project_id: ProjectArgument, json: JsonOption = False) -> None:
    """List the members of a project."""
    with connect() as client:
        found = client.projects.members(project_name(project_id))
    show_list(found, ("name", "role"), json, "no members")


@project.command("add-member")
def add_member(
    project_id: ProjectArgument,
    user_id: UserArgument,
    role: Annotated[str, typer.Option(help="owner, manager, annotator, reviewer or viewer.")] = "annotator",
    json: JsonOption = False,
) -> None:
    """Add a member, or change their role."""
    with connect() as client:
        show(client.projects.set_member(project_name(project_id), user_id, role), json)


@project.command("remove-member")
def remove_member(project_id: ProjectArgument, user_id: UserArgument) -> None:
    """Remove a member."""
    with connect() as client:
        client.projects.remove_member(project_name(project_id), user_id)


@volume.command("import")
def import_volume(
    path: Annotated[str, typer.Argument(help="File or folder (or URI that the server may read).")],
    project_id: ProjectOption,
    volume_id: Annotated[str, typer.Option("--id", help="Id of the volume; made up by default.")] = "",
    voxel_size: Annotated[
        str, typer.Option(help="z,y,x in nm, or one number; needed when the file does not say.")
    ] = "",
    axes: AxesOption = "",
    channel: ChannelOption = None,
    time_point: TimePointOption = None,
    dataset: DatasetOption = "",
    reference: Annotated[
        bool, typer.Option("--reference", help="Do not copy: read an OME-Zarr of the server where it is.")
    ] = False,
    upload: UploadOption = False,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Import a volume: any known format, or a folder of slices. What the server may not read by path is uploaded."""
    size = parse_voxel_size(voxel_size)
    with connect() as client:
        name = project_name(project_id)

        def create(**source: str) -> Job:
            return client.jobs.import_volume(
                name,
                volume_id=volume_id,
                voxel_size=size,
                axes=axes,
                channel=channel,
                time_point=time_point,
                dataset=dataset,
                reference=reference,
                **source,
            )

        # What cannot stay on the server is not uploaded in its place.
        job = create(uri=server_path(path)) if reference else import_from(client, name, path, upload, create)
        follow(client, job, json, wait)


def import_from(client: Client, project: str, path: str, upload: bool, create: Callable[..., Job]) -> Job:
    """Begin an import by path, or of an upload where the server may not read the path.

    Args:
        client: The connection.
        project: Where uploads go.
        path: As the user gave it.
        upload: Do not try the path.
        create: Begins the job; called with `uri` or `upload`.
    """
    local = Path(path)
    if not upload:
        try:
            return create(uri=server_path(path))
        except (InvalidArgument, NotFound) as error:
            if error.reason not in ("PATH_NOT_ALLOWED", "FILE_NOT_FOUND") or not local.exists():
                raise
            notes.print("the server may not read this path: uploading the file")
    if local.is_dir():
        raise InvalidArgument(
            "IS_A_FOLDER",
            f"{path!r} is a folder and cannot be uploaded: zip it and import the zip file, or let the server "
            "read it (`biosegment up --import-root FOLDER`)",
        )
    if not local.is_file():
        raise InvalidArgument("NO_FILE", f"there is no file {path!r} to upload")
    return create(upload=_upload(client, project, local))


def server_path(path: str) -> str:
    """What the server is asked for: a whole path where the user's is one of this machine."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def _upload(client: Client, project: str, path: Path) -> str:
    with progress_bar() as bar:
        task = bar.add_task(f"upload {path.name}", total=path.stat().st_size)
        return client.volumes.upload(
            project, path, on_progress=lambda done, _: bar.update(task, completed=done)
        )


@volume.command("list")
def list_volumes(project_id: ProjectOption, json: JsonOption = False) -> None:
    """List the volumes of a project."""
    with connect() as client:
        found = client.volumes.list(project_name(project_id))
    show_list(found, ("name", "shape", "dtype", "voxel_size", "source"), json, "no volumes yet")


@volume.command("show")
def show_volume(volume_id: VolumeArgument, project_id: ProjectOption = "", json: JsonOption = False) -> None:
    """Show a volume."""
    with connect() as client:
        show(client.volumes.get(volume_name(volume_id, project_id)), json)


@volume.command("layers")
def list_layers(volume_id: VolumeArgument, project_id: ProjectOption = "", json: JsonOption = False) -> None:
    """List the layers of a volume."""
    with connect() as client:
        found = client.volumes.layers(volume_name(volume_id, project_id))
    show_list(found, ("name", "kind", "measure", "dtype", "shape", "model"), json, "no layers yet")


@volume.command("read")
def read_region(
    name: Annotated[str, typer.Argument(help="Volume id, or the name of a volume or layer.")],
    output: Annotated[Path, typer.Argument(help="NumPy file (.npy) to write.")],
    region: RegionOption = "",
    level: Annotated[int, typer.Option(help="Level of the pyramid.")] = 0,
    with_edits: Annotated[
        bool, typer.Option("--with-edits", help="Objects as their edits made them.")
    ] = False,
    project_id: ProjectOption = "",
) -> None:
    """Save voxels as a NumPy file."""
    with connect() as client:
        array = client.volumes.read(
            volume_name(name, project_id), parse_region(region), level=level, with_edits=with_edits
        )
    np.save(output, array)
    console.print(
        f"{output}: {array.dtype} {' x '.join(map(str, array.shape))} (z, y, x)",
        highlight=False,
        soft_wrap=True,
    )


@volume.command("delete")
def delete_volume(
    volume_id: VolumeArgument,
    project_id: ProjectOption = "",
    force: Annotated[
        bool, typer.Option(help="Also when it has annotations or edits of objects, which are deleted too.")
    ] = False,
) -> None:
    """Delete a volume with its layers."""
    with connect() as client:
        client.volumes.delete(volume_name(volume_id, project_id), force=force)
