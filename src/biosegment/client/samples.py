"""What to annotate next."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1.sampler_pb2_grpc import SamplerServiceStub
from biosegment.client.resources import Claim, Pool, ProjectProgress, Sample, Strategy
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Region


class Samples:
    """The pool of a project and the samples that are leased from it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = SamplerServiceStub(channel)

    async def claim(self, project: str, count: int = 1, *, strategy: str = "", volume: str = "") -> Claim:
        """Lease the best samples to the caller; the caller's unfinished ones come first.

        Args:
            project: `projects/{p}`.
            count: 1 to 100.
            strategy: Instead of the pool's strategies.
            volume: Only from this volume.
        """
        request = pb.ClaimSamplesRequest(
            parent=project, count=count, strategy=strategy, volume=volume, request_id=str(uuid.uuid4())
        )
        answer = await self._stub.ClaimSamples(request)
        return Claim(tuple(map(Sample.from_proto, answer.samples)), answer.notice)

    async def create(self, project: str, volume: str, region: Region) -> Sample:
        """Make and lease a sample of one's own choice, in voxels of level 0."""
        request = pb.CreateSampleRequest(
            parent=project, volume=volume, region=region_to_proto(region), request_id=str(uuid.uuid4())
        )
        return Sample.from_proto((await self._stub.CreateSample(request)).sample)

    async def get(self, name: str) -> Sample:
        """Return a sample by its name."""
        return Sample.from_proto((await self._stub.GetSample(pb.GetSampleRequest(name=name))).sample)

    async def list(self, project: str, *, state: str = "", holder: str = "") -> builtins.list[Sample]:
        """Return samples, newest first; only leased, annotated, skipped or open ones when `state` says so."""
        states = [f"STATE_{state.upper()}"] if state else []
        found: builtins.list[Sample] = []
        token = ""
        while True:
            request = pb.ListSamplesRequest(
                parent=project, states=states, holder=holder, page_size=500, page_token=token
            )
            page = await self._stub.ListSamples(request)
            found.extend(map(Sample.from_proto, page.samples))
            token = page.next_page_token
            if not token:
                return found

    async def renew(self, name: str) -> Sample:
        """Extend the caller's lease; also revives an expired one that nobody else took."""
        return Sample.from_proto((await self._stub.RenewLease(pb.RenewLeaseRequest(name=name))).sample)

    async def release(self, name: str) -> Sample:
        """Give a sample back to the pool."""
        return Sample.from_proto((await self._stub.ReleaseSample(pb.ReleaseSampleRequest(name=name))).sample)

    async def skip(self, name: str, reason: str) -> Sample:
        """Set a sample aside."""
        request = pb.SkipSampleRequest(name=name, reason=reason)
        return Sample.from_proto((await self._stub.SkipSample(request)).sample)

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
        sample_shape: tuple[int, int, int] | None = None,
        slice_distance: int | None = None,
        lease_duration_s: float | None = None,
        manual_training: bool | None = None,
        train_after_annotations: int | None = None,
        seed: int | None = None,
    ) -> Pool:
        """Change the settings of a pool that are given.

        Args:
            project: `projects/{p}`.
            strategies: Strategy to share of a batch; shares sum to 1.
            volumes: Where samples come from; all of the project when empty.
            excluded: Pairs of volume and region that are never proposed.
            sample_shape: zyx in voxels of level 0.
            slice_distance: Least distance in slices of samples that overlap in plane.
            lease_duration_s: How long a claim holds.
            manual_training: Train only when asked to.
            train_after_annotations: Train after so many new annotations.
            seed: Seed of everything random.
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
            pool.sample_shape.CopyFrom(index_to_proto(sample_shape))
            paths.append("sample_shape")
        if slice_distance is not None:
            pool.slice_distance = slice_distance
            paths.append("slice_distance")
        if lease_duration_s is not None:
            pool.lease_duration_s = lease_duration_s
            paths.append("lease_duration_s")
        if seed is not None:
            pool.seed = seed
            paths.append("seed")
        if manual_training is not None or train_after_annotations is not None:
            current = (await self._stub.GetPool(pb.GetPoolRequest(name=pool.name))).pool.retrain
            pool.retrain.CopyFrom(current)
            if manual_training is not None:
                pool.retrain.manual = manual_training
            if train_after_annotations is not None:
                pool.retrain.after_annotations = train_after_annotations
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

    async def progress(self, project: str) -> ProjectProgress:
        """Return how far a project is."""
        answer = await self._stub.GetProgress(pb.GetProgressRequest(parent=project))
        return ProjectProgress(
            answer.annotations,
            answer.new_annotations,
            answer.annotated_voxels,
            dict(answer.annotations_by_author),
            dict(answer.voxels_by_class),
            dict(answer.samples_by_state),
            answer.work_time_s,
            answer.rounds,
        )

    async def train(self, project: str, *, force: bool = False) -> str:
        """Train now on what is annotated; returns the job's name. With `force` also when nothing is new."""
        request = pb.RequestTrainingRequest(parent=project, force=force, request_id=str(uuid.uuid4()))
        return (await self._stub.RequestTraining(request)).job
