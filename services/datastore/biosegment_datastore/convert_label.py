"""From the message of a label import to what the datastore does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import InvalidArgument
from biosegment.ids import check_id, parse_name
from biosegment.jobs.convert import spec_bytes, spec_of
from biosegment.rpc.geometry import index_from_proto, region_from_proto
from biosegment.volume import BACKGROUND, FIRST_CLASS, NOT_ANNOTATED, Index, Region
from biosegment_datastore.convert_job import source_options
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions
from biosegment_datastore.layer import ANNOTATIONS_LAYER
from biosegment_datastore.project import check_text

_ZERO = {
    job_pb2.ImportLabelsSpec.ZERO_MEANING_NOT_ANNOTATED: NOT_ANNOTATED,
    job_pb2.ImportLabelsSpec.ZERO_MEANING_BACKGROUND: BACKGROUND,
}


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """A checked import of labels.

    Attributes:
        uri: Path or URI; '' with an upload.
        upload_id: '' with a path.
        offset: Where the file's first voxel lies; None: the shapes must be equal.
        extent: What is imported; None: all of the file.
        values: Class by value of the file.
        zero: What 0 means.
        other: Class of all other values; None: they have none.
        class_scope: Classes that were looked for; of instances their class, or none.
        layer_id: '' with annotations.
    """

    spec: job_pb2.ImportLabelsSpec
    project_id: str
    volume_id: str
    uri: str
    upload_project_id: str
    upload_id: str
    offset: Index | None
    extent: Region | None
    values: dict[int, int]
    zero: int
    other: int | None
    class_scope: tuple[int, ...]
    as_annotations: bool
    instances: bool
    layer_id: str
    display_name: str
    options: SourceOptions

    def require_project(self, project_id: str) -> None:
        """InvalidArgument OTHER_PROJECT when volume or upload belong to another project than the job."""
        for name, found in ((self.spec.volume, self.project_id), (self.spec.upload, self.upload_project_id)):
            if name and found != project_id:
                raise InvalidArgument(
                    "OTHER_PROJECT", f"{name} does not belong to projects/{project_id}, which the job is for"
                )

    def require_classes(self, class_values: Collection[int]) -> None:
        """InvalidArgument UNKNOWN_CLASS for a class that the project lacks or that is outside of the scope."""
        targets = {*self.values.values(), *([] if self.other is None else [self.other])}
        classes = {target for target in targets if target >= FIRST_CLASS}
        if unknown := sorted((classes | {*self.class_scope}) - {*class_values}):
            raise InvalidArgument(
                "UNKNOWN_CLASS", f"the project has no class {unknown}; it has {sorted(class_values)}"
            )
        if outside := sorted(classes - {*self.class_scope}):
            raise InvalidArgument(
                "UNKNOWN_CLASS",
                f"values mean class {outside}, which is not in class_scope {list(self.class_scope)}: add it there",
            )

    def meaning(self) -> dict[str, Any] | None:
        """What the values mean, for the worker process; None for instances."""
        if self.instances:
            return None
        values = {str(value): target for value, target in self.values.items()}
        return {"values": values, "zero": self.zero, "other": self.other}

    def completed(self, layer_id: str) -> bytes:
        """The spec to store, with the layer's id."""
        spec = job_pb2.ImportLabelsSpec()
        spec.CopyFrom(self.spec)
        spec.layer_id = layer_id
        return spec_bytes(job_pb2.JobSpec(import_labels=spec))


