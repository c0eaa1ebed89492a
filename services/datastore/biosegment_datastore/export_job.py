"""Jobs that export volumes, layers and segmentations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biosegment.auth import Principal
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.clock import now_us
from biosegment_datastore.convert_job import ExportPlan, export_plan
from biosegment_datastore.export import Overlay
from biosegment_datastore.import_job import run_until_cancelled
from biosegment_datastore.layer import ANNOTATIONS_LAYER, Layer, LayerKind, LayerState
from biosegment_datastore.projector import Projector
from biosegment_datastore.sql_annotation import SqlAnnotations
from biosegment_datastore.sql_layer import SqlLayers, layer_not_found
from biosegment_datastore.sql_project import SqlProjects
from biosegment_datastore.sql_transfer import SqlGarbage, SqlTransfers
from biosegment_datastore.sql_volume import SqlVolumes
from biosegment_datastore.transfer import Artifact
from biosegment_datastore.volume import Volume
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

_PROJECTION_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Frame:
    array: str
    region: Region
    voxel_size: VoxelSize
    name: str
    has_classes: bool


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Checks and runs exports.

    Attributes:
        projects: For the names of classes.
        volumes: What is exported.
        layers: What is exported.
        annotations: What lies upon a segmentation.
        projector: Brings the annotations layer up to date.
        transfers: Where the artifact is entered, when it is complete.
        garbage: Knows the unfinished artifacts.
        store: Where voxels come from and artifacts go.
        scratch_dir: Where the file is made.
        limits: Of the process that makes it.
    """

    projects: SqlProjects
    volumes: SqlVolumes
    layers: SqlLayers
    annotations: SqlAnnotations
    projector: Projector
    transfers: SqlTransfers
    garbage: SqlGarbage
    store: ObjectStoreSettings
    scratch_dir: Path
    limits: WorkerLimits

    async def prepare(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a spec and fix the prediction under a segmentation; errors as CreateJob answers them."""
        plan = export_plan(spec)
        plan.require_project(project_id)
        volume = await self.volumes.get(project_id, plan.volume_id)
        if plan.region is not None:
            plan.region.require_within(volume.shape, volume.name)
        if plan.layer_id:
            await self._committed(volume, plan.layer_id)
        prediction = ""
        if plan.segmentation:
            prediction = await self._prediction(volume, plan.prediction_id)
        return plan.completed(prediction)

    async def run(self, context: JobContext) -> JobResult:
        """One attempt. What it leaves unfinished is garbage, whatever ends it."""
        job = context.job
        plan = export_plan(job.spec)
        volume = await self.volumes.get(job.project_id, plan.volume_id)
        project = await self.projects.get(job.project_id)
        artifact_id = new_id()
        key = f"{project.storage_key}/artifacts/{artifact_id}"
        await self.garbage.reserve(key, job.job_id)
        try:
            task = await self._task(plan, volume, key)
            made = await run_until_cancelled(context, self._write(context, task))
            artifact = Artifact(
                project_id=job.project_id,
                id=artifact_id,
                file_name=f"{plan.layer_id or volume.id}{'-segmentation' if plan.segmentation else ''}.ome.tif",
                size_bytes=made["size_bytes"],
                sha256=made["sha256"],
                media_type="image/tiff",
                key=key,
                create_time_us=now_us(),
            )
            failpoint("datastore.export.before_row")
            await self.transfers.create_artifact(artifact)
        finally:
            await asyncio.shield(self.garbage.abandon(job.job_id))
        return JobResult(artifact=artifact.name)

    async def _write(self, context: JobContext, task: dict[str, Any]) -> dict[str, Any]:
        async def report(done: int, total: int) -> None:
            await context.progress(Progress(done / max(total, 1) * 0.95, "exporting", done, total, "slices"))

        return await run_task(task, self.limits, report)

    async def _task(self, plan: ExportPlan, volume: Volume, key: str) -> dict[str, Any]:
        frame = await self._frame(plan, volume)
        overlays = []
        if plan.segmentation:
            holding = await self.annotations.holding(volume.project_id, volume.id, frame.region)
            overlays = [
                Overlay(each.region, each.class_scope, each.key, each.labels_sha256).written()
                for each in holding
            ]
        project = await self.projects.get(volume.project_id)
        classes = {str(label.value): label.display_name for label in project.classes}
        return {
            "kind": "export",
            "store": store_values(self.store),
            "scratch_dir": str(self.scratch_dir),
            "prefix": key,
            "array": frame.array,
            "annotations": overlays,
            "segmentation": plan.segmentation,
            "start": list(frame.region.start),
            "stop": list(frame.region.stop),
            "voxel_size_nm": list(frame.voxel_size),
            "name": frame.name,
            "description": f"{volume.name}, region {frame.region} of this resolution (zyx)",
            "classes": classes if frame.has_classes else {},
        }

    async def _frame(self, plan: ExportPlan, volume: Volume) -> _Frame:
        region = plan.region or volume.region
        if plan.layer_id:
            layer = await self._committed(volume, plan.layer_id)
            return _Frame(
                layer.key,
                _coarse(region, layer),
                volume.voxel_size.scaled(layer.downsampling),
                layer.display_name,
                layer.kind in (LayerKind.LABELS, LayerKind.ANNOTATIONS),
            )
        if plan.segmentation:
            key = (await self._committed(volume, plan.prediction_id)).key if plan.prediction_id else ""
            return _Frame(key, region, volume.voxel_size, f"{volume.display_name} segmentation", True)
        level = volume.level(0)
        return _Frame(f"{volume.key}/{level.path}", region, volume.voxel_size, volume.display_name, False)

    async def _committed(self, volume: Volume, layer_id: str) -> Layer:
        if layer_id == ANNOTATIONS_LAYER:
            await self.projector.catch_up(volume.project_id, volume.id, _PROJECTION_WAIT_S)
            return await self.projector.ensure_layer(volume.project_id, volume.id)
        layer = await self.layers.get(volume.project_id, volume.id, layer_id)
        if layer.state is not LayerState.COMMITTED:
            raise layer_not_found(layer.name)
        return layer

    async def _prediction(self, volume: Volume, layer_id: str) -> str:
        """Id of the labels layer under the annotations; '' when there is none."""
        if not layer_id:
            newest = await self.layers.newest_labels(volume.project_id, volume.id)
            if newest is None and not await self.annotations.holding(volume.project_id, volume.id):
                raise FailedPrecondition(
                    "NOTHING_SEGMENTED",
                    f"{volume.name} has neither a prediction nor annotations; predict it first",
                )
            return newest.id if newest else ""
        layer = await self._committed(volume, layer_id)
        if layer.kind is not LayerKind.LABELS or layer.downsampling != (1, 1, 1):
            raise InvalidArgument(
                "BAD_PREDICTION",
                f"{layer.name} is not a labels layer at level 0; name one, or none for the newest",
            )
        return layer_id


def _coarse(region: Region, layer: Layer) -> Region:
    """The voxels of a layer that a box of level 0 touches."""
    start = Index(*(low // factor for low, factor in zip(region.start, layer.downsampling, strict=True)))
    stop = Index(*(-(-high // factor) for high, factor in zip(region.stop, layer.downsampling, strict=True)))
    return Region(start, stop)
