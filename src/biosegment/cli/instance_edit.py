"""Corrections of the objects of a layer of instances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from biosegment.cli.argument import (
    NameArgument,
    ProjectOption,
    layer_name,
    parse_region,
)
from biosegment.cli.label import class_value, project_classes
from biosegment.cli.label_file import CommentOption, read_labels
from biosegment.cli.output import JsonOption, show, show_list, to_plain
from biosegment.client import connect
from biosegment.client.resources import InstanceEdit
from biosegment.errors import InvalidArgument
from biosegment.volume import Region

instance = typer.Typer(no_args_is_help=True, help="Objects of layers of instances: merge, split, delete ...")

LayerArgument = Annotated[
    str,
    typer.Argument(help="Layer of instances: its name, or VOLUME/LAYER with --project.", show_default=False),
]
IdsArgument = Annotated[list[int], typer.Argument(help="Ids of objects.", show_default=False)]
IdArgument = Annotated[int, typer.Argument(help="Id of an object.", show_default=False)]
LayerRegionOption = Annotated[
    str,
    typer.Option("--region", help="z0:z1,y0:y1,x0:x1 in voxels of the layer, half-open.", show_default=False),
]
BaseOption = Annotated[
    int | None,
    typer.Option(help="Number of the last edit that you saw: refuse when a later one touched the objects."),
]


@instance.command("merge")
def merge_instances(
    layer: LayerArgument,
    instances: IdsArgument,
    project_id: ProjectOption = "",
    into: Annotated[int, typer.Option(help="The one whose id all get; the first by default.")] = 0,
    comment: CommentOption = "",
    base: BaseOption = None,
    json: JsonOption = False,
) -> None:
    """Make several objects one."""
    with connect() as client:
        made = client.instances.merge(
            layer_name(layer, project_id), instances, into=into, comment=comment, base_sequence=base
        )
    show(made, json)


@instance.command("split")
def split_instance(
    layer: LayerArgument,
    instance_id: IdArgument,
    project_id: ProjectOption = "",
    part: Annotated[
        list[str] | None,
        typer.Option(
            help='Points "z,y,x z,y,x ..." in one part; repeat it for each part. The first one keeps the id.'
        ),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="Or a .npy or .tif file: 0 keeps the id, 1, 2 ... become new objects.")
    ] = "",
    region: LayerRegionOption = "",
    comment: CommentOption = "",
    base: BaseOption = None,
    json: JsonOption = False,
) -> None:
    """Make several objects of one: by points in its parts, or by a file that tells the parts apart."""
    labels = _read(parts) if parts else None
    with connect() as client:
        made = client.instances.split(
            layer_name(layer, project_id),
            instance_id,
            parts=labels,
            seeds=[parse_points(text) for text in part or ()],
            region=parse_region(region),
            comment=comment,
            base_sequence=base,
        )
    show(made, json)


@instance.command("delete")
def delete_instances(
    layer: LayerArgument,
    instances: IdsArgument,
    project_id: ProjectOption = "",
    comment: CommentOption = "",
    base: BaseOption = None,
    json: JsonOption = False,
) -> None:
    """Make objects background."""
    with connect() as client:
        made = client.instances.delete(
            layer_name(layer, project_id), instances, comment=comment, base_sequence=base
        )
    show(made, json)


@instance.command("reassign")
def reassign(
    layer: LayerArgument,
    instances: Annotated[
        list[int] | None, typer.Argument(help="Ids of objects, with --class.", show_default=False)
    ] = None,
    project_id: ProjectOption = "",
    class_name: Annotated[
        str, typer.Option("--class", help="Class that the objects become of, its name or value.")
    ] = "",
    mask: Annotated[
        str, typer.Option(help="Or a .npy or .tif file: 1 for the voxels that another object gets.")
    ] = "",
    region: LayerRegionOption = "",
    to: Annotated[int, typer.Option(help="The object that gets them; a new one by default.")] = 0,
    comment: CommentOption = "",
    base: BaseOption = None,
    json: JsonOption = False,
) -> None:
    """Give voxels to another object, or objects to another class."""
    name = layer_name(layer, project_id)
    if bool(class_name) == bool(mask) or bool(instances) == bool(mask):
        raise InvalidArgument(
            "BAD_EDIT", "give either objects and --class, or --mask with the --region that it covers"
        )
    with connect() as client:
        if class_name:
            chosen = class_value(class_name, project_classes(client, name))
            made = client.instances.reclassify(
                name, instances or [], chosen, comment=comment, base_sequence=base
            )
        else:
            made = client.instances.reassign(
                name, _read(mask), region=_where(region), instance=to, comment=comment, base_sequence=base
            )
    show(made, json)


@instance.command("edits")
def list_edits(
    layer: LayerArgument,
    project_id: ProjectOption = "",
    instance_id: Annotated[
        int, typer.Option("--instance", help="Only those that touched this object: its history.")
    ] = 0,
    after: Annotated[int, typer.Option(help="Only edits after this number.")] = 0,
    json: JsonOption = False,
) -> None:
    """List what was done to the objects of a layer, in order."""
    with connect() as client:
        found = client.instances.list(
            layer_name(layer, project_id), instance=instance_id, after_sequence=after
        )
    columns = "sequence", "kind", "instances", "into", "new_instances", "class_value", "author", "create_time"
    # Of what an edit takes back the id alone: it is of the same layer.
    rows = found if json else [replace(each, reverts=each.reverts.rpartition("/")[2]) for each in found]
    show_list(rows, (*columns, "reverts", "reverted", "comment", "name"), json, "no edits")


@instance.command("revert")
def revert_edit(name: NameArgument, json: JsonOption = False) -> None:
    """Take an edit back."""
    with connect() as client:
        made: InstanceEdit = client.instances.revert(name)
    show(made, json)


@instance.command("at")
def instance_at(
    layer: LayerArgument,
    position: Annotated[str, typer.Argument(help="z,y,x in voxels of the layer.", show_default=False)],
    project_id: ProjectOption = "",
    json: JsonOption = False,
) -> None:
    """Show which object a voxel belongs to."""
    point = parse_points(position)[0]
    with connect() as client:
        found = client.instances.at(layer_name(layer, project_id), point)
    # In words, so that background, 0, is printed too.
    show(found if json else {key: str(value) for key, value in to_plain(found).items()}, json)


def parse_points(text: str) -> list[tuple[int, int, int]]:
    """Read `z,y,x z,y,x ...`."""
    points = []
    for part in text.replace(";", " ").split():
        try:
            z, y, x = (int(number) for number in part.split(","))
        except ValueError as error:
            raise InvalidArgument("BAD_POSITION", f"{part!r} is not z,y,x in voxels") from error
        points.append((z, y, x))
    if not points:
        raise InvalidArgument("BAD_POSITION", "give a position as z,y,x in voxels")
    return points


def _read(path: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return read_labels(Path(path), "dense").view(np.uint8)


def _where(region: str) -> Region:
    where = parse_region(region)
    if where is None:
        raise InvalidArgument("NO_REGION", "say where the voxels are: --region z0:z1,y0:y1,x0:x1")
    return where
