"""The sampler's API over gRPC: message in, use case, message out."""

from __future__ import annotations

from typing import Any

import grpc

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import region_from_proto
from biosegment_sampler import convert
from biosegment_sampler.leasing import LeasingService
from biosegment_sampler.service import PoolService

_Context = grpc.aio.ServicerContext[Any, Any]
SERVICE_NAME = "biosegment.api.sampler.v1alpha1.SamplerService"


class SamplerServicer(sampler_pb2_grpc.SamplerServiceServicer):
    """`SamplerService`."""

    def __init__(self, pools: PoolService, leasing: LeasingService) -> None:
        self._pools = pools
        self._leasing = leasing

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
        views, notice = await self._leasing.claim(
            current_principal(),
            project,
            count=request.count or 1,
            strategy=request.strategy,
            volume_id=convert.volume_id_of(project, request.volume),
            request_id=request.request_id,
        )
        return pb.ClaimSamplesResponse(
            samples=[convert.sample_to_proto(view) for view in views], notice=notice
        )

    async def CreateSample(
        self, request: pb.CreateSampleRequest, context: _Context
    ) -> pb.CreateSampleResponse:
        (project,) = parse_name(request.parent, "projects/*")
        volume = convert.volume_id_of(project, request.volume)
        region = region_from_proto(request.region)
        view = await self._leasing.choose(current_principal(), project, volume, region, request.request_id)
        return pb.CreateSampleResponse(sample=convert.sample_to_proto(view))

    async def GetSample(self, request: pb.GetSampleRequest, context: _Context) -> pb.GetSampleResponse:
        view = await self._leasing.get(current_principal(), *_sample(request.name))
        return pb.GetSampleResponse(sample=convert.sample_to_proto(view))

    async def ListSamples(self, request: pb.ListSamplesRequest, context: _Context) -> pb.ListSamplesResponse:
        (project,) = parse_name(request.parent, "projects/*")
        states = convert.states_from_proto(request.states)
        query = (project, sorted(states), request.holder)
        size = convert.page_size(request.page_size)
        before = convert.read_token(request.page_token, *query)
        views = await self._leasing.list_samples(
            current_principal(), project, states, request.holder, before, size + 1
        )
        more = len(views) > size
        return pb.ListSamplesResponse(
            samples=[convert.sample_to_proto(view) for view in views[:size]],
            next_page_token=convert.write_token(views[size - 1].sample.sample_id, *query) if more else "",
        )

    async def RenewLease(self, request: pb.RenewLeaseRequest, context: _Context) -> pb.RenewLeaseResponse:
        view = await self._leasing.renew(current_principal(), *_sample(request.name))
        return pb.RenewLeaseResponse(sample=convert.sample_to_proto(view))

    async def ReleaseSample(
        self, request: pb.ReleaseSampleRequest, context: _Context
    ) -> pb.ReleaseSampleResponse:
        view = await self._leasing.release(current_principal(), *_sample(request.name))
        return pb.ReleaseSampleResponse(sample=convert.sample_to_proto(view))

    async def SkipSample(self, request: pb.SkipSampleRequest, context: _Context) -> pb.SkipSampleResponse:
        view = await self._leasing.skip(current_principal(), *_sample(request.name), request.reason)
        return pb.SkipSampleResponse(sample=convert.sample_to_proto(view))

    async def TakeOverLease(
        self, request: pb.TakeOverLeaseRequest, context: _Context
    ) -> pb.TakeOverLeaseResponse:
        view = await self._leasing.take_over(current_principal(), *_sample(request.name))
        return pb.TakeOverLeaseResponse(sample=convert.sample_to_proto(view))

    async def GetProgress(self, request: pb.GetProgressRequest, context: _Context) -> pb.GetProgressResponse:
        (project,) = parse_name(request.parent, "projects/*")
        return convert.progress_to_proto(*await self._pools.progress(current_principal(), project))

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
