"""Training, prediction, export; jobs and models."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from biosegment.cli.argument import (
    AsOfOption,
    FormatOption,
    NameArgument,
    ProjectOption,
    RegionOption,
    WaitOption,
    export_format,
    layer_name,
    parse_moment,
    parse_region,
    project_name,
    volume_name,
)
from biosegment.cli.output import (
    JsonOption,
    console,
    duration,
    follow,
    resources_text,
    show,
    show_list,
    wait_for,
)
from biosegment.client import connect
from biosegment.client.resources import Job, JobLogLine, JobState, Passes, Resources
from biosegment.errors import InvalidArgument

GpusOption = Annotated[int, typer.Option(help="GPUs to reserve; 0 for the platform's default.")]
MemoryOption = Annotated[float, typer.Option(help="Memory to reserve in GiB; 0 for the default.")]

_LOG_EVERY_S: Final = 1.0

job = typer.Typer(no_args_is_help=True, help="Long work: list, watch, cancel.")
model = typer.Typer(no_args_is_help=True, help="Model versions.")


def train(
    project_id: ProjectOption,
    parent: Annotated[str, typer.Option(help="Model to start from; the newest by default.")] = "",
    from_scratch: Annotated[bool, typer.Option(help="Start from random weights.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    max_steps: Annotated[
        int, typer.Option(help="Optimisation steps; 0: 200 to 1000 by the number of annotations.")
    ] = 0,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the training configuration.")
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Nobody waits for it: let what people wait for go first.")
    ] = False,
    gpus: GpusOption = 0,
    memory: MemoryOption = 0.0,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Make a new model version from the annotations."""
    options = dict(_option(item) for item in option or ())
    with connect() as client:
        made = client.jobs.train(
            project_name(project_id),
            parent=parent,
            from_scratch=from_scratch,
            seed=seed,
            max_steps=max_steps,
            options=options,
            interactive=not background,
            resources=_resources(gpus, memory),
        )
        follow(client, made, json, wait)


