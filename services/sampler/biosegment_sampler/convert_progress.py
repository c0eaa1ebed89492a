"""The progress report as a message."""

from __future__ import annotations

import time

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment_sampler.convert import timestamp
from biosegment_sampler.domain.progress import (
    AuthorProgress,
    ClassProgress,
    Day,
    ModelProgress,
    NewAgreement,
    Reviews,
    authors_of,
    classes_of,
    extent_of,
    reviews_of,
)
from biosegment_sampler.domain.stopping import ROUNDS, TOLERANCE, Curve, Flatness, Hint, Verdict
from biosegment_sampler.report import ProgressReport

_VERDICTS = {each: getattr(pb.StoppingHint, f"VERDICT_{each.name}") for each in Verdict}
_DAY_S = 86_400


def flatness_from_proto(request: pb.GetProgressRequest) -> Flatness:
    """InvalidArgument BAD_FLATNESS."""
    return Flatness(request.flat_rounds or ROUNDS, request.flat_tolerance or TOLERANCE)


def progress_to_proto(report: ProgressReport) -> pb.GetProgressResponse:
    tally, reviews = report.tally, reviews_of(report.tally)
    extent = extent_of(tally.labelled, report.sizes)
    authors, classes = authors_of(tally, report.sizes), classes_of(tally, report.sizes)
    return pb.GetProgressResponse(
        annotations=reviews.holding,
        new_annotations=tally.new_annotations,
        annotated_voxels=extent.voxels,
        annotations_by_author={
            each.author: each.tally.reviews.holding for each in authors if each.tally.reviews.holding
        },
        voxels_by_class={each.class_value: each.extent.voxels for each in classes},
        samples_by_state=dict(tally.samples_by_state),
        work_time_s=tally.work.total_s,
        rounds=report.rounds,
        measured_annotations=tally.work.annotations,
        median_work_time_s=tally.work.median_s,
        annotated_area_um2=extent.area_um2,
        annotated_volume_um3=extent.volume_um3,
        authors=[_author(each) for each in authors],
        classes=[_class(each) for each in classes],
        days=[_day(each) for each in tally.days],
        reviews=_reviews(reviews),
        models=[_model(each) for each in report.models],
        hint=_hint(report.hint),
        notice=report.notice,
    )


def _author(each: AuthorProgress) -> pb.AuthorProgress:
    own = each.tally
    return pb.AuthorProgress(
        author=each.author,
        annotations=own.reviews.holding,
        samples=own.samples,
        voxels=each.extent.voxels,
        voxels_by_class=dict(each.voxels_by_class),
        area_um2=each.extent.area_um2,
        volume_um3=each.extent.volume_um3,
        measured_annotations=own.work.annotations,
        work_time_s=own.work.total_s,
        median_work_time_s=own.work.median_s,
        reviews=_reviews(own.reviews),
        last_annotation_time=timestamp(own.last_annotation_at),
    )


def _class(each: ClassProgress) -> pb.ClassProgress:
    return pb.ClassProgress(
        class_value=each.class_value,
        annotations=each.annotations,
        voxels=each.extent.voxels,
        area_um2=each.extent.area_um2,
        volume_um3=each.extent.volume_um3,
    )


def _day(each: Day) -> pb.DayProgress:
    return pb.DayProgress(
        day=time.strftime("%Y-%m-%d", time.gmtime(each.number * _DAY_S)),
        annotations=each.annotations,
        voxels=each.voxels,
        authors=each.authors,
        measured_annotations=each.work.annotations,
        work_time_s=each.work.total_s,
    )


def _reviews(each: Reviews) -> pb.ReviewCounts:
    return pb.ReviewCounts(
        pending=each.pending, accepted=each.accepted, rejected=each.rejected, reverted=each.reverted
    )


def _model(each: ModelProgress) -> pb.ModelProgress:
    return pb.ModelProgress(
        model=each.name,
        version=each.version,
        display_name=each.display_name,
        parent=each.parent,
        create_time=timestamp(each.created_at),
        deleted=each.deleted,
        trained_annotations=each.trained_annotations,
        held_out_annotations=each.held_out_annotations,
        iou=each.iou,
        parent_iou=each.parent_iou,
        parent_kept=each.parent_kept,
        classes=[
            pb.ClassIou(class_name=name, iou=own, parent_iou=parent)
            for name, (own, parent) in each.class_ious.items()
        ],
        new_agreements=[_new(one) for one in each.new_agreements],
        new_annotations=each.new_annotations,
        new_voxels=each.new_voxels,
        remarks=each.remarks,
    )


def _new(each: NewAgreement) -> pb.NewAgreement:
    return pb.NewAgreement(
        class_name=each.class_name, iou=each.iou, error=each.error, annotations=each.annotations
    )


def _hint(each: Hint) -> pb.StoppingHint:
    curves = [_curve(curve) for curve in each.curves]
    return pb.StoppingHint(verdict=_VERDICTS[each.verdict], text=each.text, curves=curves)


def _curve(each: Curve) -> pb.AgreementCurve:
    return pb.AgreementCurve(
        class_name=each.class_name,
        verdict=_VERDICTS[each.verdict],
        text=each.text,
        points=[
            pb.AgreementPoint(
                model=point.model,
                version=point.version,
                iou=point.iou,
                error=point.error,
                annotations=point.annotations,
            )
            for point in each.points
        ],
    )
