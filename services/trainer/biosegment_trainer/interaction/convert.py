"""Between messages and the values of interactive segmentation."""

from __future__ import annotations

from typing import Final

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc.geometry import (
    data_type_from_proto,
    index_from_proto,
    region_from_proto,
    region_to_proto,
    voxel_size_from_proto,
    voxel_size_to_proto,
)
from biosegment.volume import Region
from biosegment_trainer.convert import model_id_of
from biosegment_trainer.interaction.labeller import Labelling
from biosegment_trainer.interaction.request import LabelRequest, SegmentRequest, SentImage, VolumePart
from biosegment_trainer.interaction.service import Segmentation
from biosegment_trainer.interaction.task import ClickedVoxel, Plane

_PLANES: Final = {
    pb.PLANE_UNSPECIFIED: Plane.VOLUME,
    pb.PLANE_XY: Plane.XY,
    pb.PLANE_XZ: Plane.XZ,
    pb.PLANE_YZ: Plane.YZ,
}


def request_from_proto(message: pb.SegmentRequest, project_id: str) -> SegmentRequest:
    """Raises InvalidArgument for values that can never work."""
    plane = _PLANES.get(message.plane)
    if plane is None:
        raise InvalidArgument("BAD_PLANE", f"plane {message.plane} is none of Plane")
    return SegmentRequest(
        project_id=project_id,
        source=_source(message),
        class_value=message.class_value,
        plane=plane,
        model=model_id_of(message.model) if message.model else "",
        clicks=tuple(ClickedVoxel(index_from_proto(each.position), each.positive) for each in message.clicks),
        scribbles=message.scribbles,
        previous_mask=message.previous_mask,
        base_layer=message.base_layer,
        base_sequence=message.base_sequence if message.HasField("base_sequence") else None,
        with_probability=message.with_probability,
        session=message.session,
        draft=message.draft,
        network_features=message.network_features,
    )


def label_request_from_proto(message: pb.SegmentByModelRequest, project_id: str) -> LabelRequest:
    """Raises InvalidArgument for values that can never work."""
    return LabelRequest(project_id, _source(message), model_id_of(message.model) if message.model else "")


def _source(message: pb.SegmentRequest | pb.SegmentByModelRequest) -> SentImage | VolumePart:
    kind = message.WhichOneof("input")
    if kind == "volume_image":
        part = message.volume_image
        parse_name(part.volume, "projects/*/volumes/*")
        level = part.level if part.HasField("level") else None
        return VolumePart(part.volume, region_from_proto(part.region), level)
    if kind == "image":
        image = message.image
        shape = index_from_proto(image.shape)
        if min(shape) < 1:
            raise InvalidArgument(
                "BAD_IMAGE", f"the image's shape {tuple(shape)} (zyx) has an edge without voxels"
            )
        return SentImage(
            Region.of_shape(shape).shape,
            data_type_from_proto(image.data_type),
            voxel_size_from_proto(image.voxel_size),
            image.data,
        )
    raise InvalidArgument("NO_INPUT", "say what to segment: volume_image, or an image that is sent along")


def answer_to_proto(found: Segmentation) -> pb.SegmentResponse:
    """An answer as the wire shows it."""
    answer = found.answer
    return pb.SegmentResponse(
        mask=answer.mask,
        probability=answer.probability,
        changed=region_to_proto(answer.changed) if answer.changed is not None else None,
        level=found.level,
        voxel_size=voxel_size_to_proto(found.voxel_size),
        model=found.model,
    )


def labelling_to_proto(found: Labelling) -> pb.SegmentByModelResponse:
    """Labels as the wire shows them."""
    return pb.SegmentByModelResponse(labels=found.labels, model=found.model, class_values=found.class_values)
