"""Jobs that import labels."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biosegment.auth import Authorizer, Kind, Permission, Principal
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Index, Region
from biosegment_datastore.annotations.annotation import Annotation, AnnotationKind
from biosegment_datastore.annotations.projector import Projector
from biosegment_datastore.clock import now_us
from biosegment_datastore.convert_label import LabelPlan, label_plan
from biosegment_datastore.imports.file import ImportFiles
from biosegment_datastore.imports.job import run_until_cancelled
from biosegment_datastore.layer import Layer, LayerKind, LayerState
from biosegment_datastore.project import Project
from biosegment_datastore.request import Request
from biosegment_datastore.sql.label import SqlLabelImports
from biosegment_datastore.sql.layer import SqlLayers, layer_exists
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.transfer import SqlGarbage, owner_of
from biosegment_datastore.sql.volume import SqlVolumes
from biosegment_datastore.volume import Volume
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

MAX_NAMED = 1000
"""So many annotations are named in the result of a job."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    context: JobContext
    plan: LabelPlan
    project: Project
    volume: Volume
    request: Request

    @property
    def prefix(self) -> str:
        """Where this attempt writes, and no other."""
        job = self.context.job
        kind = "annotations" if self.plan.as_annotations else "layers"
        own_id = job.job_id.rpartition("-")[2]
        return f"{self.project.storage_key}/{kind}/{own_id}-{self.context.attempt}"


