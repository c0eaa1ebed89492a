"""The `train` job: gathers what a worker needs and registers what it made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import FailedPrecondition
from biosegment.failpoint import failpoint
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.storage.objects import Objects
from biosegment.volume import Region
from biosegment_trainer.compute.dispatch import Dispatch
from biosegment_trainer.compute.task import AnnotationBlock, Parent, TrainedBundle, TrainTask
from biosegment_trainer.convert import train_request
from biosegment_trainer.datastore_client import AnnotationView, DatastoreClient, ProjectView, volume_id_of
from biosegment_trainer.registry.model import Model, NewModel, bundle_key
from biosegment_trainer.request import TrainRequest
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.training.contradiction import undisputed
from biosegment_trainer.training.gathering import (
    forget_older_attempts,
    gather_volumes,
    model_id,
    processes,
    volumes_of,
)
from biosegment_trainer.training.parent import ParentChoice


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an attempt trains on; fixed by the first attempt, so that later ones go on with the same run.

    Annotations that were rejected or reverted while the job waited are not part of it. Those of which that, or an
    acceptance, becomes known to a later attempt are trained on as they were: what the attempts did before could not be
    undone, and the weights would depend on when the job was interrupted.

    Attributes:
        parent: Model id; empty for none.
        annotations: Names.
        accepted: Those of them that a reviewer had accepted; None where an older release made the plan.
        by_default: Nobody chose the parent: it is the platform's.
    """

    parent: str
    annotations: tuple[str, ...]
    accepted: frozenset[str] | None
    by_default: bool

    def as_planned(self, views: Sequence[AnnotationView]) -> list[AnnotationView]:
        """Annotations as reviewers had judged them when the plan was made."""
        if self.accepted is None:
            return list(views)
        return [replace(view, is_accepted=view.name in self.accepted) for view in views]


class TrainingJob:
    """Handler of `train`."""

    def __init__(
        self,
        models: SqlModels,
        datastore: DatastoreClient,
        objects: Objects,
        dispatch: Dispatch,
        parents: ParentChoice,
    ) -> None:
        """Nothing is started yet.

        Args:
            models: The registry.
            datastore: Where annotations are.
            objects: Where plans and checkpoints are kept.
            dispatch: Runs tasks.
            parents: Choose the models to start from.
        """
        self._parents = parents
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
            parent.require_use_by(job.project_id)
        if parent is not None and plan.by_default:
            await context.log(_on_default(parent))
        project = await self._datastore.project(job.project_id)
        views = plan.as_planned(await self._datastore.annotations(plan.annotations, with_labels=True))
        resolution = float(request.options.get("working_resolution_nm", project.working_resolution_nm))
        gathered = await gather_volumes(self._datastore, volumes_of(plan.annotations), resolution, parent)
        for remark in gathered.remarks:
            await context.log(remark)
        await forget_older_attempts(self._objects, context)
        task = TrainTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context),
            threads=self._dispatch.threads,
            workers=processes(job.resources.gpus, request.options),
            gpus=job.resources.gpus,
            display_name=request.display_name,
            bundle_key=bundle_key(model_id(context)),
            checkpoints=f"jobs/{job.job_id}",
            classes=project.classes,
            working_resolution_nm=gathered.working_resolution_nm,
            annotations=_blocks(views, project, await acquaintance(self._models, parent)),
            volumes=gathered.volumes,
            voxel_size_nm=gathered.voxel_size_nm,
            parent=Parent(parent.name, parent.bundle_key, parent.new.classes) if parent else None,
            seed=request.seed,
            max_steps=request.max_steps,
            max_seconds=request.max_seconds,
            options=request.options,
        )
        outcome = await self._dispatch.run(context, task)
        assert outcome.bundle is not None
        failpoint("trainer.train.before_register")
        new = _new_model(context, request, plan, task, outcome.bundle, parent)
        new = replace(new, remarks=(*gathered.remarks, *new.remarks))
        return await self._models.register(new, context.attempt)

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
            views = await self._holding(context, names)
            parent, by_default = await self._parents.choose(project_id, request)
            plan = {
                "parent": parent,
                "annotations": [view.name for view in views],
                "accepted": [view.name for view in views if view.is_accepted],
                "by_default": by_default,
            }
            await self._objects.put_if_absent(key, json.dumps(plan).encode())
        stored = json.loads(await self._objects.get(key))
        accepted = frozenset(stored["accepted"]) if "accepted" in stored else None
        return _Plan(
            stored["parent"], tuple(stored["annotations"]), accepted, stored.get("by_default", False)
        )

    async def _holding(self, context: JobContext, names: Sequence[str]) -> list[AnnotationView]:
        """Those annotations that still hold; the others are named in the log.

        Raises:
            FailedPrecondition: ANNOTATION_DOES_NOT_HOLD when none is left.
        """
        found = await self._datastore.annotations(names, with_labels=False)
        lost = [view for view in found if not view.holds]
        for view in lost:
            await context.log(f"{view.name} is left out: it was {view.state} while the job waited")
        if len(lost) == len(found):
            raise FailedPrecondition(
                "ANNOTATION_DOES_NOT_HOLD",
                f"all {len(lost)} annotations were reverted or rejected while the job waited, first {lost[0].name}; "
                "train on others, or annotate anew",
            )
        return [view for view in found if view.holds]


