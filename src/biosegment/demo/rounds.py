"""Active-learning rounds through the SDK, as a human's client would go through them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from biosegment.client import AsyncClient
from biosegment.client.resources import Job, Sample
from biosegment.demo.data import DEFAULT_VOXEL_SIZE, DemoData
from biosegment.errors import FailedPrecondition, Internal, InvalidArgument
from biosegment.volume import BACKGROUND, FIRST_CLASS, Region, VoxelSize


@dataclass(frozen=True, slots=True)
class Round:
    """What one round reached.

    Attributes:
        number: 1, 2, 3 ...
        patches: Annotated so far.
        iou: Foreground IoU on the held-out part.
        seconds_s: Wall-clock time of the round.
    """

    number: int
    patches: int
    iou: float
    seconds_s: float


@dataclass(slots=True)
class Experiment:
    """One run of the loop.

    Attributes:
        client: Connected to a running platform.
        data: Volume and ground truth.
        bar: Where progress is shown.
        sample_shape: Patch in voxels of level 0, zyx.
        first: Patches annotated in the first round.
        per_round: Patches annotated in each further round.
        rounds: How many rounds in all.
        seed: Of the pool.
        strategies: Strategy to share of a batch.
    """

    client: AsyncClient
    data: DemoData
    bar: Progress
    sample_shape: tuple[int, int, int]
    first: int
    per_round: int
    rounds: int
    seed: int
    strategies: dict[str, float]
    project: str = ""
    volume: str = ""
    results: list[Round] = field(default_factory=list)

    async def prepare(self, working_resolution_nm: float) -> None:
        """Make the project, import the volume, set up the pool."""
        made = await self.client.projects.create(
            "demo", classes=["mitochondria"], working_resolution_nm=working_resolution_nm
        )
        self.project = made.name
        job = await self._import()
        self.volume = job.volume
        await self.client.samples.configure(
            self.project,
            strategies=self.strategies,
            excluded=[(self.volume, self.data.excluded)],
            sample_shape=self.sample_shape,
            train_after_annotations=self.first,
            seed=self.seed,
        )

    async def _import(self) -> Job:
        uri = str(self.data.raw_path)
        try:
            job = await self.client.jobs.import_volume(self.project, uri, volume_id="volume")
            return await self._follow(job, "import")
        except (FailedPrecondition, InvalidArgument) as error:
            if error.reason != "VOXEL_SIZE_MISSING":
                raise
        self.bar.console.print(f"the file does not say its voxel size: taken as {_text(DEFAULT_VOXEL_SIZE)}")
        job = await self.client.jobs.import_volume(
            self.project, uri, volume_id="volume", voxel_size=DEFAULT_VOXEL_SIZE
        )
        return await self._follow(job, "import")

    async def run_round(self) -> Round:
        """Propose, annotate, train, score, evaluate."""
        started = time.monotonic()
        number = len(self.results) + 1
        count = self.first if number == 1 else self.per_round
        claim = await self.client.samples.claim(self.project, count)
        if claim.notice:
            self.bar.console.print(f"round {number}: {claim.notice}")
        if not claim.samples:
            raise FailedPrecondition("POOL_EXHAUSTED", f"round {number}: the sampler proposes nothing more")
        task = self.bar.add_task(f"round {number}: annotate", total=len(claim.samples))
        for sample in claim.samples:
            await self._annotate(sample)
            self.bar.advance(task)
        model = await self._until_trained(number, await_scores=number < self.rounds)
        iou = await self._evaluate(number, model)
        annotated = await self.client.samples.progress(self.project)
        await self.client.samples.configure(self.project, train_after_annotations=self.per_round)
        result = Round(number, annotated.annotations, iou, time.monotonic() - started)
        self.results.append(result)
        self.bar.console.print(
            f"round {number}: {result.patches} patches, IoU {iou:.3f}, {result.seconds_s:.0f} s",
            highlight=False,
        )
        return result

    async def _annotate(self, sample: Sample) -> None:
        """Answer from ground truth, through the call that every client uses."""
        truth = self.data.truth[sample.region.slices]
        labels = np.where(truth, FIRST_CLASS, BACKGROUND).astype(np.uint8)
        await self.client.annotations.commit(labels, sample=sample)

    async def _until_trained(self, number: int, *, await_scores: bool) -> str:
        """Follow the jobs that the sampler starts until a new model has scored the pool (or, last, is trained)."""
        before = await self.client.samples.pool(self.project)
        seen: set[str] = set()
        known = {model.name for model in await self.client.models.list(self.project)}
        while True:
            pool = await self.client.samples.pool(self.project)
            if pool.failure:
                raise Internal("ROUND_FAILED", f"round {number}: {pool.failure}")
            models = await self.client.models.list(self.project)
            new = [model.name for model in models if model.name not in known]
            if new and not await_scores:
                return new[0]
            if pool.scored_model and pool.scored_model != before.scored_model:
                return pool.scored_model
            if pool.active_job and pool.active_job not in seen:
                seen.add(pool.active_job)
                job = await self.client.jobs.get(pool.active_job)
                if await_scores or job.kind == "train":
                    await self._follow(job, f"round {number}: {job.kind}")
                    continue
            await asyncio.sleep(0.3)

    async def _evaluate(self, number: int, model: str) -> float:
        region = self.data.held_out
        job = await self.client.jobs.predict(self.volume, model=model, region=region)
        done = await self._follow(job, f"round {number}: evaluate")
        found = await self.client.volumes.read(done.layers[0], region) == FIRST_CLASS
        await self.client.volumes.delete_layer(done.layers[0])
        truth = self.data.truth[region.slices]
        union = np.count_nonzero(found | truth)
        return np.count_nonzero(found & truth) / union if union else 0.0

    async def predict_volume(self) -> str:
        """Predict everything with the newest model; returns the labels layer."""
        job = await self.client.jobs.predict(self.volume)
        return (await self._follow(job, "predict the volume")).layers[0]

    async def export(self) -> str:
        """Export the segmentation; returns the artifact."""
        job = await self.client.jobs.export(self.volume, segmentation=True)
        return (await self._follow(job, "export")).artifact

    async def read(self, name: str, region: Region) -> NDArray[Any]:
        """Voxels of a volume or layer, (z, y, x)."""
        return await self.client.volumes.read(name, region)

    async def _follow(self, job: Job, what: str) -> Job:
        task = self.bar.add_task(what, total=1.0)
        try:
            async for now in self.client.jobs.watch(job.name):
                self.bar.update(task, completed=now.fraction)
            done = await self.client.jobs.wait(job.name)
        except BaseException:
            self.bar.remove_task(task)
            raise
        self.bar.update(task, completed=1.0)
        return done


def _text(voxel_size: VoxelSize) -> str:
    return " x ".join(f"{edge:g}" for edge in voxel_size) + " nm (z, y, x)"
