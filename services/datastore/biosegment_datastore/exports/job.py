"""Jobs that export volumes, layers and segmentations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biosegment.auth import Principal
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.settings import ObjectStoreSettings
from biosegment.volume import BACKGROUND, Index, Region, VoxelSize
from biosegment_datastore.annotations.projector import Projector
from biosegment_datastore.clock import now_us, require_passed
from biosegment_datastore.convert_job import ExportPlan, export_plan
from biosegment_datastore.exports.source import Overlay, exported_dtype
from biosegment_datastore.imports.job import run_until_cancelled
from biosegment_datastore.instances.edit import holding
from biosegment_datastore.instances.history import Histories
from biosegment_datastore.layer import ANNOTATIONS_LAYER, Layer, LayerKind, LayerState
from biosegment_datastore.project import Project
from biosegment_datastore.reference import ReferencedLevel
from biosegment_datastore.sql.annotation import SqlAnnotations
from biosegment_datastore.sql.instance import SqlInstances
from biosegment_datastore.sql.layer import SqlLayers, layer_not_found
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.transfer import SqlGarbage, SqlTransfers, owner_of
from biosegment_datastore.sql.volume import SqlVolumes
from biosegment_datastore.transfer import Artifact
from biosegment_datastore.volume import Volume
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

_PROJECTION_WAIT_S = 60.0
_BACKGROUND_RGB = 0x404040


@dataclass(frozen=True, slots=True)
class _Content:
    """What is exported: an array ('' for annotations alone), its type in the file, and where it lies."""

    array: str
    data_type: str
    region: Region
    downsampling: Index
    name: str
    is_labels: bool = False
    has_classes: bool = False
    has_background: bool = False
    """Whether 1 stands for 'none of the classes', and 0 for 'nobody looked'."""
    referenced: ReferencedLevel | None = None
    """The array when it is not ours; `array` is '' then."""
    edited: Layer | None = None
    """The layer of instances whose edits are to be applied."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Checks and runs exports.

    Attributes:
        projects: For the names of classes.
        volumes: What is exported.
        layers: What is exported.
        annotations: What lies upon a segmentation.
        instances: Which layers have edits of objects.
        histories: These edits.
        projector: Brings the annotations layer up to date.
        transfers: Where the artifact is entered, when it is complete.
        garbage: Knows the unfinished artifacts.
        store: Where voxels come from and artifacts go.
        scratch_dir: Where the file is made.
        roots: Folders below which the voxels of references may be read.
        limits: Of the process that makes it.
    """

    projects: SqlProjects
    volumes: SqlVolumes
    layers: SqlLayers
    annotations: SqlAnnotations
    instances: SqlInstances
    histories: Histories
    projector: Projector
    transfers: SqlTransfers
    garbage: SqlGarbage
    store: ObjectStoreSettings
    scratch_dir: Path
    roots: Sequence[Path]
    limits: WorkerLimits

    async def prepare(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a spec and fix the prediction under a segmentation; errors as CreateJob answers them."""
        plan = export_plan(spec)
        plan.require_project(project_id)
        volume = await self.volumes.get(project_id, plan.volume_id)
        if plan.region is not None:
            plan.region.require_within(volume.shape, volume.name)
        if plan.layer_id:
            plan.require_kind(await self._committed(volume, plan.layer_id))
        require_passed(plan.as_of_us)
        prediction = ""
        if plan.segmentation:
            prediction = await self._prediction(volume, plan)
        content = await self._content(plan.with_prediction(prediction), volume)
        plan.file_format.require(exported_dtype(content.data_type).name, content.is_labels)
        return plan.completed(prediction)

    async def run(self, context: JobContext) -> JobResult:
        """One attempt. What it leaves unfinished is garbage, whatever ends it."""
        job = context.job
        plan = export_plan(job.spec)
        volume = await self.volumes.get(job.project_id, plan.volume_id)
        project = await self.projects.get(job.project_id)
        artifact_id = new_id()
        key = f"{project.storage_key}/artifacts/{artifact_id}"
        await self.garbage.reserve(key, job.job_id, context.attempt)
        try:
            content = await self._content(plan, volume)
            task = await self._task(plan, volume, project, content)
            made = await run_until_cancelled(context, self._write(context, {**task, "prefix": key}))
            await self._require_still(plan, content)
            artifact = Artifact(
                project_id=job.project_id,
                id=artifact_id,
                file_name=_file_name(plan, content),
                size_bytes=made["size_bytes"],
                sha256=made["sha256"],
                media_type=plan.file_format.media_type,
                key=key,
                create_time_us=now_us(),
            )
            failpoint("datastore.export.before_row")
            await self.transfers.create_artifact(artifact)
        finally:
            await asyncio.shield(self.garbage.abandon(owner_of(job.job_id, context.attempt)))
        return JobResult(artifact=artifact.name)

    async def _require_still(self, plan: ExportPlan, content: _Content) -> None:
        """Raise when the voxels were deleted or moved meanwhile: what is missing reads as zeros."""
        volume = await self.volumes.get(plan.project_id, plan.volume_id)
        now = await self._content(plan, volume)
        if now.array != content.array:
            raise FailedPrecondition(
                "SOURCE_CHANGED", f"{content.name!r} was made anew while it was exported; export it again"
            )

    async def _write(self, context: JobContext, task: dict[str, Any]) -> dict[str, Any]:
        async def report(done: int, total: int) -> None:
            await context.progress(Progress(done / max(total, 1) * 0.95, "exporting", done, total, "slices"))

        return await run_task(task, self.limits, report)

    async def _task(
        self, plan: ExportPlan, volume: Volume, project: Project, content: _Content
    ) -> dict[str, Any]:
        overlays: list[Any] = []
        objects: list[Any] = []
        edits: list[Any] = []
        if content.edited is not None:
            edits = await self._steps(content.edited, plan)
        if plan.segmentation:
            objects = await self._objects(plan, volume)
            holding = await self.annotations.holding(
                volume.project_id, volume.id, content.region, as_of_us=plan.as_of_us
            )
            overlays = [
                Overlay(each.region, each.class_scope, each.key, each.labels_sha256).written()
                for each in holding
            ]
        return {
            "kind": "export",
            "format": plan.file_format.key,
            "store": store_values(self.store),
            "scratch_dir": str(self.scratch_dir),
            "array": content.array,
            "referenced": content.referenced.written() if content.referenced is not None else None,
            "roots": [str(root) for root in self.roots],
            "annotations": overlays,
            "objects": objects,
            "edits": edits,
            "segmentation": plan.segmentation,
            "start": list(content.region.start),
            "stop": list(content.region.stop),
            "voxel_size_nm": list(volume.voxel_size.scaled(content.downsampling)),
            "origin_nm": _origin_nm(volume.voxel_size, content),
            "name": content.name,
            "description": _description(plan, volume, content),
            "is_labels": content.is_labels,
            "classes": _classes(project, content),
        }

    async def _steps(self, layer: Layer, plan: ExportPlan) -> list[Any]:
        history = await self.histories.of(layer, plan.as_of_us)
        return [step.written() for step in holding(history.edits, plan.as_of_us)]

    async def _objects(self, plan: ExportPlan, volume: Volume) -> list[Any]:
        """Layers of instances that were made from the prediction and whose edits change it, as `EditedObjects.read`."""
        if not plan.prediction_id:
            return []
        prediction = await self._committed(volume, plan.prediction_id)
        found = []
        for layer_id, source in await self.instances.edited(volume.project_id, volume.id):
            layer = await self.layers.get(volume.project_id, volume.id, layer_id)
            if layer.class_value and await self._is_of(source, prediction):
                history = await self.histories.of(layer, plan.as_of_us)
                if history.composition.says_classes:
                    steps = await self._steps(layer, plan)
                    found.append([layer.key, list(layer.downsampling), layer.class_value, steps])
        return found

    async def _is_of(self, source: str, prediction: Layer) -> bool:
        """Whether objects were found in a prediction, or in the probabilities that the same job made beside it."""
        if not source or source == prediction.name:
            return bool(source)
        place = prediction.project_id, prediction.volume_id
        other = await self.layers.find(*place, source.rpartition("/")[2])
        return other is not None and bool(other.job) and other.job == prediction.job

    async def _content(self, plan: ExportPlan, volume: Volume) -> _Content:
        region, whole = plan.region or volume.region, Index(1, 1, 1)
        if plan.layer_id:
            layer = await self._committed(volume, plan.layer_id)
            if layer.channels > 1:
                raise InvalidArgument(
                    "SEVERAL_CHANNELS",
                    f"{layer.name} has {layer.channels} values per voxel, which no file format here holds; "
                    "read its array instead",
                )
            has_classes = layer.kind in (LayerKind.LABELS, LayerKind.ANNOTATIONS)
            return _Content(
                array=layer.key,
                data_type=layer.data_type,
                region=_coarse(region, layer),
                downsampling=layer.downsampling,
                name=layer.display_name,
                is_labels=has_classes or layer.kind is LayerKind.INSTANCES,
                has_classes=has_classes,
                has_background=has_classes,
                edited=layer if layer.kind is LayerKind.INSTANCES and not plan.without_edits else None,
            )
        if plan.segmentation:
            key = (await self._committed(volume, plan.prediction_id)).key if plan.prediction_id else ""
            name = f"{volume.display_name} segmentation"
            return _Content(key, "uint8", region, whole, name, is_labels=True, has_classes=True)
        referenced = volume.referenced(volume.level(0))
        key = "" if referenced is not None else f"{volume.key}/{volume.level(0).path}"
        return _Content(key, volume.data_type, region, whole, volume.display_name, referenced=referenced)

    async def _committed(self, volume: Volume, layer_id: str) -> Layer:
        if layer_id == ANNOTATIONS_LAYER:
            await self.projector.catch_up(volume.project_id, volume.id, _PROJECTION_WAIT_S)
            return await self.projector.ensure_layer(volume.project_id, volume.id)
        layer = await self.layers.get(volume.project_id, volume.id, layer_id)
        if layer.state is not LayerState.COMMITTED:
            raise layer_not_found(layer.name)
        return layer

    async def _prediction(self, volume: Volume, plan: ExportPlan) -> str:
        """Id of the labels layer under the annotations; '' when there is none."""
        if plan.prediction_id:
            layer = await self._committed(volume, plan.prediction_id)
            if layer.kind is not LayerKind.LABELS or layer.downsampling != (1, 1, 1):
                raise InvalidArgument(
                    "BAD_PREDICTION",
                    f"{layer.name} is not a labels layer at level 0; name one, or none for the newest",
                )
            return layer.id
        place = volume.project_id, volume.id
        newest = await self.layers.newest_labels(*place, plan.as_of_us)
        if newest is None and not await self.annotations.holding(*place, as_of_us=plan.as_of_us):
            when = "" if plan.as_of_us is None else " at that moment"
            raise FailedPrecondition(
                "NOTHING_SEGMENTED",
                f"{volume.name} has neither a prediction nor annotations{when}; predict it first",
            )
        return newest.id if newest else ""


