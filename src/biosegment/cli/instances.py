"""Objects from a prediction."""

from __future__ import annotations

from typing import Annotated

import typer

from biosegment.cli.argument import ProjectOption, WaitOption, layer_name
from biosegment.cli.label import class_value, project_classes
from biosegment.cli.output import JsonOption, follow
from biosegment.client import connect


def find_instances(
    layer: Annotated[
        str,
        typer.Argument(help="Layer of labels or probabilities: its name, or VOLUME/LAYER of the project."),
    ],
    project_id: ProjectOption = "",
    name: Annotated[
        str, typer.Option("--class", help="Class, its name or value; not needed for probabilities.")
    ] = "",
    method: Annotated[
        str,
        typer.Option(help="connected_components, or watershed, which also parts objects at constrictions."),
    ] = "connected_components",
    min_size: Annotated[int, typer.Option(help="Drop smaller objects, in voxels of level 0.", min=0)] = 0,
    connectivity: Annotated[
        int, typer.Option(help="6: voxels are neighbours by faces; 26: also by edges and corners.")
    ] = 26,
    threshold: Annotated[
        float, typer.Option(help="From which probability on a voxel is of the class; 0.5 by default.")
    ] = 0.0,
    seed_distance: Annotated[
        float,
        typer.Option(help="Watershed: part objects where they are thinner than twice so many nm.", min=0),
    ] = 0.0,
    boundary: Annotated[
        str, typer.Option(help="Watershed: layer that says where objects end, as LAYER.")
    ] = "",
    boundary_class: Annotated[str, typer.Option(help="Class of the boundary, as --class.")] = "",
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Find the objects of a class in a prediction: a layer of ids, one for each object of the whole volume."""
    source = layer_name(layer, project_id)
    with connect() as client:
        classes = project_classes(client, source) if name or boundary_class else {}
        made = client.jobs.instances(
            source,
            class_value=class_value(name, classes) if name else 0,
            method=method,
            min_size_voxels=min_size,
            connectivity=connectivity,
            threshold=threshold,
            seed_distance_nm=seed_distance,
            boundary_layer=layer_name(boundary, project_id) if boundary else "",
            boundary_class_value=class_value(boundary_class, classes) if boundary_class else 0,
        )
        follow(client, made, json, wait)
