"""The sampler's API over gRPC: message in, use case, message out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import region_from_proto
from biosegment_sampler import convert, convert_room
from biosegment_sampler.agreement import AgreementService
from biosegment_sampler.convert_progress import flatness_from_proto, progress_to_proto
from biosegment_sampler.holding import HoldingService
from biosegment_sampler.leasing import LeasingService
from biosegment_sampler.report import ReportService
from biosegment_sampler.review import ReviewService
from biosegment_sampler.service import PoolService
from biosegment_sampler.watching import WatchingService

_Context = grpc.aio.ServicerContext[Any, Any]
SERVICE_NAME = "biosegment.api.sampler.v1alpha1.SamplerService"


class SamplerServicer(sampler_pb2_grpc.SamplerServiceServicer):
    """`SamplerService`."""

    def __init__(
        self,
        pools: PoolService,
        leasing: LeasingService,
        holding: HoldingService,
        reviews: ReviewService,
        agreements: AgreementService,
        reports: ReportService,
        watching: WatchingService,
    ) -> None:
        self._pools = pools
        self._leasing = leasing
        self._holding = holding
        self._reviews = reviews
        self._agreements = agreements
        self._reports = reports
        self._watching = watching

    async def GetPool(self, request: pb.GetPoolRequest, context: _Context) -> pb.GetPoolResponse:
        (project,) = parse_name(request.name, "projects/*/pool")
        view = await self._pools.get(current_principal(), project)
        return pb.GetPoolResponse(pool=convert.pool_to_proto(view))

    async def UpdatePool(self, request: pb.UpdatePoolRequest, context: _Context) -> pb.UpdatePoolResponse:
        (project,) = parse_name(request.pool.name, "projects/*/pool")
        changes = convert.pool_changes(project, request.pool, request.update_mask.paths)
        view = await self._pools.update(current_principal(), project, changes, request.pool.etag)
        return pb.UpdatePoolResponse(pool=convert.pool_to_proto(view))

    async def ListStrategies(
        self, request: pb.ListStrategiesRequest, context: _Context
    ) -> pb.ListStrategiesResponse:
        strategies = [convert.strategy_to_proto(strategy) for strategy in self._pools.strategies()]
        return pb.ListStrategiesResponse(strategies=strategies)

    async def ClaimSamples(
        self, request: pb.ClaimSamplesRequest, context: _Context
    ) -> pb.ClaimSamplesResponse:
        (project,) = parse_name(request.parent, "projects/*")
        views, notice, exhaustion = await self._leasing.claim(
            current_principal(),
            project,
            count=request.count or 1,
            strategy=request.strategy,
            volume_id=convert.volume_id_of(project, request.volume),
            request_id=request.request_id,
            session=request.session,
            heartbeat=request.heartbeat,
        )
        return pb.ClaimSamplesResponse(
            samples=[convert.sample_to_proto(view) for view in views],
            notice=notice,
            exhaustion=convert_room.exhaustion_to_proto(exhaustion) if exhaustion else None,
        )

    async def CreateSample(
        self, request: pb.CreateSampleRequest, context: _Context
    ) -> pb.CreateSampleResponse:
        (project,) = parse_name(request.parent, "projects/*")
        volume = convert.volume_id_of(project, request.volume)
        region = region_from_proto(request.region)
        view = await self._leasing.choose(
            current_principal(),
            project,
            volume,
            region,
            request.request_id,
            request.session,
            request.heartbeat,
        )
        return pb.CreateSampleResponse(sample=convert.sample_to_proto(view))

    async def GetSample(self, request: pb.GetSampleRequest, context: _Context) -> pb.GetSampleResponse:
        view = await self._leasing.get(current_principal(), *_sample(request.name))
        return pb.GetSampleResponse(sample=convert.sample_to_proto(view))

    async def ListSamples(self, request: pb.ListSamplesRequest, context: _Context) -> pb.ListSamplesResponse:
        (project,) = parse_name(request.parent, "projects/*")
        states = convert.states_from_proto(request.states)
        query = (project, sorted(states), request.holder, request.user, request.flagged)
        size = convert.page_size(request.page_size)
        before = convert.read_token(request.page_token, *query)
        views = await self._leasing.list_samples(
            current_principal(),
            project,
            states,
            request.holder,
            before,
            size + 1,
            request.user,
            request.flagged,
        )
        more = len(views) > size
        return pb.ListSamplesResponse(
            samples=[convert.sample_to_proto(view) for view in views[:size]],
            next_page_token=convert.write_token(views[size - 1].sample.sample_id, *query) if more else "",
        )

    async def WatchSamples(
        self, request: pb.WatchSamplesRequest, context: _Context
    ) -> AsyncIterator[pb.WatchSamplesResponse]:
        (project,) = parse_name(request.parent, "projects/*")
        found = self._watching.watch(current_principal(), project, request.resume_token)
        async with aclosing(found) as changes:
            async for view, token in changes:
                sample = convert.sample_to_proto(view) if view else None
                yield pb.WatchSamplesResponse(sample=sample, resume_token=token)

    async def RenewLease(self, request: pb.RenewLeaseRequest, context: _Context) -> pb.RenewLeaseResponse:
        view = await self._holding.renew(current_principal(), *_sample(request.name), request.idle)
        return pb.RenewLeaseResponse(sample=convert.sample_to_proto(view))

    async def RenewSession(
        self, request: pb.RenewSessionRequest, context: _Context
    ) -> pb.RenewSessionResponse:
        (project,) = parse_name(request.parent, "projects/*")
        believed = [convert_room.sample_id_of(project, name) for name in request.samples]
        view = await self._holding.renew_session(
            current_principal(), project, request.session, request.active, believed
        )
        return convert_room.session_to_proto(project, view)

    async def LeaveSession(
        self, request: pb.LeaveSessionRequest, context: _Context
    ) -> pb.LeaveSessionResponse:
        (project,) = parse_name(request.parent, "projects/*")
        samples, reviews = await self._holding.leave(current_principal(), project, request.session)
        names = [f"projects/{project}/samples/{sample_id}" for sample_id in samples]
        return pb.LeaveSessionResponse(samples=names, reviews=reviews)

    async def ReleaseSample(
        self, request: pb.ReleaseSampleRequest, context: _Context
    ) -> pb.ReleaseSampleResponse:
        view = await self._holding.release(current_principal(), *_sample(request.name))
        return pb.ReleaseSampleResponse(sample=convert.sample_to_proto(view))

    async def SkipSample(self, request: pb.SkipSampleRequest, context: _Context) -> pb.SkipSampleResponse:
        view = await self._holding.skip(current_principal(), *_sample(request.name), request.reason)
        return pb.SkipSampleResponse(sample=convert.sample_to_proto(view))

    async def FlagSample(self, request: pb.FlagSampleRequest, context: _Context) -> pb.FlagSampleResponse:
        view = await self._holding.flag(current_principal(), *_sample(request.name), request.text)
        return pb.FlagSampleResponse(sample=convert.sample_to_proto(view))

    async def UnflagSample(
        self, request: pb.UnflagSampleRequest, context: _Context
    ) -> pb.UnflagSampleResponse:
        view = await self._holding.unflag(current_principal(), *_sample(request.name), request.answer)
        return pb.UnflagSampleResponse(sample=convert.sample_to_proto(view))

    async def ResumeSample(
        self, request: pb.ResumeSampleRequest, context: _Context
    ) -> pb.ResumeSampleResponse:
        view = await self._holding.resume(
            current_principal(), *_sample(request.name), request.session, request.heartbeat
        )
        return pb.ResumeSampleResponse(sample=convert.sample_to_proto(view))

    async def TakeOverLease(
        self, request: pb.TakeOverLeaseRequest, context: _Context
    ) -> pb.TakeOverLeaseResponse:
        view = await self._holding.take_over(
            current_principal(), *_sample(request.name), request.session, request.heartbeat
        )
        return pb.TakeOverLeaseResponse(sample=convert.sample_to_proto(view))

    async def ClaimReviews(
        self, request: pb.ClaimReviewsRequest, context: _Context
    ) -> pb.ClaimReviewsResponse:
        (project,) = parse_name(request.parent, "projects/*")
        view = await self._reviews.claim(
            current_principal(),
            project,
            count=request.count or 1,
            volume_id=convert.volume_id_of(project, request.volume),
            session=request.session,
            heartbeat=request.heartbeat,
        )
        return convert_room.reviews_to_proto(project, view)

    async def ReleaseReview(
        self, request: pb.ReleaseReviewRequest, context: _Context
    ) -> pb.ReleaseReviewResponse:
        project, _, _ = parse_name(request.annotation, "projects/*/volumes/*/annotations/*")
        await self._reviews.release(current_principal(), project, request.annotation)
        return pb.ReleaseReviewResponse()

    async def ListAgreements(
        self, request: pb.ListAgreementsRequest, context: _Context
    ) -> pb.ListAgreementsResponse:
        (project,) = parse_name(request.parent, "projects/*")
        sample_id = convert_room.sample_id_of(project, request.sample) if request.sample else ""
        size = convert.page_size(request.page_size)
        token = convert.read_token(request.page_token, project, sample_id)
        before = convert_room.read_place(token)
        view = await self._agreements.list(current_principal(), project, sample_id, before, size + 1)
        response = convert_room.agreements_to_proto(project, view, size, is_first=before is None)
        if len(view.pairs) > size:
            last = convert_room.write_place(view.pairs[size - 1][0])
            response.next_page_token = convert.write_token(last, project, sample_id)
        return response

    async def GetProgress(self, request: pb.GetProgressRequest, context: _Context) -> pb.GetProgressResponse:
        (project,) = parse_name(request.parent, "projects/*")
        flatness = flatness_from_proto(request)
        return progress_to_proto(await self._reports.progress(current_principal(), project, flatness))

    async def RequestTraining(
        self, request: pb.RequestTrainingRequest, context: _Context
    ) -> pb.RequestTrainingResponse:
        (project,) = parse_name(request.parent, "projects/*")
        job = await self._pools.request_training(
            current_principal(), project, request.force, request.request_id
        )
        return pb.RequestTrainingResponse(job=job)


def _sample(name: str) -> tuple[str, str]:
    project, sample = parse_name(name, "projects/*/samples/*")
    return project, sample
