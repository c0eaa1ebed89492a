"""Objects from a prediction."""

from __future__ import annotations

from typing import Annotated

import typer

from biosegment.cli.argument import ProjectOption, WaitOption, layer_name
from biosegment.cli.output import JsonOption, follow
from biosegment.client import connect


def find_instances(
    layer: Annotated[
        str,
        typer.Argument(help="Layer of labels or probabilities: its name, or VOLUME/LAYER of the project."),
    ],
    project_id: ProjectOption = "",
    class_value: Annotated[
        int, typer.Option("--class", help="Value of the class; not needed for probabilities.", min=0)
    ] = 0,
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
    boundary_class: Annotated[int, typer.Option(help="Class of the boundary, as --class.", min=0)] = 0,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Find the objects of a class in a prediction: a layer of ids, one for each object of the whole volume."""
    with connect() as client:
        made = client.jobs.instances(
            layer_name(layer, project_id),
            class_value=class_value,
            method=method,
            min_size_voxels=min_size,
            connectivity=connectivity,
            threshold=threshold,
            seed_distance_nm=seed_distance,
            boundary_layer=layer_name(boundary, project_id) if boundary else "",
            boundary_class_value=boundary_class,
        )
        follow(client, made, json, wait)
