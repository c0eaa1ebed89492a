"""How far a project is. Annotations are those that hold, unless it says otherwise; voxels are labelled, of level 0."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.client.resources.wire import time_of, word_of


@dataclass(frozen=True, slots=True)
class ReviewCounts:
    """Annotations by what became of them; only pending and accepted ones hold."""

    pending: int
    accepted: int
    rejected: int
    reverted: int

    @classmethod
    def from_proto(cls, message: sampler_pb2.ReviewCounts) -> ReviewCounts:
        return cls(message.pending, message.accepted, message.rejected, message.reverted)


@dataclass(frozen=True, slots=True)
class AuthorProgress:
    """What one person annotated.

    Attributes:
        author: User id.
        annotations: That hold.
        samples: Samples that they answer.
        voxels: Labelled.
        voxels_by_class: By class value.
        area_um2: Of annotations that are one slice thick.
        volume_um3: Of thicker ones.
        measured_annotations: Those whose time was measured.
        work_time_s: Sum over those.
        median_work_time_s: Median of those, 0 for none.
        reviews: Of all annotations.
        last_annotation_time: Of the newest one.
    """

    author: str
    annotations: int
    samples: int
    voxels: int
    voxels_by_class: dict[int, int]
    area_um2: float
    volume_um3: float
    measured_annotations: int
    work_time_s: float
    median_work_time_s: float
    reviews: ReviewCounts
    last_annotation_time: datetime | None

    @classmethod
    def from_proto(cls, message: sampler_pb2.AuthorProgress) -> AuthorProgress:
        return cls(
            message.author,
            message.annotations,
            message.samples,
            message.voxels,
            dict(sorted(message.voxels_by_class.items())),
            message.area_um2,
            message.volume_um3,
            message.measured_annotations,
            message.work_time_s,
            message.median_work_time_s,
            ReviewCounts.from_proto(message.reviews),
            time_of(message.last_annotation_time),
        )


@dataclass(frozen=True, slots=True)
class ClassProgress:
    """What was annotated of one class, as `AuthorProgress`; value 1 is none of the classes."""

    class_value: int
    annotations: int
    voxels: int
    area_um2: float
    volume_um3: float

    @classmethod
    def from_proto(cls, message: sampler_pb2.ClassProgress) -> ClassProgress:
        return cls(
            message.class_value, message.annotations, message.voxels, message.area_um2, message.volume_um3
        )


@dataclass(frozen=True, slots=True)
class DayProgress:
    """What was annotated on one day (UTC, `YYYY-MM-DD`), as `AuthorProgress`, and by how many people."""

    day: str
    annotations: int
    voxels: int
    authors: int
    measured_annotations: int
    work_time_s: float

    @classmethod
    def from_proto(cls, message: sampler_pb2.DayProgress) -> DayProgress:
        return cls(
            message.day,
            message.annotations,
            message.voxels,
            message.authors,
            message.measured_annotations,
            message.work_time_s,
        )


@dataclass(frozen=True, slots=True)
class ClassIou:
    """IoU of one class on what was held out, and the parent's; None where there is none."""

    class_name: str
    iou: float | None
    parent_iou: float | None


@dataclass(frozen=True, slots=True)
class NewAgreement:
    """How a model agrees, in one class, with annotations that it had not seen.

    Attributes:
        class_name: Of the class.
        iou: Of the voxels of all of them together.
        error: Its standard error over annotations; None for fewer than two.
        annotations: In which the annotator or the model has the class.
    """

    class_name: str
    iou: float
    error: float | None
    annotations: int


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """How good a model was when it was made. What is held out grows: compare it with its parent, not with other rows.

    Attributes:
        model: Name.
        version: In the project.
        display_name: For people.
        parent: Name, '' when it started from random weights.
        create_time: When it was made.
        deleted: Its weights are gone.
        trained_annotations: That its training used.
        held_out_annotations: That were held out.
        iou: Mean over the classes that those show; None without any.
        parent_iou: The same of the parent, on the same annotations.
        parent_kept: Nothing that was trained was as good: it has the parent's weights.
        classes: By class.
        new_agreements: How the parent agreed, before this training, with annotations that were new to it.
        new_annotations: How many those were.
        new_voxels: Voxels at the working resolution that were compared.
        remarks: Of its training.
    """

    model: str
    version: int
    display_name: str
    parent: str
    create_time: datetime | None
    deleted: bool
    trained_annotations: int
    held_out_annotations: int
    iou: float | None
    parent_iou: float | None
    parent_kept: bool
    classes: tuple[ClassIou, ...]
    new_agreements: tuple[NewAgreement, ...]
    new_annotations: int
    new_voxels: int
    remarks: tuple[str, ...]

    @classmethod
    def from_proto(cls, message: sampler_pb2.ModelProgress) -> ModelProgress:
        return cls(
            message.model,
            message.version,
            message.display_name,
            message.parent,
            time_of(message.create_time),
            message.deleted,
            message.trained_annotations,
            message.held_out_annotations,
            _optional(message, "iou"),
            _optional(message, "parent_iou"),
            message.parent_kept,
            tuple(
                ClassIou(each.class_name, _optional(each, "iou"), _optional(each, "parent_iou"))
                for each in message.classes
            ),
            tuple(
                NewAgreement(each.class_name, each.iou, _optional(each, "error"), each.annotations)
                for each in message.new_agreements
            ),
            message.new_annotations,
            message.new_voxels,
            tuple(message.remarks),
        )


