"""Edits of objects: records, and the step by which each changes a layer of instances."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from biosegment.volume import Index, Region

MAX_IDS = 10_000
"""Objects of one edit."""


class EditKind(enum.StrEnum):
    MERGE = "merge"
    SPLIT = "split"
    DELETE = "delete"
    REASSIGN = "reassign"
    RECLASSIFY = "reclassify"
    REVERT = "revert"


@dataclass(frozen=True, slots=True)
class Step:
    """What an edit does to the ids of a layer. A step says nothing about what came before: the order is by `sequence`.

    Attributes:
        sequence: Place in the layer's order of edits.
        ids: Merge: the objects, with the target. Split: the one object. Delete, reclassify: the objects. Reassign: the
            objects that lost voxels, 0 for background.
        target: Id after a merge or reassignment.
        new_ids: Split: ids of the parts 1, 2 ... of the block. Reassign: the target, when it is new.
        class_value: After a reclassification.
        region: Of the block.
        key: Of the block (uint8, region's shape) in the object storage; '' when there is none.
        sha256: Of the decoded block.
    """

    sequence: int
    kind: EditKind
    ids: tuple[int, ...]
    target: int = 0
    new_ids: tuple[int, ...] = ()
    class_value: int = 0
    region: Region | None = None
    key: str = ""
    sha256: str = ""

    @property
    def touched(self) -> frozenset[int]:
        """Every object that it speaks of; background is none."""
        return frozenset((*self.ids, *self.new_ids, self.target)) - {0}

    @property
    def killed(self) -> tuple[int, ...]:
        """Ids that no voxel has after it."""
        match self.kind:
            case EditKind.MERGE:
                return tuple(each for each in self.ids if each != self.target)
            case EditKind.DELETE | EditKind.RECLASSIFY:
                return self.ids
        return ()

    @classmethod
    def read(cls, entry: Sequence[Any]) -> Step:
        """The opposite of `written`."""
        sequence, kind, ids, target, new_ids, class_value, box, key, sha256 = entry
        region = None if box is None else Region(Index(*box[0]), Index(*box[1]))
        return cls(
            sequence, EditKind(kind), tuple(ids), target, tuple(new_ids), class_value, region, key, sha256
        )

    def written(self) -> list[Any]:
        """As JSON."""
        box = None if self.region is None else [list(self.region.start), list(self.region.stop)]
        ids, new_ids = list(self.ids), list(self.new_ids)
        kind = self.kind.value
        return [self.sequence, kind, ids, self.target, new_ids, self.class_value, box, self.key, self.sha256]


@dataclass(frozen=True, slots=True)
class Edit:
    """One immutable edit, and whether it still holds.

    Attributes:
        step: What it does; a revert repeats what it takes back, without its block.
        reverts: Id of the edit that it takes back; '' when it takes back none.
        revert_time_us: When it was taken back; 0 while it holds.
    """

    project_id: str
    volume_id: str
    layer_id: str
    id: str
    step: Step
    author: str
    create_time_us: int
    comment: str
    reverts: str = ""
    revert_time_us: int = 0

    @property
    def name(self) -> str:
        return f"{self.layer}/edits/{self.id}"

    @property
    def layer(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.volume_id}/layers/{self.layer_id}"


def holding(edits: Sequence[Edit], as_of_us: int | None = None) -> list[Step]:
    """The steps of the edits that hold, or held at a moment (microseconds since 1970), in their order."""
    steps = []
    for each in edits:
        if each.step.kind is EditKind.REVERT or (as_of_us is not None and each.create_time_us > as_of_us):
            continue
        if not each.revert_time_us or (as_of_us is not None and each.revert_time_us > as_of_us):
            steps.append(each.step)
    return steps
