"""Segmenting a region with clicks and strokes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from biosegment.cli.argument import ProjectOption, RegionOption, VolumeArgument, parse_region, volume_name
from biosegment.cli.label import class_value, project_classes
from biosegment.cli.label_file import read_labels
from biosegment.cli.output import JsonOption, show, to_plain
from biosegment.client import Client, connect
from biosegment.client.resources import Segmented
from biosegment.errors import InvalidArgument


@dataclasses.dataclass(frozen=True, slots=True)
class _Report:
    """What is printed of an answer."""

    region: str
    level: int
    voxel_size_nm: str
    model: str
    changed: str
    changed_voxels: int
    mask_voxels: int
    output: str
    annotation: str


def segment(
    volume_id: VolumeArgument,
    region: RegionOption = "",
    click: Annotated[
        list[str] | None, typer.Option(help="z,y,x of a voxel of the class; repeatable.", show_default=False)
    ] = None,
    no_click: Annotated[
        list[str] | None, typer.Option(help="z,y,x of a voxel that is not of the class.", show_default=False)
    ] = None,
    scribbles: Annotated[
        Path | None,
        typer.Option(help="Strokes over the region as .npy or .tif: 0 none, 1 background, 2.. classes."),
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(help="Mask to correct, over the region, as .npy or .tif: 0 and 1.")
    ] = None,
    layer: Annotated[
        str,
        typer.Option(help="Layer to correct, its id or name, in place of --previous.", show_default=False),
    ] = "",
    plane: Annotated[str, typer.Option(help="xy, xz or yz: slices; 3d: through the slices.")] = "xy",
    name: Annotated[
        str, typer.Option("--class", help="Class to segment, its name or value; may be left out for one.")
    ] = "",
    level: Annotated[
        int | None, typer.Option(help="Pyramid level to work at; by the working resolution by default.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model that takes clicks; the shipped one by default.")] = "",
    draft: Annotated[bool, typer.Option("--draft", help="Strokes label the other slices too.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the mask as .npy, uint8 0 and 1 (z, y, x).")
    ] = None,
    commit: Annotated[bool, typer.Option("--commit", help="Store the mask as an annotation.")] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="With --commit: all else in the region is background.")
    ] = False,
    project_id: ProjectOption = "",
    json: JsonOption = False,
) -> None:
    """Segment a region with clicks and strokes, and store it if you like."""
    box = parse_region(region)
    if box is None:
        raise InvalidArgument("NO_REGION", "say where: --region z0:z1,y0:y1,x0:x1 in voxels of level 0")
    if output is not None and output.suffix != ".npy":
        raise InvalidArgument("BAD_OUTPUT", f"the mask is written as a NumPy file; call it {output.name}.npy")
    volume = volume_name(volume_id, project_id)
    if layer and "/" not in layer:
        layer = f"{volume}/layers/{layer}"
    clicks = [(_position(text), True) for text in click or ()]
    clicks += [(_position(text), False) for text in no_click or ()]
    strokes = read_labels(scribbles, "scribbles") if scribbles is not None else None
    first = read_labels(previous, "dense") if previous is not None else None
    with connect() as client:
        session = client.segmentation.begin(
            volume,
            box,
            class_value=_chosen(client, volume, name),
            plane=plane,
            layer=layer,
            mask=first,  # type: ignore[arg-type]
        )
        before = session.mask
        answer = client.segmentation.segment(
            volume,
            box,
            class_value=session.class_value,
            clicks=clicks,
            scribbles=strokes,  # type: ignore[arg-type]
            previous=before if before.any() else None,
            plane=plane,
            level=level,
            model=_model_name(model),
            base_layer=session.base_layer,
            base_sequence=session.base_sequence,
            draft=draft,
        )
        session.step(answer.mask)
        if output is not None:
            np.save(output, answer.mask)
        stored = client.segmentation.commit(session, complete=complete).name if commit else ""
    report = _report(answer, before, output, stored)
    # In words, so that level 0 is printed too.
    show(report if json else {key: str(value) for key, value in to_plain(report).items()}, json)


def _report(answer: Segmented, before: NDArray[np.uint8], output: Path | None, annotation: str) -> _Report:
    return _Report(
        region=str(answer.region),
        level=answer.level,
        voxel_size_nm=" x ".join(f"{edge:g}" for edge in answer.voxel_size),
        model=answer.model,
        changed=str(answer.changed) if answer.changed is not None else "nothing",
        changed_voxels=int(np.count_nonzero(answer.mask != before)),
        mask_voxels=int(np.count_nonzero(answer.mask)),
        output=str(output or ""),
        annotation=annotation,
    )


def _chosen(client: Client, volume: str, name: str) -> int:
    classes = project_classes(client, volume)
    if name:
        return class_value(name, classes)
    if len(classes) != 1:
        raise InvalidArgument(
            "UNKNOWN_CLASS", f"say which class to segment: --class, one of {', '.join(classes) or 'none yet'}"
        )
    return next(iter(classes.values()))


def _model_name(model: str) -> str:
    return model if not model or model.startswith("models/") else f"models/{model}"


def _position(text: str) -> tuple[int, int, int]:
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidArgument("BAD_POSITION", f"click {text!r} is not z,y,x in voxels of level 0") from error
    return z, y, x
