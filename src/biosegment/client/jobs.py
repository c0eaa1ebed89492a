"""Long work: starting it, watching it, stopping it."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.client.model_jobs import ModelJobs
from biosegment.client.object_jobs import ObjectJobs
from biosegment.client.resources import Job, JobLogLine, JobState
from biosegment.client.resources.wire import states_of
from biosegment.client.transfer_jobs import TransferJobs
from biosegment.errors import FailedPrecondition, Unavailable

_RECONNECT_ATTEMPTS = 60


class Jobs(TransferJobs, ModelJobs, ObjectJobs):
    """Jobs of all services."""

    async def get(self, name: str) -> Job:
        """Return a job by its name `jobs/{service}-{id}`."""
        return Job.from_proto((await self._stub.GetJob(pb.GetJobRequest(name=name))).job)

    async def list(self, project: str = "", *, state: str = "") -> builtins.list[Job]:
        """Return the jobs of a project, newest first; of all projects (administrators only) when empty.

        Raises:
            InvalidArgument: UNKNOWN_STATE.
        """
        states = states_of(pb.Job.State, state)
        found: builtins.list[Job] = []
        token = ""
        while True:
            request = pb.ListJobsRequest(project=project, states=states, page_size=500, page_token=token)
            page = await self._stub.ListJobs(request)
            found.extend(map(Job.from_proto, page.jobs))
            token = page.next_page_token
            if not token:
                return found

    async def watch(self, name: str) -> AsyncIterator[Job]:
        """Yield a job now and at every change until it has ended; goes on over restarts of the server."""
        revision = 0
        failures = 0
        while True:
            try:
                request = pb.WatchJobRequest(name=name, after_revision=revision)
                async for answer in self._stub.WatchJob(request):
                    failures = 0
                    job = Job.from_proto(answer.job)
                    revision = job.revision
                    yield job
                    if job.state.ended:
                        return
            except Unavailable:
                failures += 1
                if failures > _RECONNECT_ATTEMPTS:
                    raise
            # A stream may end before the job does, when its server stops.
            await asyncio.sleep(0.5)

    async def wait(self, name: str, *, on_change: Callable[[Job], None] | None = None) -> Job:
        """Return a job when it has succeeded.

        Raises:
            FailedPrecondition: With the job's own reason when it failed, JOB_CANCELLED when it was cancelled.
        """
        job: Job | None = None
        async for job in self.watch(name):
            if on_change is not None:
                on_change(job)
        assert job is not None
        if job.state is JobState.FAILED:
            reason, message = (
                (job.error.reason, job.error.message) if job.error else ("JOB_FAILED", "no reason")
            )
            raise FailedPrecondition(reason, f"{job.kind} job {job.name} failed: {message}", job=job.name)
        if job.state is JobState.CANCELLED:
            raise FailedPrecondition(
                "JOB_CANCELLED", f"{job.kind} job {job.name} was cancelled", job=job.name
            )
        return job

    async def cancel(self, name: str) -> Job:
        """Ask a job to stop."""
        return Job.from_proto((await self._stub.CancelJob(pb.CancelJobRequest(name=name))).job)

    async def retry(self, name: str) -> Job:
        """Queue a failed or cancelled job again."""
        return Job.from_proto((await self._stub.RetryJob(pb.RetryJobRequest(name=name))).job)

    async def log(self, name: str, *, after_line: int = 0) -> builtins.list[JobLogLine]:
        """Return the lines of a job's log after a line number."""
        found: builtins.list[JobLogLine] = []
        while True:
            request = pb.ListJobLogsRequest(name=name, after_line=after_line, page_size=1000)
            page = (await self._stub.ListJobLogs(request)).lines
            found.extend(
                JobLogLine(item.line, item.time.ToDatetime(), item.attempt, item.text) for item in page
            )
            if len(page) < 1000:
                return found
            after_line = page[-1].line
