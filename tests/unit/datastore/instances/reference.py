"""What edits of objects mean, said plainly: each is applied to a whole array in memory, one after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from biosegment.volume import Region


@dataclass
class Plain:
    """An edit as the reference knows it: `parts` are new ids by value of `labels`."""

    kind: str
    ids: list[int]
    target: int = 0
    parts: dict[int, int] = field(default_factory=dict)
    class_value: int = 0
    region: Region | None = None
    labels: Any = None


def applied(voxels: Any, edits: list[Plain]) -> Any:
    """Ids after all edits."""
    return _run(voxels, edits, 0)[0]


def said(voxels: Any, edits: list[Plain], class_value: int) -> Any:
    """The class that the edits give each voxel, 1 for 'none of the class', 0 for nothing."""
    return _run(voxels, edits, class_value)[1]


def _run(voxels: Any, edits: list[Plain], class_value: int) -> tuple[Any, Any]:
    ids = voxels.copy()
    classes = np.zeros(voxels.shape, np.uint8)
    for edit in edits:
        match edit.kind:
            case "merge":
                for each in edit.ids:
                    ids[ids == each] = edit.target
            case "delete" | "reclassify":
                for each in edit.ids:
                    classes[ids == each] = edit.class_value or 1
                    ids[ids == each] = 0
            case "split":
                before = ids.copy()
                for value, new in edit.parts.items():
                    whole = np.zeros(ids.shape, np.uint8)
                    whole[edit.region.slices] = edit.labels
                    ids[(before == edit.ids[0]) & (whole == value)] = new
            case "reassign":
                whole = np.zeros(ids.shape, bool)
                whole[edit.region.slices] = edit.labels != 0
                ids[whole] = edit.target
                classes[whole] = class_value
    return ids, classes
