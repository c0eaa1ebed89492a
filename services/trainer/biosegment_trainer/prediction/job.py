"""The `predict` and `score` jobs: layers that workers fill and that appear when they are complete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from biosegment.errors import DeadlineExceeded
from biosegment.failpoint import failpoint
from biosegment.jobs import JobCancelled, JobContext, JobResult, Progress, SqlJobs
from biosegment.storage.objects import Objects
from biosegment_trainer.compute.dispatch import Dispatch, volume_array
from biosegment_trainer.convert import predict_request, score_request
from biosegment_trainer.datastore_client import DatastoreClient, LayerView
from biosegment_trainer.prediction.block import BlockId
from biosegment_trainer.prediction.budget import Candidate, choose
from biosegment_trainer.prediction.crew import Crew
from biosegment_trainer.prediction.earlier import earlier_scores, keep
from biosegment_trainer.prediction.layer import Wanted, require_layout, size_remarks, wanted_layers
from biosegment_trainer.prediction.ledger import entry_key, note_layers, take_over
from biosegment_trainer.prediction.network import network_facts
from biosegment_trainer.prediction.pool import BlockPool, PoolState, PoolWatch
from biosegment_trainer.prediction.supersession import newer_scoring
from biosegment_trainer.prediction.task import MODEL_VERSION, Member, PredictTask, VolumePart
from biosegment_trainer.registry.model import Model
from biosegment_trainer.registry.use import usable_model
from biosegment_trainer.request import Passes
from biosegment_trainer.sql import SqlModels

_GIVE_WAY_EVERY_S: Final = 1.0
_ACCELERATED_PIXELS: Final = 20_000_000
"""Working pixels from which on an inference library pays."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A job's work, whatever its kind.

    Attributes:
        max_pixels: Of a scoring; 0 for all.
        check: Called every second or so; may raise JobCancelled.
    """

    model: Model
    wanted: Sequence[Wanted]
    passes: Passes
    ortho_planes: bool = False
    max_pixels: int = 0
    check: Callable[[], Awaitable[None]] | None = None

    @property
    def layer_names(self) -> list[str]:
        return [f"{each.volume.name}/layers/{new.layer_id}" for each in self.wanted for new in each.layers]


class PredictionJob:
    """Handlers of `predict` and `score`.

    Args:
        models: Of all projects.
        datastore: Where the layers are made.
        jobs: Newer scorings are looked for there.
        objects: Where blocks of earlier attempts and scorings lie.
        dispatch: The way to the workers.
        max_workers: Most workers of one job; 0 for as many as there is room for.
    """

    def __init__(
        self,
        models: SqlModels,
        datastore: DatastoreClient,
        jobs: SqlJobs,
        objects: Objects,
        dispatch: Dispatch,
        crew: Crew,
    ) -> None:
        self._models = models
        self._datastore = datastore
        self._jobs = jobs
        self._objects = objects
        self._dispatch = dispatch
        self._crew = crew

    async def predict(self, context: JobContext) -> JobResult:
        """Labels of a volume, and what else was asked for."""
        request = predict_request(context.job.spec)
        model = await self._model(context, request.model)
        volume = await self._datastore.volume(request.volume)
        values = [item.value for item in model.new.classes if item.value] if request.probabilities else []
        wanted = wanted_layers(
            context.job,
            model,
            volume,
            request.region,
            labels=True,
            class_values=values,
            measures=request.measures,
            network=await network_facts(self._objects, model.bundle_key),
            ortho_planes=request.ortho_planes,
        )
        return await self._run(context, _Work(model, [wanted], request.passes, request.ortho_planes))

    async def score(self, context: JobContext) -> JobResult:
        """Score maps of several volumes; gives way to the scoring of a newer model of the project."""
        request = score_request(context.job.spec)
        model = await self._model(context, request.model)

        async def give_way() -> None:
            newer = await newer_scoring(self._jobs, self._models, context.job, model)
            if newer:
                await context.log(f"cancelled: {newer} scores the project with a newer model")
                raise JobCancelled

        await give_way()
        network = await network_facts(self._objects, model.bundle_key)
        wanted = [
            wanted_layers(
                context.job,
                model,
                await self._datastore.volume(name),
                None,
                labels=False,
                class_values=(),
                measures=(*request.measures, MODEL_VERSION),
                network=network,
            )
            for name in request.volumes
        ]
        work = _Work(model, wanted, request.passes, max_pixels=request.max_pixels, check=give_way)
        return await self._run(context, work)

    async def _model(self, context: JobContext, model_id: str) -> Model:
        return await usable_model(self._models, self._datastore, context.job.project_id, model_id)

    async def _run(self, context: JobContext, work: _Work) -> JobResult:
        try:
            await self._fill(context, work)
        except JobCancelled:
            for name in work.layer_names:
                await self._datastore.drop_layer(name)
            raise
        return JobResult(layers=tuple(work.layer_names))

    async def _fill(self, context: JobContext, work: _Work) -> None:
        """Make, fill and commit the layers."""
        work.model.require_weights()
        for each in work.wanted:
            await context.log(*size_remarks(work.model, each.volume))
        await context.progress(Progress(0.0, "making layers"))
        await note_layers(self._objects, context.job.job_id, work.layer_names)
        made = [
            [
                await self._datastore.create_layer(each.volume.name, new, context.attempt)
                for new in each.layers
            ]
            for each in work.wanted
        ]
        for each, layers in zip(work.wanted, made, strict=True):
            require_layout(each.layers, layers)
        failpoint("trainer.predict.layers_made")
        if not any(layer.committed for layers in made for layer in layers):
            if context.attempt > 1:
                # Whatever an older attempt wrote, or still writes, lies elsewhere.
                made = [
                    [await self._datastore.restart_layer(layer.name) for layer in layers] for layers in made
                ]
            await self._compute(context, work, await self._task(context, work, made))
        failpoint("trainer.predict.before_commit")
        # Commits begin when all layers are complete: one that is committed vouches for the others.
        for layer in (layer for layers in made for layer in layers):
            if not layer.committed:
                await self._datastore.commit_layer(layer)
        await self._objects.delete_prefix(f"jobs/{context.job.job_id}/")

    async def _task(
        self, context: JobContext, work: _Work, made: Sequence[Sequence[LayerView]]
    ) -> PredictTask:
        parts = [
            each.part(await volume_array(self._datastore, each.volume), layers)
            for each, layers in zip(work.wanted, made, strict=True)
        ]
        members = [work.model, *[await self._model(context, name) for name in work.passes.ensemble]]
        return PredictTask(
            store=self._dispatch.store,
            callback=self._dispatch.callback(context),
            threads=context.job.resources.cpus or self._dispatch.threads,
            members=tuple(Member(model.bundle_key, model.new.classes) for model in members),
            version=work.model.version_in_project,
            parts=tuple(parts),
            mc_dropout=work.passes.mc_dropout,
            test_time_augmentation=work.passes.test_time_augmentation,
            ortho_planes=work.ortho_planes,
        )

    async def _compute(self, context: JobContext, work: _Work, task: PredictTask) -> None:
        """Have all blocks done that no earlier attempt did."""
        await context.progress(Progress(0.0, "looking for what is done"))
        job_id, attempt = context.job.job_id, context.attempt
        every = {
            BlockId(index, number)
            for index, part in enumerate(task.parts)
            for number in part.blocks.numbers()
        }
        done = await self._taken_over(context, task) if attempt > 1 else set()
        due = every
        if work.max_pixels:
            due = await self._chosen(context, task.parts, work.max_pixels, done)
        todo = sorted(due - done)
        if done:
            await context.log(f"{len(done)} blocks were done before; {len(todo)} are left")
        # By the whole job's size, lest its attempts differ: getting an accelerator ready costs seconds.
        pixels = sum(task.parts[block.part].blocks.pixels(block.number) for block in due)
        task = replace(task, backend="auto" if pixels >= _ACCELERATED_PIXELS else "eager")
        watch = _Watch(context, work.check, len(done), len(done) + len(todo))

        async def is_done(block: BlockId) -> bool:
            key = entry_key(job_id, attempt, task.parts[block.part], block.number)
            return await self._objects.exists(key)

        def name(block: BlockId) -> str:
            part = task.parts[block.part]
            return f"block {block.number} of {part.volume.name} ({part.blocks.computed(block.number)})"

        if not todo:
            return
        await context.progress(Progress(watch.fraction(0), "waiting for workers"))
        try:
            async with asyncio.timeout(self._dispatch.timeout_s), self._dispatch.cluster(context) as cluster:
                worker = await self._crew.worker(cluster, context.job, len(todo))
                pool = BlockPool(cluster, worker, self._dispatch.silence_s, self._crew.most)
                task = replace(task, threads=worker.cpus or task.threads)
                asks = PoolWatch(watch.progress, is_done, name, lambda line: context.log(line))
                await pool.run(task, todo, context.cancelled, asks)
        except TimeoutError:
            limit_s = self._dispatch.timeout_s
            raise DeadlineExceeded(
                "JOB_TOO_SLOW", f"the job took longer than the {limit_s:g} s that the trainer allows"
            ) from None
        await context.log(f"{len(todo)} blocks done by {watch.most_workers} workers")

    async def _taken_over(self, context: JobContext, task: PredictTask) -> set[BlockId]:
        check = context.raise_if_cancelled
        return await take_over(self._objects, context.job.job_id, context.attempt, task.parts, check)

    async def _chosen(
        self, context: JobContext, parts: Sequence[VolumePart], max_pixels: int, done: set[BlockId]
    ) -> set[BlockId]:
        """Blocks to score again; the others get what an earlier scoring found."""
        earlier = [
            await earlier_scores(
                self._dispatch.store, await self._datastore.score_maps(part.volume.name), part
            )
            for part in parts
        ]
        candidates = [
            Candidate(
                BlockId(index, number),
                part.blocks.pixels(number),
                part.blocks.place(number),
                earlier[index].versions[number],
            )
            for index, part in enumerate(parts)
            for number in part.blocks.numbers()
        ]
        chosen = choose(candidates, max_pixels, context.job.job_id)
        for index, part in enumerate(parts):
            again = {block.number for block in chosen | done if block.part == index}
            others = set(part.blocks.numbers()) - again
            await keep(
                self._dispatch.store,
                self._objects,
                earlier[index],
                part,
                others,
                context.raise_if_cancelled,
            )
        await context.log(f"scoring {len(chosen)} of {len(candidates)} blocks again")
        return chosen


class _Watch:
    """Tells the job's watchers how far its pool is."""

    def __init__(
        self, context: JobContext, check: Callable[[], Awaitable[None]] | None, done: int, total: int
    ) -> None:
        self._context = context
        self._check = check
        self._done = done
        self._total = total
        self._checked_s = time.monotonic()
        self.most_workers = 0

    def fraction(self, done: int) -> float:
        return (self._done + done) / self._total

    async def progress(self, state: PoolState) -> None:
        """As `PoolWatch.progress`."""
        self._context.raise_if_cancelled()
        self.most_workers = max(self.most_workers, state.workers)
        if self._check is not None and time.monotonic() - self._checked_s >= _GIVE_WAY_EVERY_S:
            self._checked_s = time.monotonic()
            await self._check()
        if state.done:
            failpoint("trainer.predict.some_done")
        done = self._done + state.done
        left = self._total - done
        eta_s = left / state.blocks_per_s if state.blocks_per_s else 0.0
        what = "predicting" if state.workers or state.done else "waiting for workers"
        progress = Progress(done / self._total, what, done, self._total, "blocks", eta_s)
        metrics = {"workers": float(state.workers), "blocks_per_s": state.blocks_per_s}
        await self._context.progress(progress, metrics)