def label_plan(data: bytes) -> LabelPlan:
    """Read a label import's spec; what does not depend on the present state is checked here.

    Raises:
        InvalidArgument: SOURCE_MISSING, BAD_NAME, BAD_ID, BAD_TEXT, BAD_OFFSET, BAD_REGION, BAD_VALUES, VALUES_MISSING,
            ZERO_MEANING_MISSING, SCOPE_MISSING, BAD_LABELS, BAD_AXES, BAD_CHANNEL, BAD_TIME_POINT.
    """
    spec = spec_of(data).import_labels
    project_id, volume_id = parse_name(spec.volume, "projects/*/volumes/*")
    source = spec.WhichOneof("source")
    if source is None or not getattr(spec, source):
        raise InvalidArgument("SOURCE_MISSING", "an import needs a `uri` or an `upload`")
    names = parse_name(spec.upload, "projects/*/uploads/*") if source == "upload" else ("", "")
    offset = index_from_proto(spec.offset) if spec.HasField("offset") else None
    if offset is not None and min(offset) < 0:
        raise InvalidArgument(
            "BAD_OFFSET", f"offset {tuple(offset)} is negative: labels begin inside the volume"
        )
    check_text("display_name", spec.display_name, 0, 200)
    _check_target(spec)
    _check_values(spec)
    return LabelPlan(
        spec=spec,
        project_id=project_id,
        volume_id=volume_id,
        uri=spec.uri,
        upload_project_id=names[0],
        upload_id=names[1],
        offset=offset,
        extent=region_from_proto(spec.extent) if spec.HasField("extent") else None,
        values=dict(spec.values),
        zero=_ZERO.get(spec.zero_meaning, NOT_ANNOTATED),
        other=spec.other_values if spec.HasField("other_values") else None,
        class_scope=_scope(spec),
        as_annotations=spec.as_annotations,
        instances=spec.instances,
        layer_id=spec.layer_id,
        display_name=spec.display_name,
        options=source_options(spec, ACCEPTED_LABELS),
    )


def _check_target(spec: job_pb2.ImportLabelsSpec) -> None:
    if spec.instances and (spec.as_annotations or spec.values or spec.HasField("other_values")):
        raise InvalidArgument(
            "BAD_LABELS",
            "instances are ids and become a layer: leave out as_annotations, values and other_values, or leave out "
            "instances",
        )
    if spec.instances and len({*spec.class_scope}) > 1:
        raise InvalidArgument(
            "BAD_LABELS",
            f"the objects of a layer of instances are of one class, class_scope has {list(spec.class_scope)}: import "
            "each class by itself",
        )
    if spec.layer_id and spec.as_annotations:
        raise InvalidArgument("BAD_LABELS", "annotations are no layer: leave out layer_id or as_annotations")
    if spec.layer_id:
        check_id(spec.layer_id, "layer")
    if spec.layer_id == ANNOTATIONS_LAYER:
        raise InvalidArgument(
            "BAD_ID", f"layer id {spec.layer_id!r} is reserved for the projection of annotations"
        )


def _check_values(spec: job_pb2.ImportLabelsSpec) -> None:
    if spec.instances:
        return
    if spec.zero_meaning not in _ZERO:
        raise InvalidArgument(
            "ZERO_MEANING_MISSING",
            "say what 0 means in the file: not annotated (nobody looked there), or background (none of the classes)",
        )
    if not spec.values and not spec.HasField("other_values"):
        raise InvalidArgument(
            "VALUES_MISSING",
            "say what the file's values mean: `values` for each, or `other_values` for all but 0",
        )
    if 0 in spec.values:
        raise InvalidArgument("BAD_VALUES", "what 0 means is said by zero_meaning; leave it out of `values`")
    targets = [*spec.values.values(), *([spec.other_values] if spec.HasField("other_values") else [])]
    if wrong := sorted({target for target in targets if target > 255}):
        raise InvalidArgument("BAD_VALUES", f"{wrong} are no classes: classes are 2 to 255, 1 is background")


def _scope(spec: job_pb2.ImportLabelsSpec) -> tuple[int, ...]:
    named = {*spec.values.values(), *([spec.other_values] if spec.HasField("other_values") else [])}
    scope = tuple(sorted({*spec.class_scope} or {value for value in named if value >= FIRST_CLASS}))
    if spec.as_annotations and not scope:
        raise InvalidArgument(
            "SCOPE_MISSING",
            "the values name no class: say with class_scope which classes were looked for in the file",
        )
    return scope
