"""From the messages of jobs to what the datastore does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import InvalidArgument
from biosegment.ids import check_id, parse_name
from biosegment.jobs.convert import spec_bytes, spec_of
from biosegment.rpc.geometry import region_from_proto, voxel_size_from_proto
from biosegment.volume import Region, VoxelSize
from biosegment_datastore.formats.selection import check_axes
from biosegment_datastore.formats.source import ACCEPTED, SourceOptions
from biosegment_datastore.formats.writers.catalogue import BY_KEY, FileFormat
from biosegment_datastore.layer import Layer, LayerKind
from biosegment_datastore.project import check_text


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """A checked import.

    Attributes:
        uri: Path or URI; '' with an upload.
        upload_id: '' with a path.
        voxel_size: None: as the file says.
        options: What else is said about the file.
        reference: Whether the voxels stay where they are.
    """

    spec: job_pb2.ImportVolumeSpec
    volume_id: str
    display_name: str
    uri: str
    upload_project_id: str
    upload_id: str
    voxel_size: VoxelSize | None
    options: SourceOptions
    reference: bool

    def require_upload_of(self, project_id: str) -> str:
        """Id of the upload; InvalidArgument OTHER_PROJECT when it belongs to another project."""
        _require_same(self.spec.upload, self.upload_project_id, project_id)
        return self.upload_id

    def completed(self, volume_id: str) -> bytes:
        """The spec to store, with the volume's id."""
        spec = job_pb2.ImportVolumeSpec()
        spec.CopyFrom(self.spec)
        spec.volume_id = volume_id
        return spec_bytes(job_pb2.JobSpec(import_volume=spec))


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """A checked export.

    Attributes:
        layer_id: '' for the volume itself or its segmentation.
        prediction_id: Layer under the annotations; '' for the newest, or, when stored, for none.
        as_of_us: Moment of the segmentation or of the objects, microseconds since 1970; None for now.
        without_edits: Whether objects are exported as the layer has them.
    """

    spec: job_pb2.ExportSpec
    project_id: str
    volume_id: str
    layer_id: str
    region: Region | None
    segmentation: bool
    prediction_id: str
    file_format: FileFormat
    as_of_us: int | None
    without_edits: bool

    def with_prediction(self, prediction_id: str) -> ExportPlan:
        """The plan, with the prediction that was chosen."""
        return replace(self, prediction_id=prediction_id)

    def require_project(self, project_id: str) -> None:
        """InvalidArgument OTHER_PROJECT when the source belongs to another project than the job."""
        _require_same(self.spec.source, self.project_id, project_id)

    def require_kind(self, layer: Layer) -> None:
        """InvalidArgument BAD_AS_OF or BAD_SOURCE when what is asked for needs a layer of instances."""
        if layer.kind is LayerKind.INSTANCES:
            return
        if self.as_of_us is not None:
            raise _bad_as_of()
        if self.without_edits:
            raise InvalidArgument(
                "BAD_SOURCE", f"`without_edits` is for layers of instances; {layer.name} is of {layer.kind}"
            )

    def completed(self, prediction_id: str) -> bytes:
        """The spec to store, with the prediction that was chosen."""
        spec = job_pb2.ExportSpec()
        spec.CopyFrom(self.spec)
        if prediction_id:
            volume = f"projects/{self.project_id}/volumes/{self.volume_id}"
            spec.prediction = f"{volume}/layers/{prediction_id}"
        return spec_bytes(job_pb2.JobSpec(export=spec))


def import_plan(data: bytes) -> ImportPlan:
    """Read an import's spec; what does not depend on the present state is checked here.

    Raises:
        InvalidArgument: SOURCE_MISSING, BAD_ID, BAD_NAME, BAD_TEXT, BAD_VOXEL_SIZE, BAD_AXES, BAD_CHANNEL,
            BAD_TIME_POINT, NOT_REFERABLE.
    """
    spec = spec_of(data).import_volume
    if spec.volume_id:
        check_id(spec.volume_id, "volume")
    check_text("display_name", spec.display_name, 0, 200)
    source = spec.WhichOneof("source")
    if source is None or not getattr(spec, source):
        raise InvalidArgument("SOURCE_MISSING", "an import needs a `uri` or an `upload`")
    if spec.reference and source == "upload":
        raise InvalidArgument(
            "NOT_REFERABLE", "an upload is gone when it was imported: `reference` needs a `uri` on the server"
        )
    names = parse_name(spec.upload, "projects/*/uploads/*") if source == "upload" else ("", "")
    return ImportPlan(
        spec=spec,
        volume_id=spec.volume_id,
        display_name=spec.display_name,
        uri=spec.uri,
        upload_project_id=names[0],
        upload_id=names[1],
        voxel_size=voxel_size_from_proto(spec.voxel_size) if spec.HasField("voxel_size") else None,
        options=source_options(spec),
        reference=spec.reference,
    )