def _description(plan: ExportPlan, volume: Volume, content: _Content) -> str:
    parts = [f"{volume.name}, region {content.region} of this resolution (zyx)"]
    if plan.segmentation:
        parts.append(f"prediction {plan.prediction_id or 'none'}")
    if plan.as_of_us is not None:
        moment = datetime.fromtimestamp(plan.as_of_us / 1e6, UTC)
        parts.append(f"as of {moment.isoformat(timespec='milliseconds')}")
    return ", ".join(parts)


def _file_name(plan: ExportPlan, content: _Content) -> str:
    stem = f"{plan.layer_id or plan.volume_id}{'-segmentation' if plan.segmentation else ''}"
    return stem + plan.file_format.suffix_of(content.has_classes)


def _classes(project: Project, content: _Content) -> list[list[Any]]:
    """Value, name and colour of everything that a value of the file may mean, 0 left out."""
    if not content.has_classes:
        return []
    background = [[BACKGROUND, "background", _BACKGROUND_RGB]] if content.has_background else []
    classes = sorted(project.classes, key=lambda label: label.value)
    return [*background, *([label.value, label.display_name, label.color_rgb] for label in classes)]


def _origin_nm(voxel_size: VoxelSize, content: _Content) -> list[float]:
    """Centre of the first exported voxel, zyx, from the centre of the first voxel of level 0."""
    return [
        # Without the last digits of binary fractions: 41.4, not 41.39999999999999.
        float(f"{edge * (start * factor + (factor - 1) / 2):.12g}")
        for edge, start, factor in zip(voxel_size, content.region.start, content.downsampling, strict=True)
    ]


def _coarse(region: Region, layer: Layer) -> Region:
    """The voxels of a layer that a box of level 0 touches."""
    start = Index(*(low // factor for low, factor in zip(region.start, layer.downsampling, strict=True)))
    stop = Index(*(-(-high // factor) for high, factor in zip(region.stop, layer.downsampling, strict=True)))
    return Region(start, stop)
