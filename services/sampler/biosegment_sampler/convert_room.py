"""Between messages and the values of what annotators have to do with each other."""

from __future__ import annotations

from collections.abc import Mapping

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc.geometry import region_to_proto
from biosegment_sampler.agreement import AgreementsView, Place, place_of
from biosegment_sampler.convert import sample_to_proto, timestamp
from biosegment_sampler.domain.agreement import AuthorAgreement, Comparison, Overlap, Pair
from biosegment_sampler.domain.exhaustion import Exhaustion
from biosegment_sampler.domain.review import Review
from biosegment_sampler.holding import SessionView
from biosegment_sampler.review import ReviewsView


def sample_id_of(project_id: str, name: str) -> str:
    """Id of a sample of the project. Raises InvalidArgument BAD_NAME."""
    owner, sample_id = parse_name(name, "projects/*/samples/*")
    if owner != project_id:
        raise InvalidArgument("BAD_NAME", f"{name} is not a sample of project {project_id!r}")
    return sample_id


def exhaustion_to_proto(exhaustion: Exhaustion) -> pb.Exhaustion:
    counts = exhaustion.counts
    return pb.Exhaustion(
        held=dict(counts.held),
        skipped=counts.skipped,
        flagged=counts.flagged,
        awaiting_review=counts.awaiting_review,
        annotations=counts.annotations,
        excluded=exhaustion.excluded,
        suggestions=[f"SUGGESTION_{suggestion.name}" for suggestion in exhaustion.suggestions],
    )


def session_to_proto(project_id: str, view: SessionView) -> pb.RenewSessionResponse:
    return pb.RenewSessionResponse(
        samples=map(sample_to_proto, view.samples),
        reviews=[_review(project_id, review) for review in view.reviews],
        lost=[
            pb.LostSample(
                name=f"projects/{project_id}/samples/{lost.sample_id}", holder=lost.holder, notice=lost.notice
            )
            for lost in view.lost
        ],
    )


def reviews_to_proto(project_id: str, view: ReviewsView) -> pb.ClaimReviewsResponse:
    return pb.ClaimReviewsResponse(
        reviews=[_review(project_id, review) for review in view.reviews],
        notice=view.notice,
        waiting=view.waiting,
    )


def _review(project_id: str, review: Review) -> pb.Review:
    annotation = review.annotation
    return pb.Review(
        annotation=annotation.name,
        volume=f"projects/{project_id}/volumes/{annotation.volume_id}",
        region=region_to_proto(annotation.region),
        author=annotation.author,
        sample=f"projects/{project_id}/samples/{annotation.sample_id}",
        create_time=timestamp(annotation.created_at),
        holder=review.lease.holder,
        expire_time=timestamp(review.lease.expires_at),
    )


def agreements_to_proto(
    project_id: str, view: AgreementsView, size: int, *, is_first: bool
) -> pb.ListAgreementsResponse:
    return pb.ListAgreementsResponse(
        agreements=[_agreement(project_id, *each) for each in view.pairs[:size]],
        authors=map(_authors, view.authors) if is_first else (),
        pending=view.pending,
    )


def _agreement(project_id: str, pair: Pair, comparison: Comparison) -> pb.Agreement:
    return pb.Agreement(
        sample=f"projects/{project_id}/samples/{pair.sample_id}",
        first=pair.first.name,
        second=pair.second.name,
        first_author=pair.first.author,
        second_author=pair.second.author,
        compared_voxels=comparison.compared,
        agreed_voxels=comparison.agreed,
        classes=_classes(comparison.classes),
    )


def _authors(agreement: AuthorAgreement) -> pb.AuthorAgreement:
    first, second = agreement.authors
    return pb.AuthorAgreement(
        first_author=first,
        second_author=second,
        samples=agreement.samples,
        compared_voxels=agreement.comparison.compared,
        agreed_voxels=agreement.comparison.agreed,
        classes=_classes(agreement.comparison.classes),
    )


def _classes(classes: Mapping[int, Overlap]) -> list[pb.ClassAgreement]:
    return [
        pb.ClassAgreement(
            class_value=value,
            intersection_voxels=overlap.intersection,
            union_voxels=overlap.union,
            iou=overlap.iou,
        )
        for value, overlap in sorted(classes.items())
    ]


def write_place(pair: Pair) -> str:
    """The place of a pair in the list, for a page token."""
    return "{}/{}".format(*place_of(pair))


def read_place(text: str) -> Place | None:
    """What `write_place` was given; None for ''."""
    if not text:
        return None
    later, _, earlier = text.partition("/")
    return int(later), int(earlier)
