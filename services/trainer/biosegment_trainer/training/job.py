"""The `train` job: gathers what a worker needs and registers what it made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import FailedPrecondition
from biosegment.failpoint import failpoint
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.storage.objects import Objects
from biosegment_trainer.compute.dispatch import Dispatch, volume_array
from biosegment_trainer.compute.task import AnnotationBlock, Parent, TrainedBundle, TrainTask, VolumeArray
from biosegment_trainer.convert import train_request
from biosegment_trainer.datastore_client import AnnotationView, DatastoreClient, ProjectView, volume_id_of
from biosegment_trainer.prediction.block import working_factor
from biosegment_trainer.registry.model import Model, NewModel, bundle_key
from biosegment_trainer.request import TrainRequest
from biosegment_trainer.sql import SqlModels


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an attempt trains on; fixed by the first attempt, so that later ones go on with the same run."""

    parent: str
    annotations: tuple[str, ...]


class TrainingJob:
    """Handler of `train`."""

    def __init__(
        self, models: SqlModels, datastore: DatastoreClient, objects: Objects, dispatch: Dispatch
    ) -> None:
        self._models = models
        self._datastore = datastore
        self._objects = objects
        self._dispatch = dispatch

    async def __call__(self, context: JobContext) -> JobResult:
        """Train and register a model."""
        job = context.job
        known = await self._models.of_job(job.name)
        if known is None:
            known = await self._train(context)
        await self._objects.delete_prefix(f"jobs/{job.job_id}/")
        return JobResult(model=known.name)

    async def _train(self, context: JobContext) -> Model:
        job, request = context.job, train_request(context.job.spec)
        await context.progress(Progress(0.0, "gathering annotations"))
        plan = await self._plan(context, request)
        failpoint("trainer.train.planned")
        parent = await self._models.get(plan.parent) if plan.parent else None
        if parent is not None:
            parent.require_weights()
        project = await self._datastore.project(job.project_id)
        views = await self._datastore.annotations(plan.annotations, with_labels=True)
        model_id = f"{job.job_id.partition('-')[2]}-{context.attempt}"
        await self._forget_older_attempts(context)
        task = TrainTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context),
            threads=self._dispatch.threads,
            display_name=request.display_name,
            bundle_key=bundle_key(model_id),
            checkpoints=f"jobs/{job.job_id}",
            classes=project.classes,
            working_resolution_nm=project.working_resolution_nm,
            annotations=_blocks(views, project, frozenset(parent.new.annotations if parent else ())),
            volumes=await self._volumes(views, project),
            parent=Parent(parent.name, parent.bundle_key, parent.new.classes) if parent else None,
            seed=request.seed,
            max_steps=request.max_steps,
            max_seconds=request.max_seconds,
            options=request.options,
        )
        outcome = await self._dispatch.run(context, task)
        assert outcome.bundle is not None
        failpoint("trainer.train.before_register")
        return await self._models.register(_new_model(context, request, plan, task, model_id, outcome.bundle))

    async def _plan(self, context: JobContext, request: TrainRequest) -> _Plan:
        key = f"jobs/{context.job.job_id}/plan.json"
        if not await self._objects.exists(key):
            project_id = context.job.project_id
            names = request.annotations or tuple(await self._datastore.annotation_names(project_id))
            if not names:
                raise FailedPrecondition(
                    "NO_ANNOTATIONS",
                    f"project {project_id!r} has nothing to train on; annotate a region first",
                )
            newest = None if request.parent or request.from_scratch else await self._models.newest(project_id)
            parent = request.parent or (newest.model_id if newest else "")
            plan = json.dumps({"parent": parent, "annotations": names})
            await self._objects.put_if_absent(key, plan.encode())
        stored = json.loads(await self._objects.get(key))
        return _Plan(stored["parent"], tuple(stored["annotations"]))

    async def _forget_older_attempts(self, context: JobContext) -> None:
        # Nothing refers to their bundles: an attempt that registered one is never followed by another.
        ulid = context.job.job_id.partition("-")[2]
        for attempt in range(1, context.attempt):
            await self._objects.delete_prefix(f"{bundle_key(f'{ulid}-{attempt}')}/")

    async def _volumes(
        self, views: Sequence[AnnotationView], project: ProjectView
    ) -> dict[str, tuple[VolumeArray, int]]:
        found = {}
        for name in sorted({view.volume_name for view in views}):
            volume = await self._datastore.volume(name)
            factor = working_factor(project.working_resolution_nm, volume.voxel_size.y_nm)
            found[volume_id_of(name)] = (await volume_array(self._datastore, volume), factor)
        return found


def _blocks(
    views: Sequence[AnnotationView], project: ProjectView, seen: frozenset[str]
) -> tuple[AnnotationBlock, ...]:
    everything = frozenset(item.value for item in project.classes)
    return tuple(
        AnnotationBlock(
            name=view.name,
            volume_id=volume_id_of(view.volume_name),
            region=view.region,
            labels=view.labels,
            scope=view.scope or everything,
            seen_by_parent=view.name in seen,
        )
        for view in views
    )


def _new_model(
    context: JobContext,
    request: TrainRequest,
    plan: _Plan,
    task: TrainTask,
    model_id: str,
    bundle: TrainedBundle,
) -> NewModel:
    return NewModel(
        model_id=model_id,
        project_id=context.job.project_id,
        display_name=request.display_name,
        parent=plan.parent,
        network=bundle.network,
        classes=task.classes,
        working_resolution_nm=task.working_resolution_nm,
        weights_sha256=bundle.weights_sha256,
        annotations=plan.annotations,
        config=bundle.config,
        metrics=bundle.metrics,
        job=context.job.name,
        author=context.job.owner,
        remarks=bundle.remarks,
    )
