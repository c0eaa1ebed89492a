"""The table of objects and their meshes, as files."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from biosegment.cli.argument import ProjectOption, layer_name
from biosegment.cli.output import JsonOption, console, show, wait_for
from biosegment.client import Client, connect
from biosegment.client.object_jobs import MESH_FORMATS
from biosegment.errors import InvalidArgument

_TABLES = (".csv", ".parquet")
"""Suffixes of the job's first artifacts."""


def measure_objects(
    layer: Annotated[
        str, typer.Argument(help="Layer of instances: its name, or VOLUME/LAYER of the project.")
    ],
    project_id: ProjectOption = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .csv or .parquet.")] = Path(
        "objects.csv"
    ),
    meshes: Annotated[
        Path | None,
        typer.Option(help="Also make a mesh of each object: a .zip file to write, or a folder."),
    ] = None,
    mesh_format: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(MESH_FORMATS)}; several may be given. STL by default."),
    ] = None,
    mesh_cell: Annotated[
        float,
        typer.Option(help="Edge in nm of the grid on which meshes are made; the voxels by default.", min=0),
    ] = 0.0,
    json: JsonOption = False,
) -> None:
    """Measure the objects of a layer of instances: volume, surface, shape, place, intensities; one row each."""
    if output.suffix.lower() not in _TABLES:
        raise InvalidArgument("UNKNOWN_FORMAT", f"a table is a .csv or a .parquet file, not {output.name!r}")
    if meshes is None and (mesh_format or mesh_cell):
        raise InvalidArgument(
            "NO_MESHES", "--mesh-format and --mesh-cell go with --meshes PATH; say where to write"
        )
    with connect() as client:
        made = client.jobs.measure_objects(
            layer_name(layer, project_id),
            meshes=meshes is not None,
            mesh_formats=mesh_format or (),
            mesh_cell_nm=mesh_cell,
        )
        done = wait_for(client, made, json)
        written = [client.volumes.download(done.artifacts[_TABLES.index(output.suffix.lower())], output)]
        if meshes is not None:
            written.append(_fetch_meshes(client, done.artifacts[-1], meshes))
    if json:
        show(done, True)
        return
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)


def _fetch_meshes(client: Client, artifact: str, path: Path) -> Path:
    if path.suffix.lower() == ".zip":
        return client.volumes.download(artifact, path)
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path) as folder:
        archive = client.volumes.download(artifact, Path(folder) / "meshes.zip")
        with zipfile.ZipFile(archive) as file:
            file.extractall(path)
    return path