@dataclass(frozen=True, slots=True)
class LabelJob:
    """Checks and runs imports of labels.

    Attributes:
        projects: For their classes.
        volumes: What the labels belong to.
        layers: Where a layer is entered, when it is complete.
        imports: Where annotations are entered, all at once.
        garbage: Knows the unfinished results of every attempt.
        files: What is read.
        projector: Told of new annotations.
        authorizer: Decides who may make layers and annotations.
        store: Where the labels go.
        limits: Of the process that parses a file.
    """

    projects: SqlProjects
    volumes: SqlVolumes
    layers: SqlLayers
    imports: SqlLabelImports
    garbage: SqlGarbage
    files: ImportFiles
    projector: Projector
    authorizer: Authorizer
    store: ObjectStoreSettings
    limits: WorkerLimits

    async def prepare(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a spec and fill in the layer's id; errors as CreateJob answers them."""
        plan = label_plan(spec)
        needed = Permission.ANNOTATE if plan.as_annotations else Permission.LAYER_WRITE
        await self.authorizer.authorize(principal, needed, project_id)
        plan.require_project(project_id)
        volume = await self.volumes.get(project_id, plan.volume_id)
        project = await self.projects.get(project_id)
        plan.require_classes(project.class_values)
        if plan.extent is not None:
            plan.extent.require_within(volume.shape, volume.name)
        await self.files.require(principal, project_id, plan.uri, plan.upload_id)
        if plan.as_annotations:
            return plan.completed("")
        if plan.layer_id and await self.layers.find(project_id, volume.id, plan.layer_id) is not None:
            raise layer_exists(f"{volume.name}/layers/{plan.layer_id}")
        return plan.completed(plan.layer_id or new_id())

    async def run(self, context: JobContext) -> JobResult:
        """One attempt. What it leaves unfinished is garbage, whatever ends it."""
        job = context.job
        plan = label_plan(job.spec)
        attempt = _Attempt(
            context,
            plan,
            await self.projects.get(job.project_id),
            await self.volumes.get(job.project_id, plan.volume_id),
            Request.of(job.project_id, f"labels of {job.job_id}", job.job_id),
        )
        # An attempt that died after its labels had been entered has done the work.
        made = await self.imports.made(attempt.request)
        if made is None:
            made = await self._make(attempt)
        await self.files.used(job.project_id, plan.upload_id)
        if not plan.as_annotations:
            return JobResult(layers=(made,))
        self.projector.wake()
        named = await self.imports.first(job.project_id, made, MAX_NAMED)
        return JobResult(annotations=tuple(f"{attempt.volume.name}/annotations/{each}" for each in named))

    async def _make(self, attempt: _Attempt) -> str:
        """Prefix of the annotations, or name of the layer."""
        job_id, number = attempt.context.job.job_id, attempt.context.attempt
        await self.garbage.reserve(attempt.prefix, job_id, number)
        try:
            files = self.files.file(attempt.context, attempt.plan.uri, attempt.plan.upload_id)
            async with files as (path, file_name):
                made = await self._write(attempt, path, file_name)
            failpoint("datastore.labels.before_rows")
            if attempt.plan.as_annotations:
                result = await self._annotate(attempt, file_name, made)
            else:
                result = await self._enter(attempt, file_name, made)
            failpoint("datastore.labels.rows_written")
            return result
        finally:
            await asyncio.shield(self.garbage.abandon(owner_of(job_id, number)))

    async def _write(self, attempt: _Attempt, path: Path, file_name: str) -> dict[str, Any]:
        context, plan = attempt.context, attempt.plan

        async def report(done: int, total: int) -> None:
            failpoint("datastore.labels.slab_written")
            await context.progress(Progress(done / max(total, 1) * 0.99, "importing", done, total, "slices"))

        extent = None if plan.extent is None else [list(plan.extent.start), list(plan.extent.stop)]
        task = {
            "kind": "import_labels",
            "store": store_values(self.store),
            "path": str(path),
            "options": replace(plan.options, scratch_dir=self.files.scratch_dir).written(),
            "volume_shape": list(attempt.volume.shape),
            "offset": None if plan.offset is None else list(plan.offset),
            "extent": extent,
            "meaning": plan.meaning(),
            "scope": list(plan.class_scope) if plan.as_annotations else None,
            "prefix": attempt.prefix if plan.as_annotations else f"{attempt.prefix}/1",
        }
        await context.log(f"importing labels of {file_name!r}")
        made = await run_until_cancelled(context, run_task(task, self.limits, report))
        region = _region(made["start"], made["stop"])
        await context.log(f"{made['format']}, into {region} of {attempt.volume.name}: {_counted(made)}")
        return made

    async def _annotate(self, attempt: _Attempt, file_name: str, made: dict[str, Any]) -> str:
        plan, job = attempt.plan, attempt.context.job
        annotations = [
            Annotation(
                project_id=job.project_id,
                volume_id=plan.volume_id,
                id=annotation_id,
                sequence=0,
                region=_region(start, stop),
                kind=AnnotationKind.DENSE,
                class_scope=plan.class_scope,
                author=job.owner,
                create_time_us=0,
                sample="",
                strategy="",
                model="",
                work_time_s=0.0,
                labels_sha256=sha256,
                voxel_counts={int(value): count for value, count in counts.items()},
                comment=plan.display_name or file_name,
                key=f"{attempt.prefix}/{annotation_id}",
            )
            for annotation_id, start, stop, sha256, counts in made["blocks"]
        ]
        await self.imports.commit(
            job.project_id, plan.volume_id, annotations, attempt.prefix, attempt.request
        )
        return attempt.prefix

    async def _enter(self, attempt: _Attempt, file_name: str, made: dict[str, Any]) -> str:
        plan, job, volume = attempt.plan, attempt.context.job, attempt.volume
        region, now = _region(made["start"], made["stop"]), now_us()
        layer = Layer(
            project_id=job.project_id,
            volume_id=plan.volume_id,
            id=plan.layer_id,
            display_name=plan.display_name or file_name,
            kind=LayerKind.INSTANCES if plan.instances else LayerKind.LABELS,
            state=LayerState.COMMITTED,
            data_type=made["data_type"],
            downsampling=Index(1, 1, 1),
            shape=volume.shape,
            # Of instances the one that they are of, if that is known.
            class_value=plan.class_scope[0] if plan.instances and plan.class_scope else 0,
            measure="",
            model="",
            job=job.name,
            region=None if region == volume.region else region,
            chunk=Index(*made["chunk"]),
            shard=Index(*made["shard"]),
            attempt=1,
            storage_key=attempt.prefix,
            creator=str(Principal(Kind.USER, job.owner)),
            create_time_us=now,
            commit_time_us=now,
        )
        return (await self.layers.create(layer, attempt.request)).name


def _region(start: list[int], stop: list[int]) -> Region:
    return Region(Index(*start), Index(*stop))


def _counted(made: dict[str, Any]) -> str:
    if "blocks" not in made:
        counts = made["counts"]
        return ", ".join(f"{count} voxels of {value}" for value, count in counts.items()) or made["data_type"]
    totals: dict[str, int] = {}
    for *_, counts in made["blocks"]:
        for value, count in counts.items():
            totals[value] = totals.get(value, 0) + count
    voxels = ", ".join(f"{count} voxels of {value}" for value, count in sorted(totals.items()))
    return f"{len(made['blocks'])} annotations, {voxels}"
