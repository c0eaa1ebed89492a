"""How far a project is, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from biosegment.cli.argument import ProjectArgument, project_name
from biosegment.cli.output import JsonOption, console, duration, notes, print_table, show
from biosegment.client import connect
from biosegment.client.resources import AgreementCurve, ModelProgress, ProjectProgress, ReviewCounts
from biosegment.volume import BACKGROUND

_BAR = 20
"""Characters of an IoU of 1."""


def show_progress(
    project_id: ProjectArgument,
    rounds: Annotated[
        int, typer.Option(help="Rounds that must agree before a curve is called flat; 3 by default.")
    ] = 0,
    tolerance: Annotated[
        float, typer.Option(help="Differences of IoU that do not matter; 0.05 by default.")
    ] = 0.0,
    json: JsonOption = False,
) -> None:
    """Show what was annotated, by whom and when, how good the models are, and whether more still changes them."""
    name = project_name(project_id)
    with connect() as client:
        found = client.samples.progress(name, flat_rounds=rounds, flat_tolerance=tolerance)
        if json:
            show(found, True)
            return
        names = {item.value: item.display_name for item in client.projects.get(name).classes}
    _print(found, {BACKGROUND: "none of the classes", **names})


def print_summary(found: ProjectProgress) -> None:
    """The figures of a whole project, each in words."""
    extent = _extent(found.annotated_area_um2, found.annotated_volume_um3)
    samples = ", ".join(f"{count} {state}" for state, count in sorted(found.samples_by_state.items()))
    work = _work(found.measured_annotations, found.annotations, found.work_time_s, found.median_work_time_s)
    models = f"{len(found.models)} model{'' if len(found.models) == 1 else 's'}"
    lines = {
        "annotations": f"{found.annotations}, of which {found.new_annotations} are new to the newest model",
        "labelled": f"{found.annotated_voxels:,} voxels{extent}",
        "work": work,
        "reviews": _reviews(found.reviews),
        "samples": samples or "none",
        "trainings": f"{found.rounds} by the sampler, {models}",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines.items():
        table.add_row(name, Text(text))
    print_table(table)


def _print(found: ProjectProgress, names: Mapping[int, str]) -> None:
    if found.notice:
        notes.print(found.notice, highlight=False, markup=False)
    print_summary(found)
    if found.authors:
        _title("Annotators")
        _authors(found, names)
    if found.classes:
        _title("Classes")
        _classes(found, names)
    if found.days:
        _title("Days (UTC)")
        _days(found)
    if found.models:
        _title("Models: each beside its parent on the same held-out annotations, which grow from row to row")
        _models(found.models)
    if found.hint.curves:
        _title("Agreement with new annotations, before they were trained on")
        _curves(found.hint.curves)
    _title(f"More annotations? {found.hint.verdict.replace('_', ' ')}")
    console.print(found.hint.text, highlight=False, markup=False)


def _authors(found: ProjectProgress, names: Mapping[int, str]) -> None:
    columns = (
        "annotator",
        "annotations",
        "samples",
        "labelled voxels",
        "measured",
        "work",
        "median s",
        "reviews",
    )
    rows = []
    for each in found.authors:
        parts = [f"{names.get(value, value)} {count:,}" for value, count in each.voxels_by_class.items()]
        measured = each.measured_annotations
        row = (
            each.author,
            str(each.annotations),
            str(each.samples),
            ", ".join(parts),
            f"{measured} of {each.annotations}",
            duration(each.work_time_s) if measured else "",
            f"{each.median_work_time_s:.3g}" if measured else "",
            _reviews(each.reviews),
        )
        rows.append(row)
    _show(columns, rows)


def _classes(found: ProjectProgress, names: Mapping[int, str]) -> None:
    columns = ("class", "value", "annotations", "voxels", "share", "area um2", "volume um3")
    rows = []
    for each in found.classes:
        share = each.voxels / found.annotated_voxels if found.annotated_voxels else 0.0
        row = (
            names.get(each.class_value, "unknown"),
            str(each.class_value),
            str(each.annotations),
            f"{each.voxels:,}",
            f"{share:.1%}",
            f"{each.area_um2:.4g}" if each.area_um2 else "",
            f"{each.volume_um3:.4g}" if each.volume_um3 else "",
        )
        rows.append(row)
    _show(columns, rows)


def _days(found: ProjectProgress) -> None:
    columns = ("day", "annotations", "annotators", "voxels", "measured", "work")
    rows = []
    for each in found.days:
        row = (
            each.day,
            str(each.annotations),
            str(each.authors),
            f"{each.voxels:,}",
            f"{each.measured_annotations} of {each.annotations}",
            duration(each.work_time_s) if each.measured_annotations else "",
        )
        rows.append(row)
    _show(columns, rows)


def _models(models: Sequence[ModelProgress]) -> None:
    versions = {each.model: f"version {each.version}" for each in models}
    columns = (
        "version",
        "name",
        "parent",
        "trained on",
        "held out",
        "IoU",
        "parent's",
        "by class",
        "remarks",
    )
    rows = []
    for each in models:
        classes = [
            f"{one.class_name} {_iou(one.iou)}" + (f" (parent {_iou(one.parent_iou)})" if each.parent else "")
            for one in each.classes
        ]
        remarks = ["the parent's weights were kept"] if each.parent_kept else []
        remarks += [text for text in each.remarks if text.startswith("no validation")]
        remarks += ["deleted"] if each.deleted else []
        row = (
            str(each.version),
            each.display_name,
            versions.get(each.parent, each.parent),
            str(each.trained_annotations),
            str(each.held_out_annotations),
            _iou(each.iou),
            _iou(each.parent_iou),
            ", ".join(classes),
            "; ".join(remarks),
        )
        rows.append(row)
    _show(columns, rows)


def _curves(curves: Sequence[AgreementCurve]) -> None:
    columns = ("class", "before version", "IoU", "+-", "annotations", "")
    rows = [
        (
            "" if number else curve.class_name,
            str(point.version),
            f"{point.iou:.3f}",
            "" if point.error is None else f"{point.error:.3f}",
            str(point.annotations),
            "#" * round(_BAR * point.iou),
        )
        for curve in curves
        for number, point in enumerate(curve.points)
    ]
    _show(columns, rows)


def _work(measured: int, annotations: int, total_s: float, median_s: float) -> str:
    if not measured:
        return f"not measured in any of {annotations} annotations"
    return (
        f"{duration(total_s)} in the {measured} of {annotations} annotations that were measured, "
        f"median {median_s:.3g} s"
    )


def _reviews(reviews: ReviewCounts) -> str:
    counts = {
        "pending": reviews.pending,
        "accepted": reviews.accepted,
        "rejected": reviews.rejected,
        "taken back": reviews.reverted,
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"


def _extent(area_um2: float, volume_um3: float) -> str:
    parts = [f"{area_um2:.4g} um2 in single slices"] if area_um2 else []
    parts += [f"{volume_um3:.4g} um3 in blocks"] if volume_um3 else []
    return f": {' and '.join(parts)}" if parts else ""


def _iou(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Names may have brackets, which are no markup here.
        table.add_row(*map(Text, row))
    print_table(table)


def _title(text: str) -> None:
    console.print(f"\n[bold]{text}", highlight=False)
