"""Checks of new jobs against the present state, before they are queued."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from biosegment.auth import Permission, Principal
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from biosegment.ids import parse_name
from biosegment.jobs import JobKind
from biosegment_trainer.convert import (
    is_interactive,
    predict_request,
    score_request,
    train_request,
    with_model,
)
from biosegment_trainer.datastore_client import DatastoreClient, VolumeView
from biosegment_trainer.prediction.measure import require_measures
from biosegment_trainer.registry.model import Model
from biosegment_trainer.sql import SqlModels


class Admission:
    """Says no to jobs that cannot work, with the error that CreateJob answers."""

    def __init__(self, models: SqlModels, datastore: DatastoreClient) -> None:
        self._models = models
        self._datastore = datastore

    def kinds(self) -> dict[str, JobKind]:
        """The kinds of jobs that the trainer runs."""
        return {
            "train": JobKind(
                Permission.MODEL_WRITE, self.train, lambda spec: 1 if is_interactive(spec) else 0
            ),
            "predict": JobKind(Permission.MODEL_WRITE, self.predict),
            "score": JobKind(Permission.MODEL_WRITE, self.score),
        }

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
        await self._usable_model(project_id, model_id)
        (volume,) = await self._volumes(project_id, [request.volume])
        if request.region is not None:
            request.region.require_within(volume.shape, volume.name)
        return with_model(spec, model_id)

    async def score(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a scoring."""
        request = score_request(spec)
        if request.max_pixels:
            raise Unimplemented("MAX_PIXELS", "scoring a part of a volume is not in this release; send 0")
        require_measures(request.measures)
        if not request.measures or not request.volumes or len(set(request.volumes)) < len(request.volumes):
            raise InvalidArgument("BAD_SPEC", "name at least one measure, and at least one volume, each once")
        await self._usable_model(project_id, request.model)
        await self._volumes(project_id, request.volumes)
        return spec

    async def _usable_model(self, project_id: str, model_id: str) -> Model:
        model = await self._models.get(model_id)
        if model.new.project_id != project_id:
            # As if there were none: names of other projects' models are nobody's business.
            raise NotFound("MODEL_NOT_FOUND", f"project {project_id!r} has no model models/{model_id}")
        model.require_weights()
        return model

    async def _volumes(self, project_id: str, names: Sequence[str]) -> Sequence[VolumeView]:
        for name in names:
            if parse_name(name, "projects/*/volumes/*")[0] != project_id:
                raise InvalidArgument("OTHER_PROJECT", f"{name} is not of project {project_id!r}")
        return await asyncio.gather(*(self._datastore.volume(name) for name in names))
