"""The `instances` job: a layer of ids that workers fill, stage by stage, and that appears when it is complete."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Final

import numpy as np

from biosegment.errors import AlreadyExists, DeadlineExceeded, FailedPrecondition
from biosegment.failpoint import failpoint
from biosegment.jobs import JobCancelled, JobContext, JobResult, Progress
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.objects import Objects
from biosegment.volume import Index
from biosegment_trainer.compute.dispatch import Dispatch
from biosegment_trainer.convert import instances_request
from biosegment_trainer.datastore_client import DatastoreClient, LayerView, NewLayer
from biosegment_trainer.instances.actor import InstancesActor
from biosegment_trainer.instances.source import InstanceSources, InstancesPlan
from biosegment_trainer.instances.task import JOINS, InstancesTask, Stage
from biosegment_trainer.prediction.block import BlockId
from biosegment_trainer.prediction.crew import Crew
from biosegment_trainer.prediction.ledger import note_layers
from biosegment_trainer.prediction.pool import BlockPool, PoolState, PoolWatch
from biosegment_trainer.request import InstancesRequest

_CHUNK: Final = Index(16, 128, 128)
_SHARD: Final = Index(256, 256, 256)
_SAID: Final = {
    Stage.LABEL: "looking for objects",
    Stage.JOIN_SEEDS: "joining seeds",
    Stage.FLOOD: "parting objects",
    Stage.JOIN: "joining objects",
    Stage.WRITE: "writing",
}


@dataclass(frozen=True, slots=True)
class _Work:
    """A job with all that it needs."""

    context: JobContext
    task: InstancesTask
    todo: dict[Stage, list[BlockId]]
    total: int

    @property
    def left(self) -> int:
        return sum(map(len, self.todo.values()))


class InstancesJob:
    """Handler of `instances`.

    Args:
        datastore: Where the layers are.
        objects: Where blocks of earlier attempts lie.
        dispatch: The way to the workers.
        max_workers: Most workers of one job; 0 for as many as there is room for.
    """

    def __init__(self, datastore: DatastoreClient, objects: Objects, dispatch: Dispatch, crew: Crew) -> None:
        self._datastore = datastore
        self._sources = InstanceSources(datastore)
        self._objects = objects
        self._dispatch = dispatch
        self._crew = crew

    async def __call__(self, context: JobContext) -> JobResult:
        """Make, fill and commit the layer."""
        request = instances_request(context.job.spec)
        plan = await self._sources.plan(context.job.project_id, request)
        new = _new_layer(context, request, plan)
        name = f"{plan.volume.name}/layers/{new.layer_id}"
        try:
            await self._make(context, request, plan, new)
        except JobCancelled:
            await self._datastore.drop_layer(name)
            raise
        return JobResult(layers=(name,))

    async def _make(
        self, context: JobContext, request: InstancesRequest, plan: InstancesPlan, new: NewLayer
    ) -> None:
        await context.progress(Progress(0.0, "making the layer"))
        await note_layers(self._objects, context.job.job_id, [f"{plan.volume.name}/layers/{new.layer_id}"])
        layer = await self._datastore.create_layer(plan.volume.name, new, context.attempt)
        if not layer.committed:
            if context.attempt > 1:
                # Whatever an older attempt wrote, or still writes, lies elsewhere.
                layer = await self._datastore.restart_layer(layer.name)
            task = self._task(context, plan, layer)
            await asyncio.to_thread(_make_arrays, task)
            await self._compute(context, task)
            await self._tell(context, task, request)
            # Deleted or made anew meanwhile, a source may have been read as zeros.
            again = await self._sources.plan(context.job.project_id, request)
            if (again.source, again.boundary) != (plan.source, plan.boundary):
                raise FailedPrecondition(
                    "SOURCE_CHANGED", f"{request.layer} was made anew meanwhile; look for its objects again"
                )
            failpoint("trainer.instances.before_commit")
            await self._datastore.commit_layer(layer)
        await self._objects.delete_prefix(f"jobs/{context.job.job_id}/")

    def _task(self, context: JobContext, plan: InstancesPlan, layer: LayerView) -> InstancesTask:
        return InstancesTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context),
            source=plan.source,
            boundary=plan.boundary,
            target=layer.key,
            cut=plan.cut(layer.shard),
            separation=plan.separation,
        )

    async def _compute(self, context: JobContext, task: InstancesTask) -> None:
        """Have everything done that no earlier attempt did."""
        done = set(await self._objects.list(f"{task.prefix}/"))
        todo = {
            stage: [
                BlockId(place, number)
                for number in task.numbers(stage)
                if task.done_key(stage, number) not in done
            ]
            for place, stage in enumerate(task.stages)
        }
        total = sum(len(task.numbers(stage)) for stage in task.stages)
        work = _Work(context, task, todo, total)
        if total > work.left:
            await context.log(f"{total - work.left} pieces of work were done before; {work.left} are left")
        await context.progress(Progress(1 - work.left / total, "waiting for workers"))
        try:
            async with asyncio.timeout(self._dispatch.timeout_s), self._dispatch.cluster(context) as cluster:
                pool = BlockPool(
                    cluster,
                    await self._crew.worker(cluster, context.job, max(map(len, todo.values()))),
                    self._dispatch.silence_s,
                    self._crew.most,
                    actor=InstancesActor,
                    keep=True,
                )
                try:
                    for stage in task.stages:
                        await self._run(pool, work, stage)
                finally:
                    await pool.close()
        except TimeoutError:
            limit_s = self._dispatch.timeout_s
            raise DeadlineExceeded(
                "JOB_TOO_SLOW", f"the job took longer than the {limit_s:g} s that the trainer allows"
            ) from None

    async def _run(self, pool: BlockPool, work: _Work, stage: Stage) -> None:
        task, context = work.task, work.context
        pieces = work.todo.pop(stage)
        before = work.total - work.left - len(pieces)

        async def progress(state: PoolState) -> None:
            context.raise_if_cancelled()
            done = before + state.done
            what = _SAID[stage] if state.workers or state.done else "waiting for workers"
            await context.progress(
                Progress(done / work.total, what, done, work.total, "pieces of work"),
                {"workers": float(state.workers)},
            )

        async def is_done(piece: BlockId) -> bool:
            return await self._objects.exists(task.done_key(stage, piece.number))

        def name(piece: BlockId) -> str:
            return _SAID[stage] if stage in JOINS else f"{_SAID[stage]} in {task.cut.core(piece.number)}"

        if pieces:
            watch = PoolWatch(progress, is_done, name, lambda line: context.log(line))
            await pool.run(task, pieces, context.cancelled, watch)

    async def _tell(self, context: JobContext, task: InstancesTask, request: InstancesRequest) -> None:
        found = json.loads(await self._objects.get(task.done_key(Stage.JOIN, 0)))
        dropped = ""
        if found["dropped"]:
            dropped = f"; {found['dropped']} of fewer than {request.min_size_voxels} voxels were dropped"
        await context.log(f"{found['objects']} objects{dropped}")


def _new_layer(context: JobContext, request: InstancesRequest, plan: InstancesPlan) -> NewLayer:
    """The layer of a job; its id follows from the job, so that every attempt means the same."""
    what = plan.class_name or f"class {plan.class_value}"
    return NewLayer(
        layer_id=f"{context.job.job_id.partition('-')[2]}-instances",
        display_name=request.display_name or f"Objects of {what}"[:200],
        kind="instances",
        dtype="uint32",
        downsampling=plan.layer.downsampling,
        chunk=_CHUNK,
        shard=_SHARD,
        region=plan.layer.region,
        model="",
        job=context.job.name,
        class_value=plan.class_value,
        source_layer=plan.layer.name,
    )


def _make_arrays(task: InstancesTask) -> None:
    """The arrays between the stages; those of an earlier attempt serve."""
    arrays = Arrays(task.store)
    for stage in {Stage.LABEL, task.found}:
        layout = ArrayLayout(tuple(task.cut.block), _chunk_of(task.cut.block))
        with contextlib.suppress(AlreadyExists):
            arrays.create(task.ids_key(stage), tuple(task.cut.shape), np.uint32, layout=layout)


def _chunk_of(shard: Index) -> tuple[int, ...]:
    """The usual chunk, or the whole edge where the shard is no multiple of it."""
    return tuple(inner if edge % inner == 0 else edge for inner, edge in zip(_CHUNK, shard, strict=True))
