"""Jobs of one service, read through its own JobService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.auth import Principal
from biosegment.errors import BiosegmentError
from biosegment_gateway.job import Listed, Query
from biosegment_gateway.upstream import Upstream


class JobClient:
    """`JobSource` of one upstream service."""

    def __init__(self, upstream: Upstream) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._stub = job_pb2_grpc.JobServiceStub(upstream.channel)

    async def list(
        self, principal: Principal, query: Query, page_size: int, page_token: str
    ) -> tuple[Sequence[Listed[job_pb2.Job]], str]:
        """A page of this service's jobs in the name of a user."""
        # Of states that there are not the service says so.
        states: Any = query.states
        request = job_pb2.ListJobsRequest(
            project=query.project,
            states=states,
            page_size=page_size,
            page_token=page_token,
        )
        try:
            answer = await self._stub.ListJobs(request, metadata=self._upstream.metadata(principal))
        except BiosegmentError as error:
            raise self._upstream.named(error) from error
        return [Listed(job.name.partition("-")[2], job) for job in answer.jobs], answer.next_page_token
