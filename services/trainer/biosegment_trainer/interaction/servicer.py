"""Interactive segmentation over gRPC."""

from __future__ import annotations

from typing import Any, Final

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.api.trainer.v1alpha1 import segmentation_pb2_grpc
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment_trainer.interaction.convert import (
    answer_to_proto,
    label_request_from_proto,
    labelling_to_proto,
    request_from_proto,
)
from biosegment_trainer.interaction.labeller import Labeller
from biosegment_trainer.interaction.service import InteractionService

SEGMENTATION_SERVICE: Final = "biosegment.api.trainer.v1alpha1.SegmentationService"


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Clicks, strokes, and labels without either."""

    def __init__(self, service: InteractionService, labeller: Labeller) -> None:
        self._service = service
        self._labeller = labeller

    async def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:
        principal = current_principal()
        (project_id,) = parse_name(request.project, "projects/*")
        # Before a word is said about anything else.
        await self._service.authorize(principal, project_id)
        found = await self._service.segment(principal, request_from_proto(request, project_id))
        return answer_to_proto(found)

    async def SegmentByModel(
        self, request: pb.SegmentByModelRequest, context: Any
    ) -> pb.SegmentByModelResponse:
        principal = current_principal()
        (project_id,) = parse_name(request.project, "projects/*")
        await self._service.authorize(principal, project_id)
        found = await self._labeller.label(principal, label_request_from_proto(request, project_id))
        return labelling_to_proto(found)

    async def PrepareSegmentation(
        self, request: pb.PrepareSegmentationRequest, context: Any
    ) -> pb.PrepareSegmentationResponse:
        (project_id,) = parse_name(request.project, "projects/*")
        await self._service.prepare(current_principal(), project_id)
        return pb.PrepareSegmentationResponse()
