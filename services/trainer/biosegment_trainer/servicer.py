"""The trainer's services over gRPC: messages in, use case, messages out."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, cast

from biosegment.api.trainer.v1alpha1 import (
    trainer_pb2,
    trainer_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.jobs import Progress
from biosegment.jobs.convert import job_id_of
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import region_from_proto
from biosegment_trainer.convert import model_id_of, model_to_proto
from biosegment_trainer.prediction.measure import MEASURES
from biosegment_trainer.registry.conversion import BIOIMAGE_IO, ONNX
from biosegment_trainer.registry.model import SHARED_PROJECT
from biosegment_trainer.service import (
    BUNDLE,
    ModelService,
    Upload,
    WorkerReads,
    WorkerReports,
    list_token,
    read_list_token,
)

TRAINER_SERVICE: Final = "biosegment.api.trainer.v1alpha1.TrainerService"
_FORMATS: Final = {
    trainer_pb2.ExportModelRequest.FORMAT_UNSPECIFIED: BUNDLE,
    trainer_pb2.ExportModelRequest.FORMAT_MONAI_BUNDLE: BUNDLE,
    trainer_pb2.ExportModelRequest.FORMAT_ONNX: ONNX,
    trainer_pb2.ExportModelRequest.FORMAT_BIOIMAGE_IO: BIOIMAGE_IO,
}
WORKER_SERVICE: Final = "biosegment.api.trainer.v1alpha1.WorkerService"


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """The registry of models."""

    def __init__(self, service: ModelService, object_store_url: str) -> None:
        self._service = service
        self._url = object_store_url

    async def GetModel(
        self, request: trainer_pb2.GetModelRequest, context: Any
    ) -> trainer_pb2.GetModelResponse:
        model = await self._service.get(current_principal(), model_id_of(request.name))
        return trainer_pb2.GetModelResponse(model=model_to_proto(model, self._url))

    async def ListModels(
        self, request: trainer_pb2.ListModelsRequest, context: Any
    ) -> trainer_pb2.ListModelsResponse:
        project_id = parse_name(request.project, "projects/*")[0] if request.project else SHARED_PROJECT
        if not 0 <= request.page_size <= 500:
            raise InvalidArgument("BAD_PAGE_SIZE", f"page_size {request.page_size} is not within 1..500")
        limit = request.page_size or 50
        before = read_list_token(project_id, request.page_token)
        found = await self._service.list(current_principal(), project_id, before, limit + 1)
        page = found[:limit]
        return trainer_pb2.ListModelsResponse(
            models=[model_to_proto(model, self._url, brief=True) for model in page],
            next_page_token=list_token(project_id, page[-1].version) if len(found) > limit else "",
        )

    async def UpdateModel(
        self, request: trainer_pb2.UpdateModelRequest, context: Any
    ) -> trainer_pb2.UpdateModelResponse:
        model = await self._service.rename(
            current_principal(), model_id_of(request.model.name), request.model.display_name
        )
        return trainer_pb2.UpdateModelResponse(model=model_to_proto(model, self._url))

    async def DeleteModel(
        self, request: trainer_pb2.DeleteModelRequest, context: Any
    ) -> trainer_pb2.DeleteModelResponse:
        await self._service.delete(current_principal(), model_id_of(request.name))
        return trainer_pb2.DeleteModelResponse()

    async def GetModelLineage(
        self, request: trainer_pb2.GetModelLineageRequest, context: Any
    ) -> trainer_pb2.GetModelLineageResponse:
        models = await self._service.lineage(current_principal(), model_id_of(request.name))
        return trainer_pb2.GetModelLineageResponse(
            models=[model_to_proto(model, self._url, brief=number > 0) for number, model in enumerate(models)]
        )

    async def ExportModel(
        self, request: trainer_pb2.ExportModelRequest, context: Any
    ) -> AsyncIterator[trainer_pb2.ExportModelResponse]:
        file_format = _FORMATS.get(request.format)
        if file_format is None:
            raise InvalidArgument(
                "BAD_FORMAT", f"format {request.format} is none of ExportModelRequest.Format"
            )
        pieces = self._service.export(current_principal(), model_id_of(request.name), file_format)
        async with aclosing(cast(Any, pieces)):
            async for piece in pieces:
                yield trainer_pb2.ExportModelResponse(data=piece)

    async def ImportModel(
        self, request_iterator: AsyncIterator[trainer_pb2.ImportModelRequest], context: Any
    ) -> trainer_pb2.ImportModelResponse:
        requests = aiter(request_iterator)
        first = await anext(requests, trainer_pb2.ImportModelRequest())
        (project_id,) = parse_name(first.project, "projects/*")

        async def pieces() -> AsyncIterator[bytes]:
            yield first.data
            async for request in requests:
                yield request.data

        model = await self._service.import_bundle(
            current_principal(), Upload(project_id, first.display_name, first.trusted, pieces())
        )
        return trainer_pb2.ImportModelResponse(model=model_to_proto(model, self._url))

    async def ListMeasures(
        self, request: trainer_pb2.ListMeasuresRequest, context: Any
    ) -> trainer_pb2.ListMeasuresResponse:
        current_principal()
        measures = [trainer_pb2.Measure(measure=name, description=text) for name, text in MEASURES.items()]
        return trainer_pb2.ListMeasuresResponse(measures=measures)


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """What workers call."""

    def __init__(self, reports: WorkerReports, reads: WorkerReads) -> None:
        self._reports = reports
        self._reads = reads

    async def ReportProgress(
        self, request: worker_pb2.ReportProgressRequest, context: Any
    ) -> worker_pb2.ReportProgressResponse:
        progress = Progress(request.fraction, request.step, request.done, request.total, request.unit)
        cancel = await self._reports.report(
            current_principal(),
            job_id_of(request.job),
            request.attempt,
            progress,
            {name: value for name, value in request.metrics.items() if math.isfinite(value)},
            list(request.log),
        )
        return worker_pb2.ReportProgressResponse(cancel=cancel)

    async def ReadVoxels(self, request: worker_pb2.ReadVoxelsRequest, context: Any) -> AsyncIterator[Any]:
        pieces = self._reads.read(
            current_principal(),
            job_id_of(request.job),
            request.attempt,
            request.volume,
            region_from_proto(request.region),
            request.as_of if request.HasField("as_of") else None,
        )
        async with aclosing(cast(Any, pieces)):
            async for piece in pieces:
                yield piece
