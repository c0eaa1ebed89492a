"""The queue of annotations that a second person looks at; their verdicts are the datastore's records."""

from __future__ import annotations

from dataclasses import dataclass, replace

from biosegment.auth import Permission, Principal
from biosegment.errors import FailedPrecondition, NotFound
from biosegment.failpoint import failpoint
from biosegment_sampler.desk import Desk
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.review import Review
from biosegment_sampler.leasing import check_count
from biosegment_sampler.ports import Ledger


@dataclass(frozen=True, slots=True)
class ReviewsView:
    """What a reviewer got, what else waits for them, and a word about it."""

    reviews: tuple[Review, ...]
    waiting: int
    notice: str


class ReviewService:
    """Reviews. No two reviewers are at the same annotation, and nobody is at their own."""

    def __init__(self, ledger: Ledger, directory: VolumeDirectory, desk: Desk) -> None:
        self._ledger = ledger
        self._directory = directory
        self._desk = desk

    async def claim(
        self,
        principal: Principal,
        project_id: str,
        *,
        count: int = 1,
        volume_id: str = "",
        session: str = "",
        heartbeat: bool = False,
    ) -> ReviewsView:
        """Give the caller annotations of samples that nobody has reviewed, their unfinished ones first.

        Args:
            principal: A user who may review.
            project_id: Project.
            count: 1..100.
            volume_id: Only of this volume.
            session: Window.
            heartbeat: The client will send heartbeats.

        Raises:
            InvalidArgument: BAD_COUNT, BAD_SESSION.
        """
        who = await self._desk.claimant(principal, project_id, session, heartbeat, Permission.REVIEW)
        check_count(count)
        clocks = (await self._desk.catch_up(project_id)).settings.clocks
        # What was annotated in deleted volumes is gone, and nobody can judge it.
        volumes = await self._directory.present(project_id, volume_id)
        async with self._ledger.write(project_id) as transaction:
            now = self._desk.clock()
            own = [
                replace(each, lease=each.lease.renewed(now, clocks))
                for each in await transaction.room.reviews(now)
                if (each.lease.holder, each.lease.session) == (who.user, session)
                if each.annotation.volume_id in volumes
            ][:count]
            found = await transaction.room.unreviewed(who.user, volumes, count - len(own), now)
            reviews = (*own, *(Review(each, Lease.begin(who, now, clocks)) for each in found))
            await transaction.room.put_reviews(reviews)
            waiting = await transaction.room.count_unreviewed(who.user, volumes, now)
            everybodys = await transaction.room.count_unreviewed("", volumes, now)
            failpoint("sampler.review.before_commit")
        notice = ""
        if len(reviews) < count:
            notice = "nothing else of others waits for a review."
            if everybodys:
                notice += f" {everybodys} of your own wait for somebody else."
        return ReviewsView(reviews, waiting, notice)

    async def release(self, principal: Principal, project_id: str, annotation: str) -> None:
        """Give a review back to the queue.

        Raises:
            NotFound: ANNOTATION_NOT_FOUND.
            FailedPrecondition: REVIEW_NOT_HELD.
        """
        user = (await self._desk.claimant(principal, project_id, permission=Permission.REVIEW)).user
        async with self._ledger.write(project_id) as transaction:
            held = await transaction.room.reviews(self._desk.clock())
            if not any((each.annotation.name, each.lease.holder) == (annotation, user) for each in held):
                if await transaction.annotation(annotation) is None:
                    raise NotFound(
                        "ANNOTATION_NOT_FOUND",
                        f"there is no annotation {annotation!r} in project {project_id!r}",
                    )
                raise FailedPrecondition("REVIEW_NOT_HELD", f"you are not reviewing {annotation}")
            await transaction.room.drop_reviews([annotation])
