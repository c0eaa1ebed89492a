"""Long work: starting it, watching it, stopping it."""

from __future__ import annotations

import asyncio
import builtins
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.api.job.v1alpha1.job_pb2_grpc import JobServiceStub
from biosegment.client.resources import Job, JobLogLine, JobState, Passes, Resources
from biosegment.client.resources.wire import timestamp_of
from biosegment.errors import FailedPrecondition, InvalidArgument, Unavailable
from biosegment.rpc.geometry import index_to_proto, region_to_proto, voxel_size_to_proto
from biosegment.volume import Region, VoxelSize

_RECONNECT_ATTEMPTS = 60

EXPORT_FORMATS = tuple(
    name.removeprefix("FORMAT_").lower() for name, number in pb.ExportSpec.Format.items() if number
)
"""Names of the file formats of exports."""

MESH_FORMATS = tuple(
    name.removeprefix("MESH_FORMAT_").lower()
    for name, number in pb.MeasureObjectsSpec.MeshFormat.items()
    if number
)
"""Names of the file formats of meshes."""


class Jobs:
    """Jobs of all services."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = JobServiceStub(channel)

    async def import_volume(
        self,
        project: str,
        uri: str = "",
        *,
        upload: str = "",
        volume_id: str = "",
        display_name: str = "",
        voxel_size: VoxelSize | None = None,
        axes: str = "",
        channel: int | None = None,
        time_point: int | None = None,
        dataset: str = "",
        reference: bool = False,
    ) -> Job:
        """Import a volume: a file, a folder of slices or an OME-Zarr folder.

        Args:
            project: `projects/{p}`.
            uri: Path below one of the import roots of the server; or
            upload: name of a finished upload.
            volume_id: Id of the new volume; made up when empty.
            display_name: For people; the file's name when empty.
            voxel_size: In nm; needed when the file does not say.
            axes: Order of the file's axes, slowest first, such as `czyx`, when the file does not say or is wrong.
            channel: Which channel to take, from 0; needed when there are several.
            time_point: Which time point to take, from 0; needed when there are several.
            dataset: Path inside a container file.
            reference: Do not copy: read an OME-Zarr folder where it is. Only for a `uri`.
        """
        spec = pb.ImportVolumeSpec(
            volume_id=volume_id,
            display_name=display_name,
            axes=axes,
            channel=channel,
            time_point=time_point,
            dataset=dataset,
            reference=reference,
        )
        if upload:
            spec.upload = upload
        else:
            spec.uri = uri
        if voxel_size is not None:
            spec.voxel_size.CopyFrom(voxel_size_to_proto(voxel_size))
        return await self._create(project, pb.JobSpec(import_volume=spec))

    async def import_labels(
        self,
        volume: str,
        uri: str = "",
        *,
        upload: str = "",
        zero: str = "",
        values: Mapping[int, int] | None = None,
        other_values: int | None = None,
        class_scope: Sequence[int] = (),
        as_annotations: bool = False,
        instances: bool = False,
        offset: tuple[int, int, int] | None = None,
        extent: Region | None = None,
        layer_id: str = "",
        display_name: str = "",
        axes: str = "",
        channel: int | None = None,
        time_point: int | None = None,
        dataset: str = "",
    ) -> Job:
        """Import labels that exist already: into a layer, or as annotations that models train on.

        Args:
            volume: `projects/{p}/volumes/{v}` that they belong to.
            uri: Path below one of the import roots of the server; or
            upload: name of a finished upload.
            zero: What 0 means in the file: `not_annotated` or `background`; must be said, except of instances.
            values: Class value (or 0 for not annotated, 1 for background) by value of the file.
            other_values: Class of every value but 0 that `values` does not name, for one value per object.
            class_scope: Classes that were looked for; those that the values mean when empty.
            as_annotations: Annotations instead of a layer.
            instances: The values are ids of objects, kept in a layer of instances.
            offset: z, y, x of the file's first voxel in the volume; when None the shapes must be equal.
            extent: Part of the volume outside of which nothing is imported; all of the file when None.
            layer_id: Id of the new layer; made up when empty.
            display_name: Of the layer, or the comment of the annotations; the file's name when empty.
            axes: As in `import_volume`.
            channel: As in `import_volume`.
            time_point: As in `import_volume`.
            dataset: As in `import_volume`.

        Raises:
            InvalidArgument: BAD_ZERO and what the contract of CreateJob lists.
        """
        meaning = f"ZERO_MEANING_{(zero or 'unspecified').upper()}"
        if meaning not in pb.ImportLabelsSpec.ZeroMeaning.keys():
            raise InvalidArgument("BAD_ZERO", f"zero is {zero!r}; it means not_annotated or background")
        spec = pb.ImportLabelsSpec(
            volume=volume,
            zero_meaning=meaning,
            values=values,
            other_values=other_values,
            class_scope=class_scope,
            as_annotations=as_annotations,
            instances=instances,
            layer_id=layer_id,
            display_name=display_name,
            axes=axes,
            channel=channel,
            time_point=time_point,
            dataset=dataset,
        )
        if upload:
            spec.upload = upload
        else:
            spec.uri = uri
        if offset is not None:
            spec.offset.CopyFrom(index_to_proto(offset))
        if extent is not None:
            spec.extent.CopyFrom(region_to_proto(extent))
        return await self._create("/".join(volume.split("/")[:2]), pb.JobSpec(import_labels=spec))

    async def export(
        self,
        source: str,
        *,
        segmentation: bool = False,
        region: Region | None = None,
        prediction: str = "",
        file_format: str = "ome_tiff",
        as_of: datetime | None = None,
        without_edits: bool = False,
    ) -> Job:
        """Write a volume, a layer or a segmentation into a file; the job's `artifact` names it.

        Args:
            source: A volume or a layer.
            segmentation: Not the volume's voxels but what was segmented in it.
            region: Part of it, in voxels of level 0.
            prediction: Labels layer under the annotations; the newest when empty.
            file_format: One of `EXPORT_FORMATS`.
            as_of: The segmentation, or the objects, as they were at this moment, which needs a time zone; as they are
                now when None.
            without_edits: A layer of instances as it was written, instead of the objects as their edits made them.

        Raises:
            InvalidArgument: UNKNOWN_FORMAT, BAD_AS_OF; FORMAT_CANNOT_HOLD when the format has no such voxels.
        """
        if file_format not in EXPORT_FORMATS:
            raise InvalidArgument(
                "UNKNOWN_FORMAT",
                f"there is no export format {file_format!r}; there are {', '.join(EXPORT_FORMATS)}",
            )
        spec = pb.ExportSpec(
            source=source,
            format=f"FORMAT_{file_format.upper()}",
            segmentation=segmentation,
            prediction=prediction,
            without_edits=without_edits,
        )
        if region is not None:
            spec.region.CopyFrom(region_to_proto(region))
        if as_of is not None:
            spec.as_of.CopyFrom(timestamp_of(as_of))
        return await self._create("/".join(source.split("/")[:2]), pb.JobSpec(export=spec))

    async def train(
        self,
        project: str,
        *,
        parent: str = "",
        from_scratch: bool = False,
        annotations: Sequence[str] = (),
        display_name: str = "",
        seed: int = 0,
        max_steps: int = 0,
        max_seconds_s: float = 0.0,
        options: Mapping[str, Any] | None = None,
        resources: Resources | None = None,
    ) -> Job:
        """Make a new model version from annotations.

        Args:
            project: `projects/{p}`.
            parent: Model to start from; when empty the project's newest, or before the first one the default parent
                that the platform's settings name.
            from_scratch: Start from random weights instead.
            annotations: What to train on; all of the project that hold when empty.
            display_name: For people.
            seed: Seed of everything random.
            max_steps: Optimisation steps; 0: 200 to 1000, by the number of annotations.
            max_seconds_s: Time limit of the optimisation; 0 for none.
            options: Options of the training configuration by name.
            resources: What to reserve; the platform's default when None.
        """
        spec = pb.TrainSpec(
            parent=parent,
            from_scratch=from_scratch,
            annotations=annotations,
            display_name=display_name,
            seed=seed,
            max_steps=max_steps,
            max_seconds_s=max_seconds_s,
            options=_struct(options),
            interactive=True,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project, pb.JobSpec(train=spec))

    async def pretrain(
        self,
        volumes: Sequence[str],
        *,
        display_name: str = "",
        seed: int = 0,
        max_steps: int = 0,
        max_seconds_s: float = 0.0,
        options: Mapping[str, Any] | None = None,
        resources: Resources | None = None,
    ) -> Job:
        """Make a parent model from the raw voxels of volumes, without any annotation.

        Args:
            volumes: `projects/{p}/volumes/{v}`, at least one, of one project.
            display_name: For people.
            seed: Seed of everything random.
            max_steps: Optimisation steps; 0 for the default.
            max_seconds_s: Time limit of the optimisation; 0 for none.
            options: Options of the training configuration by name.
            resources: What to reserve; the platform's default when None.
        """
        if not volumes:
            raise InvalidArgument("NO_VOLUMES", "pretraining needs the name of at least one volume")
        spec = pb.PretrainSpec(
            volumes=volumes,
            display_name=display_name,
            seed=seed,
            max_steps=max_steps,
            max_seconds_s=max_seconds_s,
            options=_struct(options),
            resources=resources.to_proto() if resources else None,
        )
        return await self._create("/".join(volumes[0].split("/")[:2]), pb.JobSpec(pretrain=spec))

    async def predict(
        self,
        volume: str,
        *,
        model: str = "",
        region: Region | None = None,
        probabilities: bool = False,
        measures: Sequence[str] = (),
        passes: Passes | None = None,
        ortho_planes: bool = False,
        resources: Resources | None = None,
    ) -> Job:
        """Predict a volume; the job's `layers` name what it made, the labels first.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            model: The project's newest when empty.
            region: Part of it, in voxels of level 0; everything when None.
            probabilities: Also keep the probabilities of each class.
            measures: Also keep score maps of these measures.
            passes: Several passes, whose mean is the prediction.
            ortho_planes: Predict in all three planes and take the mean; for near isotropic voxels.
            resources: What to reserve for each worker; the platform's default when None.
        """
        spec = pb.PredictSpec(
            model=model,
            volume=volume,
            probabilities=probabilities,
            measures=measures,
            passes=passes.to_proto() if passes else None,
            ortho_planes=ortho_planes,
            resources=resources.to_proto() if resources else None,
        )
        if region is not None:
            spec.region.CopyFrom(region_to_proto(region))
        return await self._create("/".join(volume.split("/")[:2]), pb.JobSpec(predict=spec))

    async def instances(
        self,
        layer: str,
        *,
        class_value: int = 0,
        method: str = "connected_components",
        min_size_voxels: int = 0,
        connectivity: int = 26,
        threshold: float = 0.0,
        seed_distance_nm: float = 0.0,
        boundary_layer: str = "",
        boundary_class_value: int = 0,
        display_name: str = "",
        resources: Resources | None = None,
    ) -> Job:
        """Find the objects of a class in a prediction; the job's `layers` name the layer of their ids.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`, labels or probabilities.
            class_value: Class of the objects; of a probabilities layer its own when 0.
            method: `connected_components`, or `watershed`, which also parts objects at constrictions.
            min_size_voxels: Smaller objects are dropped, in voxels of level 0.
            connectivity: 6: voxels are neighbours by faces; 26: also by edges and corners.
            threshold: From which probability on a voxel is of the class; 0 for 0.5. Of probabilities only.
            seed_distance_nm: Watershed: an object is parted where it is thinner than twice this; 0 for a default.
            boundary_layer: Watershed: labels or probabilities that say where objects end.
            boundary_class_value: Class of the boundary, as `class_value`.
            display_name: Of the layer, for people.
            resources: What to reserve for each worker; the platform's default when None.
        """
        spec = pb.InstancesSpec(
            layer=layer,
            class_value=class_value,
            method=method,
            min_size_voxels=min_size_voxels,
            connectivity=connectivity,
            threshold=threshold,
            seed_distance_nm=seed_distance_nm,
            boundary_layer=boundary_layer,
            boundary_class_value=boundary_class_value,
            display_name=display_name,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create("/".join(layer.split("/")[:2]), pb.JobSpec(instances=spec))

    async def score(
        self,
        project: str,
        *,
        model: str,
        volumes: Sequence[str],
        measures: Sequence[str],
        max_pixels: int = 0,
        passes: Passes | None = None,
        resources: Resources | None = None,
    ) -> Job:
        """Make score maps of volumes, which the sampler then ranks the pool by.

        Args:
            project: `projects/{p}`.
            model: What scores.
            volumes: `projects/{p}/volumes/{v}`, at least one.
            measures: At least one.
            max_pixels: At most so many working pixels, in blocks spread over the volumes; 0 for all.
            passes: Several passes, for measures of their disagreement.
            resources: What to reserve for each worker; the platform's default when None.
        """
        spec = pb.ScoreSpec(
            model=model,
            volumes=volumes,
            measures=measures,
            max_pixels=max_pixels,
            passes=passes.to_proto() if passes else None,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project, pb.JobSpec(score=spec))

    async def measure_objects(
        self,
        layer: str,
        *,
        meshes: bool = False,
        mesh_formats: Sequence[str] = (),
        mesh_cell_nm: float = 0.0,
        resources: Resources | None = None,
    ) -> Job:
        """Make a table of the objects of a layer of instances: volume, surface, shape, place, intensities.

        The job's `artifacts` are the table as CSV, the table as Parquet, and with `meshes` a zip file with a mesh of
        each object; fetch them with `volumes.download`.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            meshes: Also make meshes.
            mesh_formats: Some of `MESH_FORMATS`; STL when empty.
            mesh_cell_nm: Edge of the grid on which meshes are made; that of the voxels when 0.
            resources: What to reserve; the platform's default when None.

        Raises:
            InvalidArgument: UNKNOWN_FORMAT, NOT_INSTANCES.
            FailedPrecondition: NO_OBJECTS.
        """
        unknown = set(mesh_formats).difference(MESH_FORMATS)
        if unknown:
            raise InvalidArgument(
                "UNKNOWN_FORMAT",
                f"there is no mesh format {min(unknown)!r}; there are {', '.join(MESH_FORMATS)}",
            )
        spec = pb.MeasureObjectsSpec(
            layer=layer,
            meshes=meshes,
            mesh_formats=[f"MESH_FORMAT_{each.upper()}" for each in mesh_formats],
            mesh_cell_nm=mesh_cell_nm,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create("/".join(layer.split("/")[:2]), pb.JobSpec(measure_objects=spec))

    async def get(self, name: str) -> Job:
        """Return a job by its name `jobs/{service}-{id}`."""
        return Job.from_proto((await self._stub.GetJob(pb.GetJobRequest(name=name))).job)

    async def list(self, project: str = "", *, state: str = "") -> builtins.list[Job]:
        """Return the jobs of a project, newest first; of all projects (administrators only) when empty."""
        states = [f"STATE_{state.upper()}"] if state else []
        found: builtins.list[Job] = []
        token = ""
        while True:
            request = pb.ListJobsRequest(project=project, states=states, page_size=500, page_token=token)
            page = await self._stub.ListJobs(request)
            found.extend(map(Job.from_proto, page.jobs))
            token = page.next_page_token
            if not token:
                return found

    async def watch(self, name: str) -> AsyncIterator[Job]:
        """Yield a job now and at every change until it has ended; goes on over restarts of the server."""
        revision = 0
        failures = 0
        while True:
            try:
                request = pb.WatchJobRequest(name=name, after_revision=revision)
                async for answer in self._stub.WatchJob(request):
                    failures = 0
                    job = Job.from_proto(answer.job)
                    revision = job.revision
                    yield job
                    if job.state.ended:
                        return
            except Unavailable:
                failures += 1
                if failures > _RECONNECT_ATTEMPTS:
                    raise
            # A stream may end before the job does, when its server stops.
            await asyncio.sleep(0.5)

    async def wait(self, name: str, *, on_change: Callable[[Job], None] | None = None) -> Job:
        """Return a job when it has succeeded.

        Raises:
            FailedPrecondition: With the job's own reason when it failed, JOB_CANCELLED when it was cancelled.
        """
        job: Job | None = None
        async for job in self.watch(name):
            if on_change is not None:
                on_change(job)
        assert job is not None
        if job.state is JobState.FAILED:
            reason, message = (
                (job.error.reason, job.error.message) if job.error else ("JOB_FAILED", "no reason")
            )
            raise FailedPrecondition(reason, f"{job.kind} job {job.name} failed: {message}", job=job.name)
        if job.state is JobState.CANCELLED:
            raise FailedPrecondition(
                "JOB_CANCELLED", f"{job.kind} job {job.name} was cancelled", job=job.name
            )
        return job

    async def cancel(self, name: str) -> Job:
        """Ask a job to stop."""
        return Job.from_proto((await self._stub.CancelJob(pb.CancelJobRequest(name=name))).job)

    async def retry(self, name: str) -> Job:
        """Queue a failed or cancelled job again."""
        return Job.from_proto((await self._stub.RetryJob(pb.RetryJobRequest(name=name))).job)

    async def log(self, name: str, *, after_line: int = 0) -> builtins.list[JobLogLine]:
        """Return the lines of a job's log after a line number."""
        found: builtins.list[JobLogLine] = []
        while True:
            request = pb.ListJobLogsRequest(name=name, after_line=after_line, page_size=1000)
            page = (await self._stub.ListJobLogs(request)).lines
            found.extend(
                JobLogLine(item.line, item.time.ToDatetime(), item.attempt, item.text) for item in page
            )
            if len(page) < 1000:
                return found
            after_line = page[-1].line

    async def _create(self, project: str, spec: pb.JobSpec) -> Job:
        request = pb.CreateJobRequest(project=project, spec=spec, request_id=str(uuid.uuid4()))
        return Job.from_proto((await self._stub.CreateJob(request)).job)


def _struct(options: Mapping[str, Any] | None) -> Struct | None:
    return ParseDict(dict(options), Struct()) if options else None
