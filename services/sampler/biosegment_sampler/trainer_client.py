"""The trainer over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc

from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.api.trainer.v1alpha1 import trainer_pb2, trainer_pb2_grpc
from biosegment.rpc.channel import ServiceCredentials
from biosegment_sampler.domain.progress import ModelProgress
from biosegment_sampler.model_metric import model_progress
from biosegment_sampler.ports import JobState, JobView
from biosegment_sampler.strategies import Passes

_PAGE = 50
_PASSES: Final = {
    Passes.NONE: None,
    # Gal et al. use a hundred; the order of windows, means over thousands of pixels, hardly changes after some.
    Passes.DROPOUT: job_pb2.Passes(mc_dropout=8),
    Passes.AUGMENTATION: job_pb2.Passes(test_time_augmentation=4),
}


class TrainerClient:
    """`ports.Trainer` over a channel in the sampler's own name."""

    def __init__(self, channel: grpc.aio.Channel, credentials: ServiceCredentials) -> None:
        self._jobs = job_pb2_grpc.JobServiceStub(channel)
        self._models = trainer_pb2_grpc.TrainerServiceStub(channel)
        self._credentials = credentials

    async def train(self, project_id: str, request_id: str, user: str) -> str:
        # Interactive also when nobody asked: a pool trains only on what people have just annotated, and they wait for
        # what it will propose next. The same for every try, which must ask for the same job.
        spec = job_pb2.TrainSpec(interactive=True)
        return await self._create(project_id, job_pb2.JobSpec(train=spec), request_id, user)

    async def score(
        self,
        project_id: str,
        request_id: str,
        model: str,
        volume_ids: Sequence[str],
        measures: Sequence[str],
        passes: Passes,
        max_pixels: int,
    ) -> str:
        volumes = [f"projects/{project_id}/volumes/{volume}" for volume in volume_ids]
        spec = job_pb2.ScoreSpec(
            model=model, volumes=volumes, measures=measures, max_pixels=max_pixels, passes=_PASSES[passes]
        )
        return await self._create(project_id, job_pb2.JobSpec(score=spec), request_id, "")

    async def job(self, name: str) -> JobView:
        job = (await self._jobs.GetJob(job_pb2.GetJobRequest(name=name))).job
        passes = _passes_of(job.spec.score.passes)
        if job.state == job_pb2.Job.STATE_SUCCEEDED:
            return JobView(name, JobState.SUCCEEDED, model=job.result.model, passes=passes)
        if job.state == job_pb2.Job.STATE_FAILED:
            return JobView(name, JobState.FAILED, failure=f"{job.error.reason}: {job.error.message}")
        if job.state == job_pb2.Job.STATE_CANCELLED:
            return JobView(name, JobState.FAILED, failure="it was cancelled")
        return JobView(name, JobState.RUNNING, passes=passes)

    async def cancel(self, name: str) -> None:
        await self._jobs.CancelJob(job_pb2.CancelJobRequest(name=name))

    async def newest_model(self, project_id: str) -> str:
        token = ""
        while True:
            request = trainer_pb2.ListModelsRequest(
                project=f"projects/{project_id}", page_size=_PAGE, page_token=token
            )
            page = await self._models.ListModels(request)
            for model in page.models:
                # One that was only pretrained has no class to choose by.
                if not model.deleted and any(model.class_values):
                    return str(model.name)
            token = page.next_page_token
            if not token:
                return ""

    async def training_of(self, project_id: str) -> str:
        request = job_pb2.ListJobsRequest(
            project=f"projects/{project_id}",
            states=[job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING],
            page_size=_PAGE,
        )
        while True:
            page = await self._jobs.ListJobs(request)
            for job in page.jobs:
                if job.spec.HasField("train"):
                    return str(job.name)
            request.page_token = page.next_page_token
            if not request.page_token:
                return ""

    async def models(self, project_id: str, limit: int) -> Sequence[ModelProgress]:
        request = trainer_pb2.ListModelsRequest(project=f"projects/{project_id}", page_size=limit)
        page = await self._models.ListModels(request)
        return [model_progress(model) for model in reversed(page.models)]

    async def annotations_of(self, model: str) -> Sequence[str]:
        answer = await self._models.GetModel(trainer_pb2.GetModelRequest(name=model))
        return list(answer.model.annotations)

    async def _create(self, project_id: str, spec: job_pb2.JobSpec, request_id: str, user: str) -> str:
        request = job_pb2.CreateJobRequest(project=f"projects/{project_id}", spec=spec, request_id=request_id)
        metadata = self._credentials.on_behalf_of(user) if user else None
        return str((await self._jobs.CreateJob(request, metadata=metadata)).job.name)


def _passes_of(message: job_pb2.Passes) -> Passes:
    if message.mc_dropout:
        return Passes.DROPOUT
    return Passes.AUGMENTATION if message.test_time_augmentation else Passes.NONE
