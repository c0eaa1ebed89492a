"""What to annotate next."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1.sampler_pb2_grpc import SamplerServiceStub
from biosegment.client.annotations import Annotations
from biosegment.client.resources import (
    Agreement,
    Agreements,
    AuthorAgreement,
    Claim,
    Exhaustion,
    LostSample,
    Pool,
    ProjectProgress,
    Review,
    ReviewClaim,
    Sample,
    Session,
    Strategy,
)
from biosegment.client.resources.wire import states_of
from biosegment.client.sample_session import SampleSession
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Region


class Samples:
    """The pool of a project and the samples that are leased from it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = SamplerServiceStub(channel)
        self._annotations = Annotations(channel)

    def session(self, project: str) -> SampleSession:
        """A window that holds samples of a project for as long as it is open; a context manager."""
        return SampleSession(self, self._annotations, project)

    async def claim(
        self,
        project: str,
        count: int = 1,
        *,
        strategy: str = "",
        volume: str = "",
        session: str = "",
        heartbeat: bool = False,
    ) -> Claim:
        """Lease the best samples to the caller; their unfinished ones of this window, or of dead ones, come first.

        Args:
            project: `projects/{p}`.
            count: 1 to 100.
            strategy: Instead of the pool's strategies.
            volume: Only from this volume.
            session: This window, by a name of its own, at most 64 characters; those of the same user's other windows
                are left alone while those live.
            heartbeat: `renew_session` will be called at least every third of the pool's `heartbeat_timeout_s`; leases
                end when that stops, and their tokens with them: commit with the samples that it returns.
        """
        request = pb.ClaimSamplesRequest(
            parent=project,
            count=count,
            strategy=strategy,
            volume=volume,
            request_id=str(uuid.uuid4()),
            session=session,
            heartbeat=heartbeat,
        )
        answer = await self._stub.ClaimSamples(request)
        samples = tuple(map(Sample.from_proto, answer.samples))
        end = Exhaustion.from_proto(answer.exhaustion) if answer.HasField("exhaustion") else None
        return Claim(samples, answer.notice, end)

    async def create(
        self, project: str, volume: str, region: Region, *, session: str = "", heartbeat: bool = False
    ) -> Sample:
        """Make and lease a sample of one's own choice, in voxels of level 0; `session` and the rest as in `claim`."""
        request = pb.CreateSampleRequest(
            parent=project,
            volume=volume,
            region=region_to_proto(region),
            request_id=str(uuid.uuid4()),
            session=session,
            heartbeat=heartbeat,
        )
        return Sample.from_proto((await self._stub.CreateSample(request)).sample)

    async def get(self, name: str) -> Sample:
        """Return a sample by its name."""
        return Sample.from_proto((await self._stub.GetSample(pb.GetSampleRequest(name=name))).sample)

    async def list(
        self, project: str, *, state: str = "", holder: str = "", user: str = "", flagged: bool = False
    ) -> builtins.list[Sample]:
        """Return samples, newest first.

        Args:
            project: `projects/{p}`.
            state: Only leased, annotated, skipped or open ones.
            holder: Only those that this user holds now.
            user: Only those that this user holds or last held, annotated, set aside or flagged.
            flagged: Only those whose question waits for an answer.

        Raises:
            InvalidArgument: UNKNOWN_STATE.
        """
        states = states_of(pb.Sample.State, state)
        found: builtins.list[Sample] = []
        token = ""
        while True:
            request = pb.ListSamplesRequest(
                parent=project,
                states=states,
                holder=holder,
                page_size=500,
                page_token=token,
                user=user,
                flagged=flagged,
            )
            page = await self._stub.ListSamples(request)
            found.extend(map(Sample.from_proto, page.samples))
            token = page.next_page_token
            if not token:
                return found

    async def renew(self, name: str, *, idle: bool = False) -> Sample:
        """Extend the caller's lease; also revives an expired one that nobody else took.

        Args:
            name: Of the sample.
            idle: The user did nothing, only the connection lives; from then on the lease ends when heartbeats stop.

        Raises:
            FailedPrecondition: LEASE_LOST; `metadata["holder"]` names who has it. LEASE_IDLE.
        """
        request = pb.RenewLeaseRequest(name=name, idle=idle)
        return Sample.from_proto((await self._stub.RenewLease(request)).sample)

    async def renew_session(
        self, project: str, session: str, *, active: bool = False, samples: Sequence[str] = ()
    ) -> Session:
        """Extend all that a window holds: its heartbeat. Go on with the samples that it returns.

        Args:
            project: `projects/{p}`.
            session: As in `claim`.
            active: The user did something since the last one; also revives what ran out and nobody took.
            samples: Names of those that the window believes to hold: it is told which are lost, and to whom.
        """
        request = pb.RenewSessionRequest(parent=project, session=session, active=active, samples=samples)
        answer = await self._stub.RenewSession(request)
        return Session(
            tuple(map(Sample.from_proto, answer.samples)),
            tuple(map(Review.from_proto, answer.reviews)),
            tuple(LostSample(each.name, each.holder, each.notice) for each in answer.lost),
        )

    async def leave(self, project: str, session: str = "") -> builtins.list[str]:
        """Give back all that the caller holds in a window, when it closes; returns the names of the samples."""
        request = pb.LeaveSessionRequest(parent=project, session=session)
        return builtins.list((await self._stub.LeaveSession(request)).samples)

    async def release(self, name: str) -> Sample:
        """Give a sample back to the pool."""
        return Sample.from_proto((await self._stub.ReleaseSample(pb.ReleaseSampleRequest(name=name))).sample)

    async def skip(self, name: str, reason: str) -> Sample:
        """Set a sample aside."""
        request = pb.SkipSampleRequest(name=name, reason=reason)
        return Sample.from_proto((await self._stub.SkipSample(request)).sample)

    async def flag(self, name: str, text: str) -> Sample:
        """Ask about a sample; it is proposed to nobody until somebody answers."""
        request = pb.FlagSampleRequest(name=name, text=text)
        return Sample.from_proto((await self._stub.FlagSample(request)).sample)

    async def unflag(self, name: str, answer: str) -> Sample:
        """Answer the question about a sample."""
        request = pb.UnflagSampleRequest(name=name, answer=answer)
        return Sample.from_proto((await self._stub.UnflagSample(request)).sample)

    async def resume(self, name: str, *, session: str = "", heartbeat: bool = False) -> Sample:
        """Lease an earlier sample again; `earlier_annotation` of the answer names what to load and correct.

        Args:
            name: Of a sample that the caller annotated, that was set aside, or that is open.
            session: As in `claim`; the sample moves here when the caller holds it in another window.
            heartbeat: As in `claim`.

        Raises:
            FailedPrecondition: LEASE_LOST, REGION_TAKEN (metadata: sample), SAMPLE_FLAGGED.
            PermissionDenied: NOT_YOUR_ANNOTATION.
        """
        request = pb.ResumeSampleRequest(name=name, session=session, heartbeat=heartbeat)
        return Sample.from_proto((await self._stub.ResumeSample(request)).sample)

    async def take_over(self, name: str, *, session: str = "", heartbeat: bool = False) -> Sample:
        """Take a sample from its holder, who can commit nothing for it from then on; for managers of the project.

        Raises:
            FailedPrecondition: NOT_HELD; SAMPLE_ANNOTATED when the holder was faster.
            Conflict: TAKEN_OVER_MEANWHILE.
        """
        request = pb.TakeOverLeaseRequest(name=name, session=session, heartbeat=heartbeat)
        return Sample.from_proto((await self._stub.TakeOverLease(request)).sample)

    async def claim_reviews(
        self, project: str, count: int = 1, *, volume: str = "", session: str = "", heartbeat: bool = False
    ) -> ReviewClaim:
        """Get annotations of others that nobody has reviewed, oldest first; the verdict is `annotations.review`.

        Args:
            project: `projects/{p}`.
            count: 1 to 100.
            volume: Only of this volume.
            session: As in `claim`.
            heartbeat: As in `claim`.
        """
        request = pb.ClaimReviewsRequest(
            parent=project, count=count, volume=volume, session=session, heartbeat=heartbeat
        )
        answer = await self._stub.ClaimReviews(request)
        return ReviewClaim(tuple(map(Review.from_proto, answer.reviews)), answer.notice, answer.waiting)

    async def release_review(self, annotation: str) -> None:
        """Give a review back to the queue."""
        await self._stub.ReleaseReview(pb.ReleaseReviewRequest(annotation=annotation))

    async def agreements(self, project: str, *, sample: str = "") -> Agreements:
        """Return how far annotators agree where two of them annotated the same sample, or this `sample`."""
        samples: builtins.list[Agreement] = []
        authors: builtins.list[AuthorAgreement] = []
        token = ""
        while True:
            request = pb.ListAgreementsRequest(parent=project, sample=sample, page_size=500, page_token=token)
            page = await self._stub.ListAgreements(request)
            samples.extend(map(Agreement.from_proto, page.agreements))
            authors.extend(map(AuthorAgreement.from_proto, page.authors))
            token = page.next_page_token
            if not token:
                return Agreements(tuple(samples), tuple(authors), page.pending)

    async def pool(self, project: str) -> Pool:
        """Return the pool of a project."""
        return Pool.from_proto((await self._stub.GetPool(pb.GetPoolRequest(name=f"{project}/pool"))).pool)

    async def configure(
        self,
        project: str,
        *,
        strategies: Mapping[str, float] | None = None,
        volumes: Sequence[str] | None = None,
        excluded: Sequence[tuple[str, Region]] | None = None,
        sample_shape: tuple[int, ...] | None = None,
        slice_distance: int | None = None,
        lease_duration_s: float | None = None,
        heartbeat_timeout_s: float | None = None,
        second_annotator_share: float | None = None,
        manual_training: bool | None = None,
        train_after_annotations: int | None = None,
        train_after_idle_s: float | None = None,
        seed: int | None = None,
    ) -> Pool:
        """Change the settings of a pool that are given.

        Args:
            project: `projects/{p}`.
            strategies: Strategy to share of a batch; shares sum to 1.
            volumes: Where samples come from; all of the project when empty.
            excluded: Pairs of volume and region that are never proposed.
            sample_shape: zyx in voxels of level 0; the default shape when empty.
            slice_distance: Least distance in slices of samples that overlap in plane.
            lease_duration_s: How long a claim holds after its user's last activity.
            heartbeat_timeout_s: How long one holds after the last heartbeat of a client that sends them.
            second_annotator_share: Share of the proposed samples that a second annotator gets, too, blind.
            manual_training: Train only when asked to.
            train_after_annotations: Train after so many new annotations.
            train_after_idle_s: Also train on fewer after so many seconds without a further one; 0 for never.
            seed: Seed of everything random.

        Raises:
            Conflict: ETAG_MISMATCH; somebody changed the settings while one of when to train was set.
        """
        pool = pb.Pool(name=f"{project}/pool")
        paths: builtins.list[str] = []
        if strategies is not None:
            pool.strategies.extend(pb.StrategyShare(strategy=k, share=v) for k, v in strategies.items())
            paths.append("strategies")
        if volumes is not None:
            pool.volumes.extend(volumes)
            paths.append("volumes")
        if excluded is not None:
            pool.excluded.extend(
                pb.VolumeRegion(volume=volume, region=region_to_proto(region)) for volume, region in excluded
            )
            paths.append("excluded")
        if sample_shape is not None:
            if sample_shape:
                pool.sample_shape.CopyFrom(index_to_proto(_zyx(sample_shape)))
            paths.append("sample_shape")
        if slice_distance is not None:
            pool.slice_distance = slice_distance
            paths.append("slice_distance")
        if lease_duration_s is not None:
            pool.lease_duration_s = lease_duration_s
            paths.append("lease_duration_s")
        if heartbeat_timeout_s is not None:
            pool.heartbeat_timeout_s = heartbeat_timeout_s
            paths.append("heartbeat_timeout_s")
        if second_annotator_share is not None:
            pool.second_annotator_share = second_annotator_share
            paths.append("second_annotator_share")
        if seed is not None:
            pool.seed = seed
            paths.append("seed")
        policy = (manual_training, train_after_annotations, train_after_idle_s)
        if any(value is not None for value in policy):
            current = (await self._stub.GetPool(pb.GetPoolRequest(name=pool.name))).pool
            # What somebody else sets meanwhile is not overwritten.
            pool.etag = current.etag
            pool.retrain.CopyFrom(current.retrain)
            if manual_training is not None:
                pool.retrain.manual = manual_training
            if train_after_annotations is not None:
                pool.retrain.after_annotations = train_after_annotations
            if train_after_idle_s is not None:
                pool.retrain.after_idle_s = train_after_idle_s
            paths.append("retrain")
        request = pb.UpdatePoolRequest(pool=pool, update_mask=FieldMask(paths=paths))
        return Pool.from_proto((await self._stub.UpdatePool(request)).pool)

    async def strategies(self) -> builtins.list[Strategy]:
        """Return the strategies that the sampler knows."""
        answer = await self._stub.ListStrategies(pb.ListStrategiesRequest())
        return [
            Strategy(item.strategy, item.description, tuple(item.measures), item.cold_start)
            for item in answer.strategies
        ]

    async def progress(
        self, project: str, *, flat_rounds: int = 0, flat_tolerance: float = 0.0
    ) -> ProjectProgress:
        """Return how far a project is.

        Args:
            project: `projects/{p}`.
            flat_rounds: Rounds in a row that must agree for the hint to call a curve flat, 2 to 50; 3 when 0.
            flat_tolerance: Differences of IoU that do not matter; 0.05 when 0.

        Raises:
            InvalidArgument: BAD_FLATNESS.
        """
        request = pb.GetProgressRequest(
            parent=project, flat_rounds=flat_rounds, flat_tolerance=flat_tolerance
        )
        return ProjectProgress.from_proto(await self._stub.GetProgress(request))

    async def train(self, project: str, *, force: bool = False) -> str:
        """Train now on what is annotated; returns the job's name. With `force` also when nothing is new."""
        request = pb.RequestTrainingRequest(parent=project, force=force, request_id=str(uuid.uuid4()))
        return (await self._stub.RequestTraining(request)).job


def _zyx(shape: tuple[int, ...]) -> tuple[int, int, int]:
    try:
        z, y, x = shape
    except ValueError as error:
        raise InvalidArgument("BAD_SAMPLE_SHAPE", f"sample shape {shape} is not z, y, x") from error
    return z, y, x