@dataclass(frozen=True, slots=True)
class AgreementPoint:
    """One round of a curve: `model` was trained on the new annotations, and its parent tested on them before."""

    model: str
    version: int
    iou: float
    error: float | None
    annotations: int


@dataclass(frozen=True, slots=True)
class AgreementCurve:
    """Agreement with new annotations in one class, oldest round first, and what its last rounds say."""

    class_name: str
    verdict: str
    text: str
    points: tuple[AgreementPoint, ...]

    @classmethod
    def from_proto(cls, message: sampler_pb2.AgreementCurve) -> AgreementCurve:
        return cls(
            message.class_name,
            word_of(sampler_pb2.StoppingHint.Verdict, message.verdict),
            message.text,
            tuple(
                AgreementPoint(each.model, each.version, each.iou, _optional(each, "error"), each.annotations)
                for each in message.points
            ),
        )


@dataclass(frozen=True, slots=True)
class StoppingHint:
    """Whether more annotations still change the models: `too_few`, `rising`, `falling`, `flat` or `blind`, and in words
    what that says and what not. It stops nothing.
    """

    verdict: str
    text: str
    curves: tuple[AgreementCurve, ...]

    @classmethod
    def from_proto(cls, message: sampler_pb2.StoppingHint) -> StoppingHint:
        return cls(
            word_of(sampler_pb2.StoppingHint.Verdict, message.verdict),
            message.text,
            tuple(map(AgreementCurve.from_proto, message.curves)),
        )


@dataclass(frozen=True, slots=True)
class ProjectProgress:
    """How far a project is; figures as in `AuthorProgress`.

    Attributes:
        new_annotations: Those that the newest model was not trained on.
        samples_by_state: Samples that are leased, annotated, skipped or open.
        rounds: Trainings that have ended well.
        authors: Most annotations first.
        classes: By value.
        days: Oldest first, the last 366 on which somebody annotated.
        models: Oldest first, the newest 200.
        hint: Whether more annotations still change them.
        notice: What is missing here and why, '' when nothing is.
    """

    annotations: int
    new_annotations: int
    annotated_voxels: int
    annotations_by_author: dict[str, int]
    voxels_by_class: dict[int, int]
    samples_by_state: dict[str, int]
    work_time_s: float
    rounds: int
    measured_annotations: int
    median_work_time_s: float
    annotated_area_um2: float
    annotated_volume_um3: float
    authors: tuple[AuthorProgress, ...]
    classes: tuple[ClassProgress, ...]
    days: tuple[DayProgress, ...]
    reviews: ReviewCounts
    models: tuple[ModelProgress, ...]
    hint: StoppingHint
    notice: str

    @classmethod
    def from_proto(cls, message: sampler_pb2.GetProgressResponse) -> ProjectProgress:
        return cls(
            message.annotations,
            message.new_annotations,
            message.annotated_voxels,
            dict(message.annotations_by_author),
            dict(message.voxels_by_class),
            dict(message.samples_by_state),
            message.work_time_s,
            message.rounds,
            message.measured_annotations,
            message.median_work_time_s,
            message.annotated_area_um2,
            message.annotated_volume_um3,
            tuple(map(AuthorProgress.from_proto, message.authors)),
            tuple(map(ClassProgress.from_proto, message.classes)),
            tuple(map(DayProgress.from_proto, message.days)),
            ReviewCounts.from_proto(message.reviews),
            tuple(map(ModelProgress.from_proto, message.models)),
            StoppingHint.from_proto(message.hint),
            message.notice,
        )


def _optional(message: Any, field: str) -> float | None:
    return float(getattr(message, field)) if message.HasField(field) else None
