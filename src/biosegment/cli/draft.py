"""Drafts of annotations: unfinished work, which only its author sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from biosegment.cli.argument import (
    NameArgument,
    ProjectOption,
    RegionOption,
    parse_region,
    project_name,
    volume_name,
)
from biosegment.cli.label_file import ClassOption, CommentOption, KindOption, LabelsArgument, read_labels
from biosegment.cli.output import JsonOption, console, show, show_list
from biosegment.client import connect
from biosegment.errors import InvalidArgument

draft = typer.Typer(no_args_is_help=True, help="Your unfinished annotations.")


@draft.command("save")
def save_draft(
    labels: LabelsArgument,
    draft_id: Annotated[str, typer.Option("--id", help="Of your choice; a draft with it is replaced.")],
    volume_id: Annotated[str, typer.Option("--volume", help="Volume that the labels belong to.")],
    region: RegionOption,
    project_id: ProjectOption = "",
    sample: Annotated[str, typer.Option(help="The sample that is being answered.")] = "",
    kind: KindOption = "dense",
    class_value: ClassOption = None,
    comment: CommentOption = "",
    base: Annotated[int, typer.Option(help="Number of the last record that you saw.")] = 0,
    json: JsonOption = False,
) -> None:
    """Keep an annotation that is not finished, to go on with it on any machine."""
    where = parse_region(region)
    if where is None:
        raise InvalidArgument("NO_REGION", "say where the labels belong: --region z0:z1,y0:y1,x0:x1")
    array = read_labels(labels, kind)
    with connect() as client:
        saved = client.annotations.save_draft(
            f"{volume_name(volume_id, project_id)}/drafts/{draft_id}",
            array,
            region=where,
            kind=kind,
            class_scope=class_value or [],
            sample=sample,
            comment=comment,
            base_sequence=base,
        )
    show(saved, json)


@draft.command("list")
def list_drafts(
    project_id: ProjectOption = "",
    volume_id: Annotated[str, typer.Option("--volume", help="Only of this volume.")] = "",
    json: JsonOption = False,
) -> None:
    """List your drafts, the newest first."""
    parent = volume_name(volume_id, project_id) if volume_id else project_name(project_id)
    with connect() as client:
        found = client.annotations.drafts(parent)
    show_list(found, ("name", "update_time", "region", "kind", "sample", "comment"), json, "no drafts")


@draft.command("read")
def read_draft(
    name: NameArgument, output: Annotated[Path, typer.Argument(help="NumPy file (.npy) to write.")]
) -> None:
    """Save the labels of a draft as a NumPy file."""
    with connect() as client:
        found, labels = client.annotations.draft(name)
    np.save(output, labels)
    console.print(
        f"{output}: {labels.dtype} labels of {found.region} (z, y, x)", highlight=False, soft_wrap=True
    )


@draft.command("delete")
def delete_draft(name: NameArgument) -> None:
    """Throw a draft away."""
    with connect() as client:
        client.annotations.delete_draft(name)
