"""Rows of annotations and records, and the conditions and joins of queries over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from biosegment.volume import Index, Region
from biosegment_datastore.annotations.annotation import (
    Action,
    Annotation,
    AnnotationKind,
    AnnotationState,
    Record,
)
from biosegment_datastore.annotations.cell import cell_of, cell_ranges
from biosegment_datastore.sql.tables import ANNOTATIONS, RECORDS

_AXES = "zyx"
_PLAIN = (
    "project_id volume_id id sequence author create_time_us sample strategy model work_time_s labels_sha256 comment "
    "key review_comment"
).split()

# Places, as a row is read sooner by place than by name.
_WIDTH = len(ANNOTATIONS.c)
_PLACES = {column.name: place for place, column in enumerate(ANNOTATIONS.c)}
_plain_of = itemgetter(*(_PLACES[name] for name in _PLAIN))
_corners_of = itemgetter(*(_PLACES[f"{edge}_{axis}"] for edge in ("start", "stop") for axis in _AXES))
_rest_of = itemgetter(*(_PLACES[name] for name in ("kind", "state", "class_scope", "voxel_counts")))

RECORD_COLUMNS = [
    RECORDS.c.sequence.label("record_sequence"),
    *(
        RECORDS.c[name].label(f"record_{name}")
        for name in ("action", "accepted", "comment", "author", "create_time_us")
    ),
]

_CELLS = {
    "sqlite": "SELECT :project AS project_id, :volume AS volume_id, json_extract(value, '$[0]') AS low, "
    "json_extract(value, '$[1]') AS high FROM json_each(:ranges)",
    "postgresql": "SELECT CAST(:project AS text) AS project_id, CAST(:volume AS text) AS volume_id, "
    "CAST(value->>0 AS bigint) AS low, CAST(value->>1 AS bigint) AS high "
    "FROM json_array_elements(CAST(:ranges AS json))",
}

# Looked up, as calling an enumeration takes a fifth of what reading a row takes.
_KINDS = {each.value: each for each in AnnotationKind}
_STATES = {each.value: each for each in AnnotationState}
_ACTIONS = {each.value: each for each in Action}

OF_RECORD = sa.and_(
    ANNOTATIONS.c.project_id == RECORDS.c.project_id, ANNOTATIONS.c.id == RECORDS.c.annotation_id
)


def row_of(annotation: Annotation) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(annotation, name) for name in _PLAIN}
    row.update(region_columns(annotation.region))
    row["kind"], row["state"] = annotation.kind.value, annotation.state.value
    row["class_scope"] = list(annotation.class_scope)
    row["voxel_counts"] = {str(value): count for value, count in annotation.voxel_counts.items()}
    row["cell"] = cell_of(annotation.region)
    return row


def annotation_of(row: Sequence[Any]) -> Annotation:
    """From a row whose last columns are those of `ANNOTATIONS`."""
    columns = row[-_WIDTH:]
    z0, y0, x0, z1, y1, x1 = _corners_of(columns)
    kind, state, class_scope, voxel_counts = _rest_of(columns)
    return Annotation(
        **dict(zip(_PLAIN, _plain_of(columns), strict=True)),
        region=Region(Index(z0, y0, x0), Index(z1, y1, x1)),
        kind=_KINDS[kind],
        state=_STATES[state],
        class_scope=tuple(class_scope),
        voxel_counts={int(value): count for value, count in voxel_counts.items()},
    )


def record_of(row: Sequence[Any]) -> Record:
    """From a row of `RECORD_COLUMNS` and those of `ANNOTATIONS`."""
    sequence, action, accepted, comment, author, create_time_us = row[:-_WIDTH]
    return Record(sequence, _ACTIONS[action], annotation_of(row), accepted, comment, author, create_time_us)


def region_columns(region: Region) -> dict[str, int]:
    """Columns `start_z` ... `stop_x`."""
    return {
        f"{edge}_{axis}": value
        for edge in ("start", "stop")
        for axis, value in zip(_AXES, getattr(region, edge), strict=True)
    }


def region_of(row: Any) -> Region:
    return Region(Index(row.start_z, row.start_y, row.start_x), Index(row.stop_z, row.stop_y, row.stop_x))


def record_row(
    annotation: Annotation, sequence: int, action: Action, author: str, create_time_us: int
) -> dict[str, Any]:
    """A record about an annotation; without a verdict."""
    return {
        "project_id": annotation.project_id,
        "sequence": sequence,
        "volume_id": annotation.volume_id,
        "annotation_id": annotation.id,
        "action": action.value,
        "accepted": False,
        "comment": "",
        "author": author,
        "create_time_us": create_time_us,
    }


def overlapping(
    query: sa.Select[Any], project_id: str, volume_id: str, region: Region, dialect: str
) -> sa.Select[Any]:
    """Only annotations of a volume that share a voxel with a region.

    A region has few annotations. They are found by their cells and then sorted, if need be. A planner does not know
    that: so `query` must not say which project and volume, which come with the cells here, and must not filter or sort
    by a number that has an index (`unindexed`); otherwise all annotations are gone through in order.
    """
    ranges = cell_ranges(region)
    if ranges is None:
        query = query.where(ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.volume_id == volume_id)
    else:
        # As one parameter, so that a statement is the same for all regions and compiled once.
        pairs = sa.bindparam("ranges", json.dumps(ranges), sa.Text)
        project = sa.bindparam("project", project_id, sa.Text)
        volume = sa.bindparam("volume", volume_id, sa.Text)
        columns = [sa.column(name, sa.Text) for name in ("project_id", "volume_id")]
        bounds = [sa.column(name, sa.BigInteger) for name in ("low", "high")]
        text = sa.text(_CELLS[dialect]).bindparams(pairs, project, volume).columns(*columns, *bounds)
        cells = text.cte("cells").prefix_with("MATERIALIZED")
        query = query.where(
            ANNOTATIONS.c.project_id == cells.c.project_id,
            ANNOTATIONS.c.volume_id == cells.c.volume_id,
            ANNOTATIONS.c.cell.between(cells.c.low, cells.c.high),
        )
    conditions: list[sa.ColumnElement[bool]] = []
    for axis, start, stop in zip(_AXES, region.start, region.stop, strict=True):
        conditions += [ANNOTATIONS.c[f"start_{axis}"] < stop, ANNOTATIONS.c[f"stop_{axis}"] > start]
    return query.where(*conditions)


def unindexed(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """The same number, which no planner looks up in an index."""
    return column + 0
