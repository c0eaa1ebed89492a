"""Arguments that several commands share, and how they are read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from biosegment.client.transfer_jobs import EXPORT_FORMATS
from biosegment.errors import InvalidArgument
from biosegment.volume import Region, VoxelSize

ProjectArgument = Annotated[str, typer.Argument(help="Project id or name.", show_default=False)]
VolumeArgument = Annotated[str, typer.Argument(help="Volume id or name.", show_default=False)]
UserArgument = Annotated[str, typer.Argument(help="User id.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="Its name, as the list shows it.", show_default=False)]
ProjectOption = Annotated[
    str, typer.Option("--project", "-p", help="Project id.", envvar="BIOSEGMENT_PROJECT", show_default=False)
]
RegionOption = Annotated[
    str,
    typer.Option("--region", help="z0:z1,y0:y1,x0:x1 in voxels of level 0, half-open.", show_default=False),
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait and show progress, or return the job.")
]
AxesOption = Annotated[
    str, typer.Option(help="Order of the file's axes, such as czyx, when the file does not say.")
]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to take, from 0.")]
TimePointOption = Annotated[int | None, typer.Option(help="Time point to take, from 0.")]
DatasetOption = Annotated[str, typer.Option(help="Path of the array inside a container file (HDF5 ...).")]
UploadOption = Annotated[bool, typer.Option(help="Send the file instead of naming its path.")]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help=f"{', '.join(EXPORT_FORMATS)}; as the name of the file says by default, else ome_tiff.",
        show_default=False,
    ),
]
AsOfOption = Annotated[
    str,
    typer.Option(
        help="As it was then: an ISO time such as 2026-05-04T17:30, local unless it says otherwise.",
        show_default=False,
    ),
]

_SUFFIXES = {
    ".ome.tif": "ome_tiff",
    ".ome.tiff": "ome_tiff",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".zip": "ome_zarr",
    ".ozx": "ome_zarr",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".mrc": "mrc",
    ".nrrd": "nrrd",
    ".nii.gz": "nifti",
    ".ims": "ims",
    ".am": "amiramesh",
    ".model": "mib_model",
}
"""Longer ones before those that they end with."""


def export_format(given: str, output: Path) -> str:
    """The format that was asked for, or the one that the output's name speaks of."""
    suffix = next((suffix for suffix in _SUFFIXES if output.name.lower().endswith(suffix)), "")
    chosen = given.lower().replace("-", "_") or _SUFFIXES.get(suffix, "")
    if output.name.lower().endswith(".nii") and chosen in ("", "nifti"):
        raise InvalidArgument("BAD_OUTPUT", f"NIfTI exports are compressed: call the file {output.name}.gz")
    if not chosen and output.name and not output.is_dir():
        raise InvalidArgument(
            "UNKNOWN_FORMAT", f"the name {output.name!r} tells no format; choose one with --format"
        )
    return chosen or "ome_tiff"


def parse_moment(text: str) -> datetime | None:
    """Read an ISO time, local unless it names a zone; None for ''."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise InvalidArgument(
            "BAD_TIME", f"{text!r} is no ISO time; write it like 2026-05-04T17:30 or 2026-05-04T15:30Z"
        ) from error


def project_name(project: str) -> str:
    """`projects/{id}` from an id or a name."""
    return project if project.startswith("projects/") else f"projects/{project}"


def volume_name(volume: str, project: str) -> str:
    """`projects/{p}/volumes/{v}` from a name, or from an id and a project."""
    if volume.startswith("projects/"):
        return volume
    if not project:
        raise InvalidArgument("NO_PROJECT", f"say which project volume {volume!r} is in: --project ID")
    return f"{project_name(project)}/volumes/{volume}"


def layer_name(layer: str, project_id: str) -> str:
    """`projects/{p}/volumes/{v}/layers/{l}` from a name, or from VOLUME/LAYER and a project."""
    if layer.startswith("projects/"):
        return layer
    volume, slash, layer_id = layer.partition("/")
    if not slash or not layer_id:
        raise InvalidArgument("BAD_NAME", f"{layer!r} names no layer: give VOLUME/LAYER, or its whole name")
    return f"{volume_name(volume, project_id)}/layers/{layer_id}"


def parse_region(text: str) -> Region | None:
    """Read `z0:z1,y0:y1,x0:x1`, in brackets too, as tables show it; None for ''."""
    if not text:
        return None
    try:
        bounds = [tuple(int(end) for end in part.split(":")) for part in text.strip(" []").split(",")]
        (z0, z1), (y0, y1), (x0, x1) = bounds
    except ValueError as error:
        raise InvalidArgument(
            "BAD_REGION", f"region {text!r} is not of the form z0:z1,y0:y1,x0:x1"
        ) from error
    return Region((z0, y0, x0), (z1, y1, x1))  # type: ignore[arg-type]


def parse_voxel_size(text: str) -> VoxelSize | None:
    """Read `z,y,x` or one number for all, in nm; None for ''."""
    if not text:
        return None
    try:
        parts = [float(part) for part in text.split(",")]
        z, y, x = parts * 3 if len(parts) == 1 else parts
    except ValueError as error:
        raise InvalidArgument(
            "BAD_VOXEL_SIZE", f"voxel size {text!r} is not z,y,x (or one number) in nm"
        ) from error
    return VoxelSize(z, y, x)
