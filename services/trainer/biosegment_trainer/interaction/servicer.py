"""Interactive segmentation over gRPC."""

from __future__ import annotations

from typing import Any, Final

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.api.trainer.v1alpha1 import segmentation_pb2_grpc
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment_trainer.interaction.convert import answer_to_proto, request_from_proto
from biosegment_trainer.interaction.service import InteractionService

SEGMENTATION_SERVICE: Final = "biosegment.api.trainer.v1alpha1.SegmentationService"


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Clicks and strokes."""

    def __init__(self, service: InteractionService) -> None:
        self._service = service

    async def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:
        principal = current_principal()
        (project_id,) = parse_name(request.project, "projects/*")
        # Before a word is said about anything else.
        await self._service.authorize(principal, project_id)
        found = await self._service.segment(principal, request_from_proto(request, project_id))
        return answer_to_proto(found)
