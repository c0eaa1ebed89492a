"""Between the messages of annotations and the domain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import region_from_proto, region_to_proto
from biosegment_datastore.annotations.annotation import (
    Action,
    Annotation,
    AnnotationKind,
    AnnotationState,
    NewAnnotation,
    Record,
)
from biosegment_datastore.annotations.comparison import Comparison
from biosegment_datastore.annotations.draft import Draft
from biosegment_datastore.convert import timestamp

_KINDS: Final = {
    AnnotationKind.DENSE: pb.Annotation.KIND_DENSE,
    AnnotationKind.SCRIBBLES: pb.Annotation.KIND_SCRIBBLES,
    AnnotationKind.INSTANCES: pb.Annotation.KIND_INSTANCES,
}
_STATES: Final = {
    AnnotationState.PENDING: pb.Annotation.STATE_PENDING,
    AnnotationState.ACCEPTED: pb.Annotation.STATE_ACCEPTED,
    AnnotationState.REJECTED: pb.Annotation.STATE_REJECTED,
    AnnotationState.REVERTED: pb.Annotation.STATE_REVERTED,
}


def new_annotation_from_proto(message: pb.Annotation) -> NewAnnotation:
    """Raises InvalidArgument BAD_KIND or BAD_REGION."""
    kinds = {number: kind for kind, number in _KINDS.items()}
    if message.kind not in kinds:
        raise InvalidArgument(
            "BAD_KIND", f"annotation kind {message.kind} is not set or not known; say KIND_DENSE or so"
        )
    return NewAnnotation(
        region=region_from_proto(message.region),
        kind=kinds[message.kind],
        class_scope=tuple(message.class_scope),
        sample=message.sample,
        work_time_s=message.work_time_s,
        comment=message.comment,
    )


def is_zlib(encoding: int) -> bool:
    """Whether labels are compressed; InvalidArgument BAD_LABELS_ENCODING for encodings that are not known."""
    if encoding not in (pb.LABELS_ENCODING_UNSPECIFIED, pb.LABELS_ENCODING_ZLIB):
        raise InvalidArgument(
            "BAD_LABELS_ENCODING", f"labels encoding {encoding} is not known; send raw or zlib"
        )
    return encoding == pb.LABELS_ENCODING_ZLIB


def states_from_proto(states: Iterable[int]) -> frozenset[AnnotationState]:
    """InvalidArgument BAD_STATE for STATE_UNSPECIFIED and unknown ones."""
    known: dict[int, AnnotationState] = {number: state for state, number in _STATES.items()}
    wanted = list(states)
    if wrong := [state for state in wanted if state not in known]:
        raise InvalidArgument("BAD_STATE", f"{wrong[0]} is not a state that an annotation can have")
    return frozenset(known[state] for state in wanted)


def comparison_to_proto(comparison: Comparison) -> pb.CompareAnnotationsResponse:
    return pb.CompareAnnotationsResponse(
        compared_voxels=comparison.compared_voxels,
        agreed_voxels=comparison.agreed_voxels,
        classes=[
            pb.ClassOverlap(
                class_value=value,
                intersection_voxels=overlap.intersection_voxels,
                union_voxels=overlap.union_voxels,
            )
            for value, overlap in comparison.classes.items()
        ],
    )


def annotation_to_proto(annotation: Annotation) -> pb.Annotation:
    return pb.Annotation(
        name=annotation.name,
        sequence=annotation.sequence,
        region=region_to_proto(annotation.region),
        kind=_KINDS[annotation.kind],
        class_scope=annotation.class_scope,
        author=annotation.author,
        create_time=timestamp(annotation.create_time_us),
        sample=annotation.sample,
        strategy=annotation.strategy,
        model=annotation.model,
        work_time_s=annotation.work_time_s,
        state=_STATES[annotation.state],
        labels_sha256=annotation.labels_sha256,
        review_comment=annotation.review_comment,
        voxel_counts=annotation.voxel_counts,
        comment=annotation.comment,
    )


def draft_to_proto(draft: Draft) -> pb.Draft:
    content = draft.content
    return pb.Draft(
        name=draft.name,
        annotation=pb.Annotation(
            region=region_to_proto(content.region),
            kind=_KINDS[content.kind],
            class_scope=content.class_scope,
            sample=content.sample,
            work_time_s=content.work_time_s,
            comment=content.comment,
        ),
        base_sequence=draft.base_sequence,
        author=draft.author,
        update_time=timestamp(draft.update_time_us),
        etag=draft.etag,
    )


def record_to_proto(record: Record) -> pb.AnnotationRecord:
    message = pb.AnnotationRecord(
        sequence=record.sequence, author=record.author, create_time=timestamp(record.create_time_us)
    )
    match record.action:
        case Action.COMMITTED:
            message.annotation.CopyFrom(annotation_to_proto(record.annotation))
            # The feed tells what happened then; later records tell what became of it.
            message.annotation.state = pb.Annotation.STATE_PENDING
            message.annotation.review_comment = ""
        case Action.REVERTED:
            message.reverted = record.annotation.name
        case Action.REVIEWED:
            review = pb.Review(
                annotation=record.annotation.name, accepted=record.accepted, comment=record.comment
            )
            message.review.CopyFrom(review)
    return message
