"""Checks of new jobs against the present state, before they are queued."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from biosegment.auth import Permission, Principal
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.ids import parse_name
from biosegment.jobs import Job, JobKind, Resources
from biosegment.jobs.convert import kind_of, spec_of
from biosegment.jobs.service import Prepare
from biosegment_trainer.compute.capacity import Capacity
from biosegment_trainer.convert import (
    asked_resources,
    instances_request,
    is_interactive,
    measure_request,
    predict_request,
    pretrain_request,
    score_request,
    train_request,
    with_model,
)
from biosegment_trainer.datastore_client import DatastoreClient, VolumeView
from biosegment_trainer.instances.source import InstanceSources
from biosegment_trainer.objects.job import ObjectLayers
from biosegment_trainer.prediction.measure import require_measures
from biosegment_trainer.prediction.requirement import PredictionRequirements
from biosegment_trainer.registry.model import Model
from biosegment_trainer.registry.use import usable_model
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.training.requirement import TrainingRequirements

WITHOUT_GPU: Final = frozenset({"instances", "measure_objects"})
"""Kinds of jobs that must not keep a network from one."""


class Admission:
    """Says no to jobs that cannot work, with the error that CreateJob answers."""

    def __init__(
        self,
        models: SqlModels,
        datastore: DatastoreClient,
        capacity: Capacity,
        predictions: PredictionRequirements,
        trainings: TrainingRequirements,
        object_layers: ObjectLayers,
    ) -> None:
        self._models = models
        self._datastore = datastore
        self._capacity = capacity
        self._predictions = predictions
        self._trainings = trainings
        self._object_layers = object_layers

    def kinds(self) -> dict[str, JobKind]:
        """The kinds of jobs that the trainer runs; those that somebody waits for before background work."""

        def kind(prepare: Prepare, priority: Callable[[bytes], int]) -> JobKind:
            return JobKind(Permission.MODEL_WRITE, prepare, priority, self.resources)

        return {
            "train": kind(self.train, lambda spec: 1 if is_interactive(spec) else 0),
            "predict": kind(self.predict, lambda spec: 1),
            "score": kind(self.score, lambda spec: 0),
            "pretrain": kind(self.pretrain, lambda spec: 0),
            "instances": kind(self.instances, lambda spec: 1),
            "measure_objects": kind(self.measure_objects, lambda spec: 1),
        }

    async def resources(self, spec: bytes) -> Resources:
        """What a job reserves; FailedPrecondition NO_NODE_LARGE_ENOUGH."""
        on_gpu = kind_of(spec_of(spec)) not in WITHOUT_GPU
        return await self._capacity.reserve(asked_resources(spec), on_gpu=on_gpu)

    async def recheck(self, job: Job) -> None:
        """Check a job when its turn has come: models and volumes may have been deleted.

        A training's handler leaves out the annotations that do not hold any more, when it makes its plan.
        """
        match job.kind:
            case "predict":
                predict = predict_request(job.spec)
                await self._segmenting_model(job.project_id, predict.model)
                await self._volumes(job.project_id, [predict.volume])
            case "score":
                score = score_request(job.spec)
                await self._segmenting_model(job.project_id, score.model)
                await self._volumes(job.project_id, score.volumes)
            case "instances":
                await InstanceSources(self._datastore).plan(job.project_id, instances_request(job.spec))
            case "pretrain":
                await self._volumes(job.project_id, pretrain_request(job.spec).volumes)

    async def train(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a training."""
        request = train_request(spec)
        if request.parent:
            await self._usable_model(project_id, request.parent)
        for name in request.annotations:
            if parse_name(name, "projects/*/volumes/*/annotations/*")[0] != project_id:
                raise InvalidArgument("OTHER_PROJECT", f"{name} is not of project {project_id!r}")
        if request.annotations:
            found = await self._datastore.annotations(request.annotations, with_labels=False)
            lost = [item.name for item in found if not item.holds]
            if lost:
                raise FailedPrecondition(
                    "ANNOTATION_DOES_NOT_HOLD",
                    f"{len(lost)} annotations were reverted or rejected, first {lost[0]}; leave them out",
                )
        elif not await self._datastore.annotation_names(project_id, limit=1):
            raise FailedPrecondition(
                "NO_ANNOTATIONS", f"project {project_id!r} has nothing to train on; annotate a region first"
            )
        await self._trainings.train(project_id, request, asked_resources(spec).gpus)
        return spec

    async def predict(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a prediction and name its model."""
        request = predict_request(spec)
        require_measures(request.measures)
        model_id = request.model
        if not model_id:
            newest = await self._models.newest(project_id)
            if newest is None:
                raise FailedPrecondition(
                    "NO_MODEL", f"project {project_id!r} has no model yet; train one first"
                )
            model_id = newest.model_id
        model = await self._segmenting_model(project_id, model_id)
        (volume,) = await self._volumes(project_id, [request.volume])
        if request.region is not None:
            request.region.require_within(volume.shape, volume.name)
        await self._predictions.predict(project_id, request, model, volume)
        return with_model(spec, model_id)

    async def score(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a scoring."""
        request = score_request(spec)
        require_measures(request.measures)
        if not request.measures or not request.volumes or len(set(request.volumes)) < len(request.volumes):
            raise InvalidArgument("BAD_SPEC", "name at least one measure, and at least one volume, each once")
        model = await self._segmenting_model(project_id, request.model)
        volumes = await self._volumes(project_id, request.volumes)
        await self._predictions.score(project_id, request, model, volumes)
        return spec

    async def pretrain(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a pretraining."""
        request = pretrain_request(spec)
        await self._volumes(project_id, request.volumes)
        await self._trainings.pretrain(project_id, request, asked_resources(spec).gpus)
        return spec

    async def instances(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a search for objects."""
        await InstanceSources(self._datastore).plan(project_id, instances_request(spec))
        return spec

    async def measure_objects(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a table of objects."""
        await self._object_layers.get(project_id, measure_request(spec).layer)
        return spec

    async def _segmenting_model(self, project_id: str, model_id: str) -> Model:
        model = await self._usable_model(project_id, model_id)
        if not any(item.value >= 2 for item in model.new.classes):
            raise FailedPrecondition(
                "NO_USABLE_CLASS",
                f"models/{model_id} knows none of the project's classes; fine-tune it on annotations first",
            )
        return model

    async def _usable_model(self, project_id: str, model_id: str) -> Model:
        return await usable_model(self._models, self._datastore, project_id, model_id)

    async def _volumes(self, project_id: str, names: Sequence[str]) -> Sequence[VolumeView]:
        for name in names:
            if parse_name(name, "projects/*/volumes/*")[0] != project_id:
                raise InvalidArgument("OTHER_PROJECT", f"{name} is not of project {project_id!r}")
        return await asyncio.gather(*(self._datastore.volume(name) for name in names))
