"""Jobs that bring files in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.client.job_creation import JobCreation, project_of
from biosegment.client.resources import Job
from biosegment.client.resources.wire import timestamp_of
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import index_to_proto, region_to_proto, voxel_size_to_proto
from biosegment.volume import Region, VoxelSize

EXPORT_FORMATS = tuple(
    name.removeprefix("FORMAT_").lower() for name, number in pb.ExportSpec.Format.items() if number
)
"""Names of the file formats of exports."""


class TransferJobs(JobCreation):
    """Imports and exports."""

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
            class_scope: Classes that were looked for; those that the values mean when empty. Of instances the class
                that they are of, so that it can be counted, and changed object by object.
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
        return await self._create(project_of(volume), pb.JobSpec(import_labels=spec))

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
        return await self._create(project_of(source), pb.JobSpec(export=spec))
