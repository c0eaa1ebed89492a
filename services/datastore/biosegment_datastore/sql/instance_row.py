"""Edits of objects as rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from biosegment.volume import Index, Region
from biosegment_datastore.instances.edit import Edit, EditKind, Step
from biosegment_datastore.layer import Layer

AT_ONCE = 500
"""Ids in one statement."""
_PLAIN = "project_id volume_id layer_id id author create_time_us comment reverts revert_time_us".split()


def key_of(owner: Layer | Edit) -> dict[str, str]:
    """The columns that name a layer, or the layer of an edit."""
    layer_id = owner.id if isinstance(owner, Layer) else owner.layer_id
    return {"project_id": owner.project_id, "volume_id": owner.volume_id, "layer_id": layer_id}


def rows_of(table: sa.Table, owner: Layer | Edit) -> list[sa.ColumnElement[bool]]:
    """Where a table speaks of a layer, or of the layer of an edit."""
    return [table.c[name] == value for name, value in key_of(owner).items()]


def values_of(edit: Edit) -> dict[str, Any]:
    """The row of an edit."""
    step = edit.step
    row = {name: getattr(edit, name) for name in _PLAIN}
    row |= {"sequence": step.sequence, "kind": step.kind.value, "target": step.target, "key": step.key}
    row |= {"ids": list(step.ids), "new_ids": list(step.new_ids), "class_value": step.class_value}
    row["labels_sha256"] = step.sha256
    row["region"] = None if step.region is None else [list(step.region.start), list(step.region.stop)]
    return row


def region_of(box: Any) -> Region:
    """Of the column of regions."""
    return Region(Index(*box[0]), Index(*box[1]))


def edit_of(row: Any) -> Edit:
    """Of a row."""
    step = Step(
        sequence=row.sequence,
        kind=EditKind(row.kind),
        ids=tuple(row.ids),
        target=row.target,
        new_ids=tuple(row.new_ids),
        class_value=row.class_value,
        region=None if row.region is None else region_of(row.region),
        key=row.key,
        sha256=row.labels_sha256,
    )
    return Edit(**{name: getattr(row, name) for name in _PLAIN}, step=step)