def pretrain(
    volume_id: Annotated[list[str], typer.Argument(help="Volume ids or names.")],
    project_id: ProjectOption = "",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    max_steps: Annotated[int, typer.Option(help="Optimisation steps; 0 for the default.")] = 0,
    gpus: GpusOption = 0,
    memory: MemoryOption = 0.0,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Make a parent model from the raw voxels of volumes, without any annotation."""
    with connect() as client:
        made = client.jobs.pretrain(
            [volume_name(item, project_id) for item in volume_id],
            seed=seed,
            max_steps=max_steps,
            resources=_resources(gpus, memory),
        )
        follow(client, made, json, wait)


def _resources(gpus: int, memory_gib: float) -> Resources | None:
    return Resources(gpus=gpus, memory_bytes=int(memory_gib * 2**30)) if gpus or memory_gib else None


def _option(text: str) -> tuple[str, float | str]:
    name, found, value = text.partition("=")
    if not found:
        raise InvalidArgument("BAD_OPTION", f"--option takes NAME=VALUE, not {text!r}")
    try:
        return name, float(value)
    except ValueError:
        return name, value


def predict(
    volume_id: Annotated[str, typer.Argument(help="Volume id or name.")],
    project_id: ProjectOption = "",
    model_name: Annotated[str, typer.Option("--model", help="The newest by default.")] = "",
    region: RegionOption = "",
    probabilities: Annotated[bool, typer.Option(help="Also keep probabilities.")] = False,
    measure: Annotated[list[str] | None, typer.Option(help="Also keep a score map of this measure.")] = None,
    mc_dropout: Annotated[int, typer.Option(help="Passes with dropout switched on.")] = 0,
    tta: Annotated[int, typer.Option(help="Passes over turned and mirrored copies, 2 to 8.")] = 0,
    ensemble: Annotated[list[str] | None, typer.Option(help="Another model whose answer counts.")] = None,
    ortho_planes: Annotated[bool, typer.Option(help="Predict in all three planes, take the mean.")] = False,
    gpus: GpusOption = 0,
    memory: MemoryOption = 0.0,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Predict a volume."""
    passes = Passes(mc_dropout, tta, tuple(ensemble or ())) if mc_dropout or tta or ensemble else None
    with connect() as client:
        made = client.jobs.predict(
            volume_name(volume_id, project_id),
            model=model_name,
            region=parse_region(region),
            probabilities=probabilities,
            measures=measure or (),
            passes=passes,
            ortho_planes=ortho_planes,
            resources=_resources(gpus, memory),
        )
        follow(client, made, json, wait)


def export(
    source: Annotated[str, typer.Argument(help="Volume id, VOLUME/LAYER, or the name of a volume or layer.")],
    output: Annotated[
        Path,
        typer.Argument(help="File to write, or a folder for a file with the export's own name."),
    ] = Path(),
    project_id: ProjectOption = "",
    file_format: FormatOption = "",
    raw: Annotated[bool, typer.Option(help="The volume's grey values instead of its segmentation.")] = False,
    region: RegionOption = "",
    prediction: Annotated[
        str, typer.Option(help="Labels layer under the annotations; the newest by default.")
    ] = "",
    as_of: AsOfOption = "",
    without_edits: Annotated[
        bool, typer.Option("--without-edits", help="A layer of instances as it was written.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write the segmentation of a volume (prediction under annotations), its grey values, or a layer into a file."""
    name = (layer_name if "/" in source else volume_name)(source, project_id)
    segmentation = "/layers/" not in name and not raw
    if prediction and not prediction.startswith("projects/"):
        prediction = f"{name}/layers/{prediction}"
    chosen = export_format(file_format, output)
    with connect() as client:
        made = client.jobs.export(
            name,
            segmentation=segmentation,
            region=parse_region(region),
            prediction=prediction,
            file_format=chosen,
            as_of=parse_moment(as_of),
            without_edits=without_edits,
        )
        done = wait_for(client, made, json)
        artifact = client.volumes.artifact(done.artifact)
        path = output / artifact.file_name if output.is_dir() else output
        client.volumes.download(done.artifact, path)
    if json:
        show(done, True)
    else:
        console.print(f"{path}: {path.stat().st_size} bytes", highlight=False, soft_wrap=True)


@job.command("list")
def list_jobs(
    project_id: ProjectOption = "",
    state: Annotated[str, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = "",
    json: JsonOption = False,
) -> None:
    """List jobs, newest first; of all projects for administrators."""
    with connect() as client:
        found = client.jobs.list(project_name(project_id) if project_id else "", state=state)
    rows = [_Row.of(item) for item in found]
    show_list(found if json else rows, tuple(_Row.__dataclass_fields__), json, "no jobs yet")


@dataclass(frozen=True, slots=True)
class _Row:
    """A job in a table for people; `place` is its position in the queue, `reserves` what it takes of a node."""

    name: str
    kind: str
    state: str
    fraction: float
    step: str
    place: str
    ends_in: str
    reserves: str
    owner: str
    create_time: datetime | None

    @classmethod
    def of(cls, item: Job) -> _Row:
        queued = item.state is JobState.QUEUED
        return cls(
            item.name,
            item.kind,
            item.state.value,
            item.fraction,
            item.step,
            str(item.queue_position + 1) if queued else "",
            duration(item.eta_s) if item.state is JobState.RUNNING else "",
            resources_text(item.resources),
            item.owner,
            item.create_time,
        )


@job.command("show")
def show_job(name: NameArgument, json: JsonOption = False) -> None:
    """Show a job."""
    with connect() as client:
        show(client.jobs.get(name), json)


@job.command("watch")
def watch_job(name: NameArgument, json: JsonOption = False) -> None:
    """Follow a job to its end."""
    with connect() as client:
        follow(client, client.jobs.get(name), json)


@job.command("cancel")
def cancel_job(name: NameArgument, json: JsonOption = False) -> None:
    """Ask a job to stop."""
    with connect() as client:
        show(client.jobs.cancel(name), json)


@job.command("retry")
def retry_job(name: NameArgument, json: JsonOption = False) -> None:
    """Queue a failed or cancelled job again."""
    with connect() as client:
        show(client.jobs.retry(name), json)


@job.command("log")
def show_log(
    name: NameArgument,
    after: Annotated[int, typer.Option(help="Only lines after this number.", min=0)] = 0,
    follow_it: Annotated[bool, typer.Option("--follow", help="Go on until the job has ended.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the log of a job; lines are numbered over all attempts."""
    with connect() as client:
        while True:
            # Asked before the lines are read: what comes after the end is nothing.
            ended = not follow_it or client.jobs.get(name).state.ended
            lines = client.jobs.log(name, after_line=after)
            if json and not follow_it:
                show_list(lines, (), True, "")
            for line in lines:
                if json and follow_it:
                    show(line, True)
                elif not json:
                    _print_line(line)
                after = line.line
            if ended:
                return
            time.sleep(_LOG_EVERY_S)


def _print_line(line: JobLogLine) -> None:
    text = f"{line.line:>4} {line.time:%H:%M:%S} [{line.attempt}] {line.text}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@model.command("list")
def list_models(project_id: ProjectOption = "", json: JsonOption = False) -> None:
    """List the models of a project, newest first; without a project those shipped with the platform."""
    with connect() as client:
        found = client.models.list(project_name(project_id) if project_id else "")
    columns = (
        "name",
        "version",
        "display_name",
        "network",
        "parent",
        "annotation_count",
        "metrics",
        "data_license",
    )
    show_list(found, columns, json, "no models yet")


@model.command("show")
def show_model(name: NameArgument, json: JsonOption = False) -> None:
    """Show a model with its training configuration."""
    with connect() as client:
        show(client.models.get(name), json)


@model.command("lineage")
def show_lineage(name: NameArgument, json: JsonOption = False) -> None:
    """Show a model and its ancestors."""
    with connect() as client:
        show_list(client.models.lineage(name), ("name", "version", "annotation_count", "metrics"), json, "")


@model.command("export")
def export_model(
    name: NameArgument,
    output: Annotated[Path, typer.Argument(help="File to write.")],
    file_format: Annotated[
        str,
        typer.Option(
            "--format", help="bundle (MONAI, a zip file), onnx, or bioimageio (a package for other programs)."
        ),
    ] = "bundle",
) -> None:
    """Write a model into a file."""
    with connect() as client:
        path = client.models.export(name, output, file_format=file_format)
    console.print(f"{path}: {path.stat().st_size} bytes", highlight=False, soft_wrap=True)


@model.command("import")
def import_model(
    bundle: Annotated[
        Path, typer.Argument(help="MONAI bundle or bioimage.io package, a folder or a zip file.")
    ],
    project_id: ProjectOption,
    trusted: Annotated[
        bool,
        typer.Option(
            "--trusted", help="Evaluate its expressions, which is running its code; administrators only."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Register a bundle that others made as a model."""
    with connect() as client:
        show(client.models.import_bundle(project_name(project_id), bundle, trusted=trusted), json)


@model.command("delete")
def delete_model(name: NameArgument) -> None:
    """Delete the weights of a model."""
    with connect() as client:
        client.models.delete(name)
