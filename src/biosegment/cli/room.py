"""Samples between people: windows, questions, coming back, taking over, reviews, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from biosegment.cli.argument import NameArgument, ProjectOption, project_name
from biosegment.cli.output import JsonOption, notes, show, show_list
from biosegment.cli.sample import HeartbeatOption, SessionOption, sample, show_sample
from biosegment.client import connect
from biosegment.client.resources import Agreement, AuthorAgreement, ClassAgreement

review = typer.Typer(no_args_is_help=True, help="Annotations of others that wait for a second look.")

ReviewedArgument = Annotated[
    str, typer.Argument(help="Name of the annotation, as `next` shows it.", show_default=False)
]


@sample.command("show")
def show_one(name: NameArgument, json: JsonOption = False) -> None:
    """Show a sample and what happened to it."""
    with connect() as client:
        show_sample(client.samples.get(name), json)


@sample.command("heartbeat")
def send_heartbeat(
    project_id: ProjectOption,
    session: SessionOption,
    active: Annotated[bool, typer.Option("--active", help="You did something since the last one.")] = False,
    name: Annotated[
        list[str] | None, typer.Option("--sample", help="A sample that you believe to hold; repeatable.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Extend all leases of a window, and tell what it lost."""
    with connect() as client:
        held = client.samples.renew_session(
            project_name(project_id), session, active=active, samples=name or []
        )
    if json:
        show(held, True)
        return
    for each in held.lost:
        notes.print(f"lost: {each.notice}", soft_wrap=True, markup=False)
    show_list(
        held.samples, ("name", "region", "purpose", "expire_time"), False, "this window holds no sample"
    )
    if held.reviews:
        show_list(held.reviews, ("annotation", "author", "region", "expire_time"), False, "")


@sample.command("leave")
def leave_session(project_id: ProjectOption, session: SessionOption = "", json: JsonOption = False) -> None:
    """Give back all that you hold in a window."""
    with connect() as client:
        given = client.samples.leave(project_name(project_id), session)
    if json:
        show({"samples": given}, True)
    else:
        notes.print(f"gave {len(given)} sample{'' if len(given) == 1 else 's'} back")


@sample.command("flag")
def flag_sample(
    name: NameArgument, text: Annotated[str, typer.Option(help="Your question.")], json: JsonOption = False
) -> None:
    """Ask about a sample; nobody is given it until somebody answers."""
    with connect() as client:
        show_sample(client.samples.flag(name, text), json)


@sample.command("unflag")
def unflag_sample(
    name: NameArgument, answer: Annotated[str, typer.Option(help="Your answer.")], json: JsonOption = False
) -> None:
    """Answer the question about a sample."""
    with connect() as client:
        show_sample(client.samples.unflag(name, answer), json)


@sample.command("resume")
def resume_sample(
    name: NameArgument,
    session: SessionOption = "",
    heartbeat: HeartbeatOption = False,
    json: JsonOption = False,
) -> None:
    """Come back to a sample that you annotated, that was skipped, or that is open."""
    with connect() as client:
        show_sample(client.samples.resume(name, session=session, heartbeat=heartbeat), json)


@sample.command("take-over")
def take_over(
    name: NameArgument,
    session: SessionOption = "",
    heartbeat: HeartbeatOption = False,
    json: JsonOption = False,
) -> None:
    """Take a sample from its holder; for managers of the project."""
    with connect() as client:
        show_sample(client.samples.take_over(name, session=session, heartbeat=heartbeat), json)


@sample.command("agreement")
def show_agreement(
    project_id: ProjectOption,
    name: Annotated[str, typer.Option("--sample", help="Only of this sample.")] = "",
    json: JsonOption = False,
) -> None:
    """Show how far annotators agree where two of them annotated the same sample."""
    project = project_name(project_id)
    with connect() as client:
        found = client.samples.agreements(project, sample=name)
        if json:
            show(found, True)
            return
        names = {each.value: each.display_name for each in client.projects.get(project).classes}
    pairs = [_Row.of(each, names, samples=each.samples) for each in found.authors]
    columns = ("first", "second", "samples", "voxels", "agreed", "iou_by_class")
    show_list(pairs, columns, False, "no sample was annotated by two people yet")
    if found.samples:
        rows = [_Row.of(each, names, sample=each.sample) for each in found.samples]
        show_list(rows, ("sample", "first", "second", "voxels", "agreed", "iou_by_class"), False, "")
    if found.pending:
        notes.print(f"{found.pending} more are not compared yet; ask again")


@dataclass(frozen=True, slots=True)
class _Row:
    """An agreement as a row of a table."""

    sample: str
    samples: int
    first: str
    second: str
    voxels: int
    agreed: str
    iou_by_class: str

    @classmethod
    def of(
        cls,
        agreement: Agreement | AuthorAgreement,
        names: Mapping[int, str],
        sample: str = "",
        samples: int = 1,
    ) -> _Row:
        voxels = agreement.compared_voxels
        return cls(
            sample,
            samples,
            agreement.first_author,
            agreement.second_author,
            voxels,
            f"{agreement.agreed_voxels / voxels:.1%}" if voxels else "",
            _ious(agreement.classes, names),
        )


def _ious(classes: Iterable[ClassAgreement], names: Mapping[int, str]) -> str:
    return ", ".join(
        f"{names.get(each.class_value, each.class_value)} {each.iou:.3f}"
        + ("" if each.union_voxels else " (neither has any)")
        for each in classes
    )


@review.command("next")
def next_reviews(
    project_id: ProjectOption,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 1,
    session: SessionOption = "",
    heartbeat: HeartbeatOption = False,
    json: JsonOption = False,
) -> None:
    """Get annotations of others to review, oldest first; nobody else gets them meanwhile."""
    with connect() as client:
        claim = client.samples.claim_reviews(
            project_name(project_id), count, session=session, heartbeat=heartbeat
        )
    if claim.notice:
        notes.print(claim.notice, soft_wrap=True, markup=False)
    columns = ("annotation", "author", "create_time", "region", "sample", "expire_time")
    show_list(claim.reviews, columns, json, "nothing to review")
    if claim.waiting and not json:
        notes.print(f"{claim.waiting} more wait")


@review.command("accept")
def accept_annotation(
    name: ReviewedArgument,
    comment: Annotated[str, typer.Option(help="For its author.")] = "",
    json: JsonOption = False,
) -> None:
    """Accept an annotation."""
    with connect() as client:
        show(client.annotations.review(name, accepted=True, comment=comment), json)


@review.command("reject")
def reject_annotation(
    name: ReviewedArgument,
    comment: Annotated[str, typer.Option(help="Why, for its author.")],
    json: JsonOption = False,
) -> None:
    """Reject an annotation: its region returns to the pool, and its author can resume the sample."""
    with connect() as client:
        show(client.annotations.review(name, accepted=False, comment=comment), json)


@review.command("release")
def release_review(name: ReviewedArgument) -> None:
    """Give a review back to the queue."""
    with connect() as client:
        client.samples.release_review(name)
    notes.print("gave it back")
