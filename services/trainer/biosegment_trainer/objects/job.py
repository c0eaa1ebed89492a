"""The `measure_objects` job: a table of the objects of a layer, and their meshes, as artifacts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import BiosegmentError, FailedPrecondition, InvalidArgument, NotFound
from biosegment.failpoint import failpoint
from biosegment.ids import parse_name
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.storage.objects import Objects
from biosegment_trainer.compute.dispatch import Dispatch, volume_array
from biosegment_trainer.compute.task import MeasureTask
from biosegment_trainer.convert import measure_request
from biosegment_trainer.datastore_client import ArtifactPlace, DatastoreClient, LayerView
from biosegment_trainer.objects.grid import ObjectGrid
from biosegment_trainer.request import MeasureRequest


@dataclass(frozen=True, slots=True)
class ObjectLayers:
    """Knows which layers have objects that can be measured."""

    datastore: DatastoreClient
    objects: Objects

    async def get(self, project_id: str, name: str) -> LayerView:
        """A committed layer of instances that may have objects.

        Raises:
            InvalidArgument: OTHER_PROJECT, NOT_INSTANCES.
            NotFound: LAYER_NOT_FOUND, also for one that is not committed.
            FailedPrecondition: NO_OBJECTS.
        """
        if parse_name(name, "projects/*/volumes/*/layers/*")[0] != project_id:
            raise InvalidArgument("OTHER_PROJECT", f"{name} is not of project {project_id!r}")
        layer = await self.datastore.layer(name)
        if not layer.committed:
            raise NotFound("LAYER_NOT_FOUND", f"there is no layer {name}")
        if layer.kind != "instances":
            raise InvalidArgument(
                "NOT_INSTANCES",
                f"{name} is a layer of {layer.kind}, which has no objects to measure; make a layer of instances from "
                "it, or import one",
            )
        # What is 0 everywhere is not stored.
        if not await self.objects.list(f"{layer.key}/c/"):
            raise FailedPrecondition("NO_OBJECTS", f"the layer {name} holds no object")
        return layer


class MeasuringJob:
    """Handler of `measure_objects`.

    Args:
        datastore: Where the layer is, and keeps the artifacts.
        objects: Where they are written.
        dispatch: The way to the worker.
    """

    def __init__(self, datastore: DatastoreClient, objects: Objects, dispatch: Dispatch) -> None:
        self._datastore = datastore
        self._objects = objects
        self._layers = ObjectLayers(datastore, objects)
        self._dispatch = dispatch

    async def __call__(self, context: JobContext) -> JobResult:
        """Make the artifacts, all or none."""
        job, request = context.job, measure_request(context.job.spec)
        ulid = job.job_id.partition("-")[2]
        kinds = ["csv", "parquet", *(["meshes"] if request.mesh_formats else [])]
        ids = [f"{ulid}-{kind}" for kind in kinds]
        names = tuple(f"projects/{job.project_id}/artifacts/{each}" for each in ids)
        # They appear together: one of them vouches for the others.
        if not await self._datastore.has_artifact(names[0]):
            await self._make(context, request, ids)
        return JobResult(artifact=names[0], artifacts=names)

    async def _make(self, context: JobContext, request: MeasureRequest, ids: Sequence[str]) -> None:
        project_id = context.job.project_id
        await context.progress(Progress(0.0, "looking at the layer"))
        layer = await self._layers.get(project_id, request.layer)
        places = [await self._datastore.create_artifact(project_id, each, context.attempt) for each in ids]
        try:
            task = await self._task(context, request, layer, places)
            outcome = await self._dispatch.run(context, task)
            failpoint("trainer.measure.before_commit")
            # Deleted or made anew meanwhile, it may have been read as zeros.
            if (await self._layers.get(project_id, request.layer)).key != layer.key:
                raise FailedPrecondition(
                    "SOURCE_CHANGED", f"{request.layer} was made anew while it was measured; measure it again"
                )
            await self._datastore.commit_artifacts(project_id, outcome.files, context.attempt)
        except BaseException:
            await asyncio.shield(self._forget(places))
            raise
        failpoint("trainer.measure.committed")

    async def _task(
        self,
        context: JobContext,
        request: MeasureRequest,
        layer: LayerView,
        places: Sequence[ArtifactPlace],
    ) -> MeasureTask:
        volume = await self._datastore.volume(request.volume)
        project = await self._datastore.project(context.job.project_id)
        named = [(place.name, place.key) for place in places]
        return MeasureTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context),
            threads=self._dispatch.threads,
            layer=layer.name,
            layer_key=layer.key,
            # Fixed here, so that all of the table speaks of one moment; it is the datastore's clock.
            edits_as_of=layer.edit_time,
            grid=ObjectGrid(
                volume.shape,
                volume.voxel_size,
                layer.shape,
                layer.downsampling,
                layer.region or volume.bounds,
            ),
            volume=await volume_array(self._datastore, volume),
            class_value=layer.class_value,
            class_name=next((item.name for item in project.classes if item.value == layer.class_value), ""),
            file_stem=layer.name.rpartition("/")[2],
            csv=named[0],
            parquet=named[1],
            meshes=named[2] if request.mesh_formats else None,
            mesh_formats=request.mesh_formats,
            mesh_cell_nm=request.mesh_cell_nm,
        )

    async def _forget(self, places: Sequence[ArtifactPlace]) -> None:
        """Remove what was written; the commit may have been done, and only its answer lost."""
        # The datastore gives up a place that is left some day, too.
        with contextlib.suppress(BiosegmentError):
            if not await self._datastore.has_artifact(places[0].name):
                for place in places:
                    await self._objects.delete_prefix(f"{place.key}/")
