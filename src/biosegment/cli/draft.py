"""Drafts of annotations: unfinished work, which only its author sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from biosegment.cli.argument import ProjectOption, project_name, volume_name
from biosegment.cli.output import JsonOption, console, show_list
from biosegment.client import connect

draft = typer.Typer(no_args_is_help=True, help="Your unfinished annotations.")


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
    name: str, output: Annotated[Path, typer.Argument(help="NumPy file (.npy) to write.")]
) -> None:
    """Save the labels of a draft as a NumPy file."""
    with connect() as client:
        found, labels = client.annotations.draft(name)
    np.save(output, labels)
    console.print(f"{output}: {labels.dtype} labels of {found.region} (z, y, x)", highlight=False)


@draft.command("delete")
def delete_draft(name: str) -> None:
    """Throw a draft away."""
    with connect() as client:
        client.annotations.delete_draft(name)
