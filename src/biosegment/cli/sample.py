"""Samples, annotations and the pool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import typer

from biosegment.cli.argument import (
    NameArgument,
    ProjectOption,
    RegionOption,
    VolumeArgument,
    parse_region,
    project_name,
    volume_name,
)
from biosegment.cli.label_file import ClassOption, CommentOption, KindOption, LabelsArgument, read_labels
from biosegment.cli.output import JsonOption, notes, show, show_list
from biosegment.client import connect
from biosegment.client.resources import AnnotationRecord, Sample
from biosegment.errors import InvalidArgument

sample = typer.Typer(no_args_is_help=True, help="What to annotate next.")
annotation = typer.Typer(no_args_is_help=True, help="What was annotated.")

SessionOption = Annotated[
    str, typer.Option("--session", help="Name of this window, so that your other ones keep what they have.")
]
HeartbeatOption = Annotated[
    bool,
    typer.Option("--heartbeat", help="You will call `sample heartbeat`; the lease ends when that stops."),
]


def show_sample(found: Sample, as_json: bool) -> None:
    """Print a sample, and below it what happened to it."""
    if as_json:
        show(found, True)
        return
    show(replace(found, events=(), lease_token=""), False)
    if found.events:
        show_list(found.events, ("time", "user", "action", "text"), False, "")


@sample.command("next")
def next_samples(
    project_id: ProjectOption,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 1,
    strategy: Annotated[str, typer.Option(help="Instead of the pool's strategies.")] = "",
    session: SessionOption = "",
    heartbeat: HeartbeatOption = False,
    json: JsonOption = False,
) -> None:
    """Lease the samples that are most worth annotating; your unfinished ones come first."""
    with connect() as client:
        claim = client.samples.claim(
            project_name(project_id), count, strategy=strategy, session=session, heartbeat=heartbeat
        )
    if claim.notice:
        notes.print(claim.notice, soft_wrap=True, markup=False)
    if any(each.purpose == "second" for each in claim.samples):
        notes.print(
            "second: somebody else has annotated it; do not look at their annotation.", soft_wrap=True
        )
    columns = ("name", "volume", "region", "strategy", "score", "rank", "model", "purpose", "expire_time")
    show_list(claim.samples, columns, json, "nothing to annotate")


@sample.command("create")
def create_sample(
    volume_id: VolumeArgument,
    region: RegionOption,
    project_id: ProjectOption = "",
    session: SessionOption = "",
    json: JsonOption = False,
) -> None:
    """Lease a region of your own choice."""
    wanted = parse_region(region)
    if wanted is None:
        raise InvalidArgument("BAD_REGION", "say which region: --region z0:z1,y0:y1,x0:x1")
    name = volume_name(volume_id, project_id)
    with connect() as client:
        project = "/".join(name.split("/")[:2])
        show_sample(client.samples.create(project, name, wanted, session=session), json)


@sample.command("list")
def list_samples(
    project_id: ProjectOption,
    state: Annotated[str, typer.Option(help="leased, annotated, skipped or open.")] = "",
    mine: Annotated[
        bool,
        typer.Option("--mine", help="Only those that you hold or last held, annotated, skipped or flagged."),
    ] = False,
    user_id: Annotated[str, typer.Option("--user", help="The same of somebody else.")] = "",
    flagged: Annotated[bool, typer.Option("--flagged", help="Only those with an open question.")] = False,
    json: JsonOption = False,
) -> None:
    """List the samples of a project, newest first."""
    with connect() as client:
        user = client.platform.self().name.rpartition("/")[2] if mine else user_id
        found = client.samples.list(project_name(project_id), state=state, user=user, flagged=flagged)
    columns = ("name", "state", "holder_name", "region", "strategy", "score", "skip_reason", "flag")
    show_list(found, columns, json, "no such samples")


@sample.command("renew")
def renew_lease(
    name: NameArgument,
    idle: Annotated[bool, typer.Option("--idle", help="You did nothing; only the connection lives.")] = False,
    json: JsonOption = False,
) -> None:
    """Extend your lease on a sample; also one that ran out and that nobody took."""
    with connect() as client:
        show_sample(client.samples.renew(name, idle=idle), json)


@sample.command("release")
def release_sample(name: NameArgument, json: JsonOption = False) -> None:
    """Give a sample back."""
    with connect() as client:
        show_sample(client.samples.release(name), json)


@sample.command("skip")
def skip_sample(
    name: NameArgument, reason: Annotated[str, typer.Option(help="Why.")], json: JsonOption = False
) -> None:
    """Set a sample aside."""
    with connect() as client:
        show_sample(client.samples.skip(name, reason), json)


@sample.command("strategies")
def list_strategies(json: JsonOption = False) -> None:
    """List the strategies that can rank the pool."""
    with connect() as client:
        found = client.samples.strategies()
    show_list(found, ("strategy", "measures", "cold_start", "description"), json, "none")


@annotation.command("commit")
def commit_annotation(
    labels: LabelsArgument,
    sample_name: Annotated[str, typer.Option("--sample", help="The leased sample that this answers.")] = "",
    volume_id: Annotated[str, typer.Option("--volume", help="Or a volume, and a region of it.")] = "",
    region: RegionOption = "",
    project_id: ProjectOption = "",
    kind: KindOption = "dense",
    class_value: ClassOption = None,
    comment: CommentOption = "",
    base: Annotated[
        int | None,
        typer.Option(help="Number of the last record that you saw; refused when a newer one overlaps."),
    ] = None,
    draft_name: Annotated[str, typer.Option("--draft", help="Name of the draft that this finishes.")] = "",
    json: JsonOption = False,
) -> None:
    """Store an annotation."""
    array = read_labels(labels, kind)
    with connect() as client:
        held = client.samples.get(sample_name) if sample_name else None
        made = client.annotations.commit(
            array,
            sample=held,
            volume=volume_name(volume_id, project_id) if volume_id else "",
            region=parse_region(region),
            kind=kind,
            class_scope=class_value or [],
            comment=comment,
            base_sequence=base,
            draft=draft_name,
        )
    show(made, json)


@annotation.command("list")
def list_annotations(project_id: ProjectOption, json: JsonOption = False) -> None:
    """List the annotations of a project."""
    with connect() as client:
        found = client.annotations.list(project_name(project_id))
    show_list(found, ("name", "state", "author", "region", "kind", "strategy"), json, "no annotations yet")


@annotation.command("history")
def list_history(
    volume_id: VolumeArgument,
    region: RegionOption = "",
    project_id: ProjectOption = "",
    json: JsonOption = False,
) -> None:
    """List who did what to the annotations of a volume, or of a region of it, and when."""
    with connect() as client:
        found = client.annotations.history(volume_name(volume_id, project_id), parse_region(region))
    if json:
        show_list(found, (), json, "")
        return
    lines = [_Line.of(record) for record in found]
    columns = ("sequence", "time", "action", "author", "annotation", "sample", "strategy", "model", "comment")
    show_list(lines, columns, json, "no annotations yet")


@dataclass(frozen=True, slots=True)
class _Line:
    """A record as a row of a table."""

    sequence: int
    time: datetime | None
    action: str
    author: str
    annotation: str
    sample: str
    strategy: str
    model: str
    comment: str

    @classmethod
    def of(cls, record: AnnotationRecord) -> _Line:
        source = record.committed
        return cls(
            record.sequence,
            record.create_time,
            record.action,
            record.author,
            record.annotation.rpartition("/")[2],
            source.sample.rpartition("/")[2] if source else "",
            source.strategy if source else "",
            source.model.rpartition("/")[2] if source else "",
            record.comment,
        )


@annotation.command("revert")
def revert_annotation(name: NameArgument, json: JsonOption = False) -> None:
    """Take an annotation back."""
    with connect() as client:
        show(client.annotations.revert(name), json)


@annotation.command("review")
def review_annotation(
    name: NameArgument,
    accept: Annotated[bool, typer.Option("--accept/--reject", help="The verdict.")],
    comment: Annotated[str, typer.Option(help="Why; needed to reject.")] = "",
    json: JsonOption = False,
) -> None:
    """Accept or reject an annotation."""
    with connect() as client:
        show(client.annotations.review(name, accepted=accept, comment=comment), json)


@annotation.command("rebuild")
def rebuild_layer(volume_id: VolumeArgument, project_id: ProjectOption = "") -> None:
    """Make the annotations layer of a volume anew from the records."""
    with connect() as client:
        notes.print(client.annotations.rebuild(volume_name(volume_id, project_id)))
