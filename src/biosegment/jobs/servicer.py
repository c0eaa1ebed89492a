"""JobService over gRPC: messages in, use case, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.ids import parse_name
from biosegment.jobs.convert import (
    job_id_of,
    job_to_proto,
    kind_of,
    line_to_proto,
    spec_bytes,
    states_from_proto,
)
from biosegment.jobs.service import JobService
from biosegment.rpc import current_principal

JOB_SERVICE: Final = "biosegment.api.job.v1alpha1.JobService"


class JobServicer(job_pb2_grpc.JobServiceServicer):
    """Serves the jobs of one service; `RpcServer.add(add_JobServiceServicer_to_server, servicer,
    JOB_SERVICE)`.
    """

    def __init__(self, service: JobService) -> None:
        self._service = service

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: Any) -> job_pb2.CreateJobResponse:
        (project_id,) = parse_name(request.project, "projects/*")
        job = await self._service.create(
            current_principal(),
            project_id,
            kind_of(request.spec),
            spec_bytes(request.spec),
            request.request_id,
        )
        return job_pb2.CreateJobResponse(job=job_to_proto(job))

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Any) -> job_pb2.GetJobResponse:
        job = await self._service.get(current_principal(), job_id_of(request.name))
        return job_pb2.GetJobResponse(job=job_to_proto(job))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Any) -> job_pb2.ListJobsResponse:
        project_id = parse_name(request.project, "projects/*")[0] if request.project else ""
        jobs, token = await self._service.list(
            current_principal(),
            project_id,
            states_from_proto(list(request.states)),
            request.page_size,
            request.page_token,
        )
        return job_pb2.ListJobsResponse(jobs=[job_to_proto(job) for job in jobs], next_page_token=token)

    async def WatchJob(
        self, request: job_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[job_pb2.WatchJobResponse]:
        job_id = job_id_of(request.name)
        async for job in self._service.watch(current_principal(), job_id, request.after_revision):
            yield job_pb2.WatchJobResponse(job=job_to_proto(job))

    async def WatchJobs(
        self, request: job_pb2.WatchJobsRequest, context: Any
    ) -> AsyncIterator[job_pb2.WatchJobsResponse]:
        (project_id,) = parse_name(request.project, "projects/*")
        found = self._service.watch_project(current_principal(), project_id, request.resume_token)
        async with aclosing(found) as changes:
            async for job, token in changes:
                yield job_pb2.WatchJobsResponse(job=job_to_proto(job) if job else None, resume_token=token)

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Any) -> job_pb2.CancelJobResponse:
        job = await self._service.cancel(current_principal(), job_id_of(request.name))
        return job_pb2.CancelJobResponse(job=job_to_proto(job))

    async def RetryJob(self, request: job_pb2.RetryJobRequest, context: Any) -> job_pb2.RetryJobResponse:
        job = await self._service.retry(current_principal(), job_id_of(request.name))
        return job_pb2.RetryJobResponse(job=job_to_proto(job))

    async def ListJobLogs(
        self, request: job_pb2.ListJobLogsRequest, context: Any
    ) -> job_pb2.ListJobLogsResponse:
        lines = await self._service.log(
            current_principal(), job_id_of(request.name), request.after_line, request.page_size
        )
        return job_pb2.ListJobLogsResponse(lines=[line_to_proto(line) for line in lines])
