"""The `predict` and `score` jobs: layers that a worker fills and that appear when they are complete."""

from __future__ import annotations

from collections.abc import Sequence

from biosegment.failpoint import failpoint
from biosegment.jobs import JobCancelled, JobContext, JobResult, JobState, Progress, SqlJobs
from biosegment.volume import Index, Region
from biosegment_trainer.compute.dispatch import Dispatch, volume_array
from biosegment_trainer.compute.task import PredictTask
from biosegment_trainer.convert import predict_request, score_request
from biosegment_trainer.datastore_client import (
    DatastoreClient,
    LayerView,
    NewLayer,
    VolumeView,
)
from biosegment_trainer.prediction.block import BlockPlan, working_factor
from biosegment_trainer.registry.model import Model
from biosegment_trainer.sql import SqlModels


class PredictionJob:
    """Handlers of `predict` and `score`."""

    def __init__(
        self, models: SqlModels, datastore: DatastoreClient, jobs: SqlJobs, dispatch: Dispatch
    ) -> None:
        self._models = models
        self._datastore = datastore
        self._jobs = jobs
        self._dispatch = dispatch

    async def predict(self, context: JobContext) -> JobResult:
        """Labels of a volume, and what else was asked for."""
        request = predict_request(context.job.spec)
        model = await self._models.get(request.model)
        volume = await self._datastore.volume(request.volume)
        plan = _plan(model, volume, request.region)
        values = [item.value for item in model.new.classes] if request.probabilities else []
        layers = _layers(context, model, volume, plan, request.region, True, values, request.measures)
        return JobResult(layers=tuple(await self._fill(context, model, volume, plan, layers, 0.0, 1.0)))

    async def score(self, context: JobContext) -> JobResult:
        """Score maps of several volumes; gives way to a newer scoring of the project."""
        request = score_request(context.job.spec)
        model = await self._models.get(request.model)
        names: list[str] = []
        for number, name in enumerate(request.volumes):
            await self._give_way(context)
            volume = await self._datastore.volume(name)
            plan = _plan(model, volume, None)
            layers = _layers(context, model, volume, plan, None, False, [], request.measures)
            first, last = number / len(request.volumes), (number + 1) / len(request.volumes)
            names += await self._fill(context, model, volume, plan, layers, first, last)
        return JobResult(layers=tuple(names))

    async def _give_way(self, context: JobContext) -> None:
        queued = await self._jobs.list(context.job.project_id, (JobState.QUEUED,), limit=100)
        newer = [job for job in queued if job.kind == "score" and job.job_id > context.job.job_id]
        if newer:
            await context.log(f"cancelled: {newer[0].name} scores the project anew")
            raise JobCancelled

    async def _fill(
        self,
        context: JobContext,
        model: Model,
        volume: VolumeView,
        plan: BlockPlan,
        layers: Sequence[NewLayer],
        first: float,
        last: float,
    ) -> Sequence[str]:
        """Make, fill and commit layers; returns their names."""
        model.require_weights()
        await context.progress(Progress(first, "making layers"))
        made = [await self._datastore.create_layer(volume.name, layer, context.attempt) for layer in layers]
        failpoint("trainer.predict.layers_made")
        if not any(layer.committed for layer in made):
            # Whatever an older attempt wrote, or still writes, lies elsewhere.
            if context.attempt > 1:
                made = [await self._datastore.restart_layer(layer.name) for layer in made]
            task = await self._task(context, model, volume, plan, layers, made, first, last)
            try:
                await self._dispatch.run(context, task)
            except JobCancelled:
                for layer in made:
                    await self._datastore.delete_layer(layer.name)
                raise
        failpoint("trainer.predict.before_commit")
        # Commits begin when all layers are complete: one that is committed vouches for the others.
        for layer in made:
            if not layer.committed:
                await self._datastore.commit_layer(layer)
        return [layer.name for layer in made]

    async def _task(
        self,
        context: JobContext,
        model: Model,
        volume: VolumeView,
        plan: BlockPlan,
        layers: Sequence[NewLayer],
        made: Sequence[LayerView],
        first: float,
        last: float,
    ) -> PredictTask:
        keys = [(layer, view.key) for layer, view in zip(layers, made, strict=True)]
        return PredictTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context, first, last),
            threads=self._dispatch.threads,
            bundle_key=model.bundle_key,
            classes=model.new.classes,
            volume=await volume_array(self._datastore, volume),
            plan=plan,
            labels=next((key for layer, key in keys if layer.kind == "labels"), ""),
            probabilities={layer.class_value: key for layer, key in keys if layer.kind == "probabilities"},
            scores={layer.measure: key for layer, key in keys if layer.kind == "score_map"},
        )


def _plan(model: Model, volume: VolumeView, region: Region | None) -> BlockPlan:
    factor = working_factor(model.new.working_resolution_nm, volume.voxel_size.y_nm)
    return BlockPlan.of(factor, region or volume.bounds)


def _layers(
    context: JobContext,
    model: Model,
    volume: VolumeView,
    plan: BlockPlan,
    region: Region | None,
    labels: bool,
    class_values: Sequence[int],
    measures: Sequence[str],
) -> list[NewLayer]:
    """The layers of a job in one volume; their ids follow from the job, so that every attempt means the
    same.
    """
    ulid = context.job.job_id.partition("-")[2]

    def layer(
        suffix: str, what: str, kind: str, dtype: str, layout: tuple[Index, Index]
    ) -> dict[str, object]:
        return {
            "layer_id": f"{ulid}-{suffix}",
            "display_name": f"{what} by {model.display_name}"[:200],
            "kind": kind,
            "dtype": dtype,
            "chunk": layout[0],
            "shard": layout[1],
            "region": region,
            "model": model.name,
            "job": context.job.name,
        }

    names = {item.value: item.name for item in model.new.classes}
    found: list[NewLayer] = []
    if labels:
        fields = layer("labels", "Labels", "labels", "uint8", plan.labels_layout)
        found.append(NewLayer(downsampling=Index(1, 1, 1), **fields))  # type: ignore[arg-type]
    for value in class_values:
        fields = layer(
            f"p{value}", f"Probability of {names[value]}", "probabilities", "uint8", plan.probabilities_layout
        )
        down = plan.probabilities_downsampling
        found.append(NewLayer(downsampling=down, class_value=value, **fields))  # type: ignore[arg-type]
    for measure in measures:
        suffix = measure.replace("_", "-")
        fields = layer(suffix, measure, "score_map", "float16", plan.scores_layout)
        down = plan.scores_downsampling
        found.append(NewLayer(downsampling=down, measure=measure, **fields))  # type: ignore[arg-type]
    return found
