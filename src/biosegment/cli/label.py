"""Labels that a lab already has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from biosegment.cli.argument import (
    AxesOption,
    ChannelOption,
    DatasetOption,
    ProjectOption,
    TimePointOption,
    UploadOption,
    WaitOption,
    parse_region,
    volume_name,
)
from biosegment.cli.output import JsonOption, follow
from biosegment.cli.project import import_from
from biosegment.client import Client, connect
from biosegment.client.resources import Job
from biosegment.errors import InvalidArgument
from biosegment.volume import Index

_RESERVED = {"not-annotated": 0, "background": 1}


def import_labels(
    volume_id: Annotated[str, typer.Argument(help="Volume that they belong to: its id or name.")],
    path: Annotated[str, typer.Argument(help="File or folder (or URI that the server may read).")],
    project_id: ProjectOption = "",
    zero: Annotated[str, typer.Option(help="What 0 means in the file: not-annotated or background.")] = "",
    value: Annotated[
        list[str] | None,
        typer.Option(
            help="VALUE=CLASS, for each value of the file: name or value of a class, background ..."
        ),
    ] = None,
    other: Annotated[str, typer.Option(help="Class of all other values, for one value per object.")] = "",
    looked_for: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Class that was looked for; those of the values by default. Of --instances: their class.",
        ),
    ] = None,
    as_annotations: Annotated[
        bool, typer.Option("--as-annotations", help="Annotations that models train on, instead of a layer.")
    ] = False,
    instances: Annotated[bool, typer.Option("--instances", help="The values are ids of objects.")] = False,
    offset: Annotated[
        str, typer.Option(help="z,y,x of the file's first voxel in the volume; 0,0,0 for equal shapes.")
    ] = "",
    extent: Annotated[
        str, typer.Option(help="z0:z1,y0:y1,x0:x1 of the volume: nothing outside of it is imported.")
    ] = "",
    layer_id: Annotated[str, typer.Option("--id", help="Id of the layer; made up by default.")] = "",
    axes: AxesOption = "",
    channel: ChannelOption = None,
    time_point: TimePointOption = None,
    dataset: DatasetOption = "",
    upload: UploadOption = False,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Import labels of a volume that you have already, as a layer or as annotations."""
    _check_meaning(zero, instances or bool(value or other), instances)
    volume = volume_name(volume_id, project_id)
    project = "/".join(volume.split("/")[:2])
    with connect() as client:
        classes = project_classes(client, volume)

        def create(**source: str) -> Job:
            return client.jobs.import_labels(
                volume,
                zero=zero.replace("-", "_"),
                values=dict(_meaning(each, classes) for each in value or ()),
                other_values=class_value(other, classes) if other else None,
                class_scope=[class_value(each, classes) for each in looked_for or ()],
                as_annotations=as_annotations,
                instances=instances,
                offset=parse_offset(offset),
                extent=parse_region(extent),
                layer_id=layer_id,
                axes=axes,
                channel=channel,
                time_point=time_point,
                dataset=dataset,
                **source,
            )

        follow(client, import_from(client, project, path, upload, create), json, wait)


def project_classes(client: Client, name: str) -> dict[str, int]:
    """Values of the classes of a project by their names; `name` is of anything that lies in the project."""
    found = client.projects.get("/".join(name.split("/")[:2])).classes
    return {item.display_name: item.value for item in found}


def class_value(text: str, classes: Mapping[str, int]) -> int:
    """The value of a class, given by name or value, or of background and not-annotated.

    Args:
        text: As the user wrote it.
        classes: Values by name.
    """
    if text in classes:
        return classes[text]
    if text in _RESERVED:
        return _RESERVED[text]
    if text.isdecimal():
        return int(text)
    raise InvalidArgument(
        "UNKNOWN_CLASS", f"there is no class {text!r}; there are {', '.join([*classes, *_RESERVED])}"
    )


def parse_offset(text: str) -> Index | None:
    """Read `z,y,x`; None for ''."""
    if not text:
        return None
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidArgument("BAD_OFFSET", f"offset {text!r} is not z,y,x in voxels") from error
    return Index(z, y, x)


def _check_meaning(zero: str, has_values: bool, instances: bool) -> None:
    """Ask for what is missing in the words of the options, before a file is uploaded."""
    if not zero and not instances:
        raise InvalidArgument(
            "ZERO_MEANING_MISSING",
            "say what 0 means in the file: --zero not-annotated (nobody looked there) or --zero background "
            "(none of the classes)",
        )
    if zero not in ("", *_RESERVED):
        raise InvalidArgument("BAD_ZERO", f"--zero is {zero!r}; it takes {' or '.join(_RESERVED)}")
    if not has_values:
        raise InvalidArgument(
            "VALUES_MISSING",
            "say what the file's values mean: --value VALUE=CLASS for each, or --other CLASS for all but 0",
        )


def _meaning(text: str, classes: Mapping[str, int]) -> tuple[int, int]:
    value, found, name = text.partition("=")
    if not found or not value.strip().isdecimal():
        raise InvalidArgument(
            "BAD_VALUES", f"--value takes VALUE=CLASS, such as 255=mitochondria, not {text!r}"
        )
    return int(value), class_value(name.strip(), classes)
