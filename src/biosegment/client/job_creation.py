"""How every kind of job is created."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.api.job.v1alpha1.job_pb2_grpc import JobServiceStub
from biosegment.client.resources import Job


class JobCreation:
    """What the kinds of jobs have in common."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = JobServiceStub(channel)

    async def _create(self, project: str, spec: pb.JobSpec) -> Job:
        request = pb.CreateJobRequest(project=project, spec=spec, request_id=str(uuid.uuid4()))
        return Job.from_proto((await self._stub.CreateJob(request)).job)


def project_of(name: str) -> str:
    """`projects/{p}` of a volume or of what belongs to one."""
    return "/".join(name.split("/")[:2])


def struct_of(options: Mapping[str, Any] | None) -> Struct | None:
    """Options as they are sent; None when there are none."""
    return ParseDict(dict(options), Struct()) if options else None
