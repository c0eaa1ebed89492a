"""What the sampler keeps of annotations, and how the feed's records change it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from biosegment.volume import FIRST_CLASS, Region


class AnnotationState(enum.StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVERTED = "reverted"

    @property
    def holds(self) -> bool:
        return self in (AnnotationState.PENDING, AnnotationState.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A labelled region, without its labels.

    Attributes:
        name: projects/{p}/volumes/{v}/annotations/{a}.
        sequence: Number of the record that made it.
        volume_id: Within the project.
        region: Level-0 voxels.
        author: User id.
        sample_id: Sample that it answers, or ''.
        work_time_s: As measured by the client, 0 when unknown.
        voxel_counts: Voxels by class value.
        created_at: Unix time in s.
        state: Whether it holds.
        in_latest_model: The newest model was trained on it.
    """

    name: str
    sequence: int
    volume_id: str
    region: Region
    author: str
    sample_id: str
    work_time_s: float
    voxel_counts: Mapping[int, int] = field(hash=False)
    created_at: float
    state: AnnotationState = AnnotationState.PENDING
    in_latest_model: bool = False

    @property
    def shows_class(self) -> bool:
        """Whether any voxel is of a class."""
        return any(count > 0 for value, count in self.voxel_counts.items() if value >= FIRST_CLASS)

    def reverted(self) -> Annotation:
        return replace(self, state=AnnotationState.REVERTED)

    def reviewed(self, accepted: bool) -> Annotation:
        """The last review counts; what was taken back stays so."""
        if self.state is AnnotationState.REVERTED:
            return self
        return replace(self, state=AnnotationState.ACCEPTED if accepted else AnnotationState.REJECTED)


@dataclass(frozen=True, slots=True)
class Committed:
    """Record: an annotation was made."""

    sequence: int
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class Reverted:
    """Record: an annotation was taken back, by `author`."""

    sequence: int
    annotation: str
    author: str = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Record: `author` judged an annotation."""

    sequence: int
    annotation: str
    accepted: bool
    comment: str = ""
    author: str = ""
    time: float = 0.0


Record = Committed | Reverted | Reviewed