def source_options(
    spec: job_pb2.ImportVolumeSpec | job_pb2.ImportLabelsSpec, accepted: Collection[str] = ACCEPTED
) -> SourceOptions:
    """What a spec says about its file.

    Raises:
        InvalidArgument: BAD_AXES, BAD_CHANNEL, BAD_TIME_POINT, BAD_TEXT.
    """
    axes = spec.axes.lower()
    if axes:
        check_axes(axes)
    for option in ("channel", "time_point"):
        if spec.HasField(option) and getattr(spec, option) < 0:
            raise InvalidArgument(
                f"BAD_{option.upper()}", f"`{option}` is {getattr(spec, option)}; they are numbered from 0"
            )
    check_text("dataset", spec.dataset, 0, 1000)
    return SourceOptions(
        axes=axes,
        channel=spec.channel if spec.HasField("channel") else None,
        time_point=spec.time_point if spec.HasField("time_point") else None,
        dataset=spec.dataset,
        accepted=accepted,
    )


def export_plan(data: bytes) -> ExportPlan:
    """Read an export's spec; what does not depend on the present state is checked here.

    Raises:
        InvalidArgument: BAD_NAME, BAD_REGION, BAD_FORMAT, BAD_SOURCE, BAD_AS_OF.
    """
    spec = spec_of(data).export
    file_format = _file_format(spec.format)
    if spec.source.count("/") == 5:
        project_id, volume_id, layer_id = parse_name(spec.source, "projects/*/volumes/*/layers/*")
    else:
        (project_id, volume_id), layer_id = parse_name(spec.source, "projects/*/volumes/*"), ""
    if layer_id and spec.segmentation:
        raise InvalidArgument(
            "BAD_SOURCE", "a segmentation is of a volume; name its labels layer as `prediction`"
        )
    if spec.prediction and not spec.segmentation:
        raise InvalidArgument(
            "BAD_SOURCE", "`prediction` belongs to `segmentation`; set that, or name the layer as source"
        )
    if spec.HasField("as_of") and not spec.segmentation and not layer_id:
        raise _bad_as_of()
    if spec.without_edits and not layer_id:
        raise InvalidArgument(
            "BAD_SOURCE", "`without_edits` is for layers of instances; name one as `source`"
        )
    prediction_id = ""
    if spec.prediction:
        *volume, prediction_id = parse_name(spec.prediction, "projects/*/volumes/*/layers/*")
        if volume != [project_id, volume_id]:
            raise InvalidArgument("BAD_SOURCE", f"{spec.prediction} is not a layer of {spec.source}")
    return ExportPlan(
        spec=spec,
        project_id=project_id,
        volume_id=volume_id,
        layer_id=layer_id,
        region=region_from_proto(spec.region) if spec.HasField("region") else None,
        segmentation=spec.segmentation,
        prediction_id=prediction_id,
        file_format=file_format,
        as_of_us=spec.as_of.ToMicroseconds() if spec.HasField("as_of") else None,
        without_edits=spec.without_edits,
    )


def _bad_as_of() -> InvalidArgument:
    return InvalidArgument(
        "BAD_AS_OF",
        "`as_of` belongs to `segmentation` and to layers of instances; set that, or leave it unset",
    )


def _file_format(number: int) -> FileFormat:
    formats = job_pb2.ExportSpec.Format
    name = formats.Name(number) if number in formats.values() else ""
    found = BY_KEY.get(name.removeprefix("FORMAT_").lower())
    if found is None:
        raise InvalidArgument("BAD_FORMAT", "an export needs a `format`, for example FORMAT_OME_TIFF")
    return found


def _require_same(name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise InvalidArgument(
            "OTHER_PROJECT", f"{name} does not belong to projects/{wanted}, which the job is for"
        )
