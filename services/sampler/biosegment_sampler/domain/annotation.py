"""What the sampler keeps of annotations, and how the feed's records change it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from biosegment.volume import Region


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
    """Record: an annotation was taken back."""

    sequence: int
    annotation: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Record: somebody judged an annotation."""

    sequence: int
    annotation: str
    accepted: bool


Record = Committed | Reverted | Reviewed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a project is; fields as in the API's GetProgress, `rounds` left to the pool."""

    annotations: int = 0
    new_annotations: int = 0
    annotated_voxels: int = 0
    annotations_by_author: Mapping[str, int] = field(default_factory=dict)
    voxels_by_class: Mapping[int, int] = field(default_factory=dict)
    samples_by_state: Mapping[str, int] = field(default_factory=dict)
    work_time_s: float = 0.0
