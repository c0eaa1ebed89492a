"""JobService of the gateway: list and watch are merged, every other call goes to the service that keeps the job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import grpc

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import InvalidArgument, Unimplemented
from biosegment.rpc import current_principal
from biosegment_gateway.job import JobList, Query, service_of_job
from biosegment_gateway.job_watch import JobWatch

SERVICE: Final = "biosegment.api.job.v1alpha1.JobService"
KEEPERS: Final = ("datastore", "trainer")
_DATASTORE_KINDS: Final = frozenset({"import_volume", "import_labels", "export"})

_BY_NAME: Final[Mapping[str, Callable[[], Any]]] = {
    "GetJob": job_pb2.GetJobRequest,
    "WatchJob": job_pb2.WatchJobRequest,
    "CancelJob": job_pb2.CancelJobRequest,
    "RetryJob": job_pb2.RetryJobRequest,
    "ListJobLogs": job_pb2.ListJobLogsRequest,
}


def route_job(method: str, message: bytes) -> str:
    """Say which service a call of JobService goes to.

    Raises:
        InvalidArgument: BAD_MESSAGE, NO_JOB_KIND, BAD_NAME.
        Unimplemented: METHOD_NOT_SERVED.
    """
    if method == "CreateJob":
        kind = _parse(job_pb2.CreateJobRequest(), message).spec.WhichOneof("kind")
        if kind is None:
            raise InvalidArgument("NO_JOB_KIND", "spec says no kind of job; set exactly one of its fields")
        return "datastore" if kind in _DATASTORE_KINDS else "trainer"
    if method not in _BY_NAME:
        raise Unimplemented("METHOD_NOT_SERVED", f"the gateway serves no method {SERVICE}/{method}")
    return service_of_job(_parse(_BY_NAME[method](), message).name, KEEPERS)


def merged_handler(jobs: JobList[job_pb2.Job], watch: JobWatch) -> grpc.GenericRpcHandler:
    """Serve ListJobs and WatchJobs, and only those; goes before the pass-through."""

    async def list_jobs(request: job_pb2.ListJobsRequest, context: Any) -> job_pb2.ListJobsResponse:
        page, token = await jobs.list(
            current_principal(),
            Query(request.project, tuple(request.states)),
            request.page_size,
            request.page_token,
        )
        return job_pb2.ListJobsResponse(jobs=page, next_page_token=token)

    async def watch_jobs(
        request: job_pb2.WatchJobsRequest, context: Any
    ) -> AsyncIterator[job_pb2.WatchJobsResponse]:
        found = watch.watch(current_principal(), request.project, request.resume_token)
        async with aclosing(found) as answers:
            async for answer in answers:
                yield answer

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "ListJobs": grpc.unary_unary_rpc_method_handler(
                list_jobs,
                request_deserializer=job_pb2.ListJobsRequest.FromString,
                response_serializer=job_pb2.ListJobsResponse.SerializeToString,
            ),
            "WatchJobs": grpc.unary_stream_rpc_method_handler(
                watch_jobs,
                request_deserializer=job_pb2.WatchJobsRequest.FromString,
                response_serializer=job_pb2.WatchJobsResponse.SerializeToString,
            ),
        },
    )


def _parse(request: Any, message: bytes) -> Any:
    try:
        request.ParseFromString(message)
    except Exception as error:  # DecodeError's place differs between protobuf's implementations
        raise InvalidArgument("BAD_MESSAGE", "the request is no valid protobuf message") from error
    return request
