"""The trainer, asked in the name of users for the page."""

from __future__ import annotations

from biosegment.api.trainer.v1alpha1 import trainer_pb2, trainer_pb2_grpc
from biosegment.auth import Principal
from biosegment.errors import BiosegmentError
from biosegment_gateway.upstream import Upstream


class TrainerClient:
    """Reads models."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._stub = trainer_pb2_grpc.TrainerServiceStub(upstream.channel)

    async def list_models(
        self, principal: Principal, project: str, page_size: int, page_token: str
    ) -> trainer_pb2.ListModelsResponse:
        """A page of a project's models, newest first."""
        request = trainer_pb2.ListModelsRequest(project=project, page_size=page_size, page_token=page_token)
        try:
            return await self._stub.ListModels(request, metadata=self._upstream.metadata(principal))
        except BiosegmentError as error:
            raise self._upstream.named(error) from error
