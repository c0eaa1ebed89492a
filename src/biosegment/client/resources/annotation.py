"""Annotations, what was done to them, and unfinished ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.client.resources.wire import time_of, word_of
from biosegment.rpc.geometry import region_from_proto
from biosegment.volume import Region


@dataclass(frozen=True, slots=True)
class Annotation:
    """An immutable annotation and its present state (pending, accepted, rejected or reverted)."""

    name: str
    sequence: int
    region: Region
    kind: str
    class_scope: tuple[int, ...]
    author: str
    create_time: datetime | None
    sample: str
    strategy: str
    model: str
    work_time_s: float
    state: str
    labels_sha256: str
    voxel_counts: dict[int, int]
    comment: str
    review_comment: str

    @classmethod
    def from_proto(cls, message: annotation_pb2.Annotation) -> Annotation:
        return cls(
            message.name,
            message.sequence,
            region_from_proto(message.region),
            word_of(annotation_pb2.Annotation.Kind, message.kind),
            tuple(message.class_scope),
            message.author,
            time_of(message.create_time),
            message.sample,
            message.strategy,
            message.model,
            message.work_time_s,
            word_of(annotation_pb2.Annotation.State, message.state),
            message.labels_sha256,
            dict(message.voxel_counts),
            message.comment,
            message.review_comment,
        )


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """What was done to an annotation: `committed`, `reverted`, `accepted` or `rejected`, by whom and when.

    Attributes:
        sequence: Place in the project's order of records.
        action: What was done.
        annotation: Name of the annotation.
        author: Who did it.
        comment: Of the annotation when it was committed, of the reviewer afterwards.
        committed: The annotation, with the sample, strategy and model that it came from; None for later records.
    """

    sequence: int
    action: str
    annotation: str
    author: str
    create_time: datetime | None
    comment: str
    committed: Annotation | None

    @classmethod
    def from_proto(cls, message: annotation_pb2.AnnotationRecord) -> AnnotationRecord:
        annotation, committed = message.reverted, None
        action, comment = "reverted", ""
        if message.HasField("annotation"):
            committed = Annotation.from_proto(message.annotation)
            action, annotation, comment = "committed", committed.name, committed.comment
        elif message.HasField("review"):
            annotation, comment = message.review.annotation, message.review.comment
            action = "accepted" if message.review.accepted else "rejected"
        return cls(
            message.sequence,
            action,
            annotation,
            message.author,
            time_of(message.create_time),
            comment,
            committed,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """Unfinished work of the caller; its labels are read with `annotations.draft`.

    Attributes:
        base_sequence: Number of the last record that was seen when it was saved.
        etag: Changes with each save.
    """

    name: str
    region: Region
    kind: str
    class_scope: tuple[int, ...]
    sample: str
    work_time_s: float
    comment: str
    base_sequence: int
    update_time: datetime | None
    etag: str

    @property
    def volume(self) -> str:
        return self.name.rpartition("/drafts/")[0]

    @classmethod
    def from_proto(cls, message: annotation_pb2.Draft) -> Draft:
        content = message.annotation
        return cls(
            message.name,
            region_from_proto(content.region),
            word_of(annotation_pb2.Annotation.Kind, content.kind),
            tuple(content.class_scope),
            content.sample,
            content.work_time_s,
            content.comment,
            message.base_sequence,
            time_of(message.update_time),
            message.etag,
        )