def _blocks(
    views: Sequence[AnnotationView], project: ProjectView, known: Acquaintance
) -> tuple[AnnotationBlock, ...]:
    everything = frozenset(item.value for item in project.classes)
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for view in views:
        if view.name in known.seen:
            boxes.setdefault(view.volume_name, []).append((*view.region.start, *view.region.stop))
    seen = {volume: np.array(found) for volume, found in boxes.items()}
    # Two people's annotations of one place are one place to test on: as two they would make chance look smaller. The
    # last one counts, and none where a parent was tested before.
    learnt = undisputed(views, everything)
    places = {(view.volume_name, view.region): view.name for view in learnt}
    met = {(view.volume_name, view.region) for view in views if view.name in known.met}
    return tuple(
        AnnotationBlock(
            name=view.name,
            volume_id=volume_id_of(view.volume_name),
            region=view.region,
            labels=view.labels,
            scope=view.scope or everything,
            seen_by_parent=view.name in known.seen,
            # Who annotates a region again does not make it new.
            new=places[view.volume_name, view.region] == view.name
            and (view.volume_name, view.region) not in met
            and not _touches(view.region, seen.get(view.volume_name)),
        )
        for view in learnt
    )


def _touches(region: Region, boxes: NDArray[np.int64] | None) -> bool:
    """Whether a region shares a voxel with one of many, each a row of start and stop."""
    if boxes is None:
        return False
    return bool(((boxes[:, :3] < region.stop) & (boxes[:, 3:] > region.start)).all(1).any())


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """What a model and its ancestors had to do with annotations.

    Attributes:
        seen: Those that shaped its weights; what was held out may hold out again.
        met: Those, and those that were held out, or that a parent was tested on before a training.
    """

    seen: frozenset[str] = frozenset()
    met: frozenset[str] = frozenset()


async def acquaintance(models: SqlModels, model: Model | None) -> Acquaintance:
    """Of a model with annotations, by itself or an ancestor; of none, none."""
    seen: frozenset[str] = frozenset()
    met: frozenset[str] = frozenset()
    while model is not None:
        annotations, config = frozenset(model.new.annotations), model.new.config
        seen |= annotations - frozenset(config.get("withheld_annotations", ()))
        met |= annotations | frozenset(config.get("tested_annotations", ()))
        model = await models.get(model.new.parent) if model.new.parent else None
    return Acquaintance(seen, met)


def _new_model(
    context: JobContext,
    request: TrainRequest,
    plan: _Plan,
    task: TrainTask,
    bundle: TrainedBundle,
    parent: Model | None,
) -> NewModel:
    kept = parent if bundle.parent_kept else None
    return NewModel(
        model_id=model_id(context),
        project_id=context.job.project_id,
        display_name=request.display_name,
        parent=plan.parent,
        network=bundle.network,
        classes=task.classes,
        working_resolution_nm=task.working_resolution_nm,
        weights_sha256=bundle.weights_sha256,
        # Weights that are the parent's have seen what the parent has, and no more.
        annotations=kept.new.annotations if kept else plan.annotations,
        config=bundle.config,
        metrics=bundle.metrics,
        job=context.job.name,
        author=context.job.owner,
        data_license=bundle.data_license,
        remarks=(_on_default(parent), *bundle.remarks) if parent and plan.by_default else bundle.remarks,
    )


def _on_default(parent: Model) -> str:
    """What a user should know who did not choose the parent."""
    return (
        f"started from {parent.display_name}, which is shipped with the platform, since the project had no model; "
        f"terms of its data bind this model too: {parent.new.data_license or 'not recorded'} "
        "(train from scratch to be free of them)"
    )
