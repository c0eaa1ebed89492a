"""The `pretrain` job: a parent model from raw volumes alone."""

from __future__ import annotations

from dataclasses import replace

from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.storage.objects import Objects
from biosegment_trainer.compute.dispatch import Dispatch
from biosegment_trainer.compute.task import PretrainTask, TrainedBundle
from biosegment_trainer.convert import pretrain_request
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.registry.model import Model, NewModel, bundle_key
from biosegment_trainer.request import PretrainRequest
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.training.gathering import (
    forget_older_attempts,
    gather_volumes,
    model_id,
    processes,
)


class PretrainingJob:
    """Handler of `pretrain`."""

    def __init__(
        self, models: SqlModels, datastore: DatastoreClient, objects: Objects, dispatch: Dispatch
    ) -> None:
        self._models = models
        self._datastore = datastore
        self._objects = objects
        self._dispatch = dispatch

    async def __call__(self, context: JobContext) -> JobResult:
        """Pretrain and register a model."""
        known = await self._models.of_job(context.job.name)
        if known is None:
            known = await self._pretrain(context)
        await self._objects.delete_prefix(f"jobs/{context.job.job_id}/")
        return JobResult(model=known.name)

    async def _pretrain(self, context: JobContext) -> Model:
        job, request = context.job, pretrain_request(context.job.spec)
        await context.progress(Progress(0.0, "gathering volumes"))
        project = await self._datastore.project(job.project_id)
        resolution = float(request.options.get("working_resolution_nm", project.working_resolution_nm))
        gathered = await gather_volumes(self._datastore, request.volumes, resolution)
        for remark in gathered.remarks:
            await context.log(remark)
        await forget_older_attempts(self._objects, context)
        task = PretrainTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context),
            threads=self._dispatch.threads,
            workers=processes(job.resources.gpus, request.options),
            gpus=job.resources.gpus,
            display_name=request.display_name,
            bundle_key=bundle_key(model_id(context)),
            checkpoints=f"jobs/{job.job_id}",
            working_resolution_nm=gathered.working_resolution_nm,
            volumes=gathered.volumes,
            voxel_size_nm=gathered.voxel_size_nm,
            seed=request.seed,
            max_steps=request.max_steps,
            max_seconds=request.max_seconds,
            options=request.options,
        )
        outcome = await self._dispatch.run(context, task)
        assert outcome.bundle is not None
        new = _new_model(context, request, task, outcome.bundle)
        new = replace(new, remarks=(*gathered.remarks, *new.remarks))
        return await self._models.register(new, context.attempt)


def _new_model(
    context: JobContext, request: PretrainRequest, task: PretrainTask, bundle: TrainedBundle
) -> NewModel:
    return NewModel(
        model_id=model_id(context),
        project_id=context.job.project_id,
        display_name=request.display_name,
        parent="",
        network=bundle.network,
        classes=(),
        working_resolution_nm=task.working_resolution_nm,
        weights_sha256=bundle.weights_sha256,
        config=bundle.config,
        metrics=bundle.metrics,
        job=context.job.name,
        author=context.job.owner,
        data_license=bundle.data_license,
        remarks=bundle.remarks,
    )
