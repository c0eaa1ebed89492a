"""Between the messages of `biosegment.api.job` and the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import Internal, InvalidArgument
from biosegment.ids import parse_name
from biosegment.jobs.job import Job, JobError, JobResult, JobState, LogLine, Progress, Resources

_STATES: Final = {
    JobState.QUEUED: job_pb2.Job.STATE_QUEUED,
    JobState.RUNNING: job_pb2.Job.STATE_RUNNING,
    JobState.SUCCEEDED: job_pb2.Job.STATE_SUCCEEDED,
    JobState.FAILED: job_pb2.Job.STATE_FAILED,
    JobState.CANCELLED: job_pb2.Job.STATE_CANCELLED,
}
_FROM_PROTO: Final = {value: state for state, value in _STATES.items()}


def spec_of(data: bytes) -> job_pb2.JobSpec:
    """Parse a stored spec."""
    try:
        return job_pb2.JobSpec.FromString(data)
    except DecodeError as error:
        raise Internal("BAD_SPEC", f"a stored job spec cannot be read: {error}") from error


def spec_bytes(spec: job_pb2.JobSpec) -> bytes:
    """Serialize a spec; equal specs give equal bytes."""
    return spec.SerializeToString(deterministic=True)


def kind_of(spec: job_pb2.JobSpec) -> str:
    """Name of the kind that is set, '' when none is."""
    return spec.WhichOneof("kind") or ""


def job_id_of(name: str) -> str:
    """`jobs/trainer-01...` -> `trainer-01...`; InvalidArgument BAD_NAME."""
    return parse_name(name, "jobs/*")[0]


def states_from_proto(states: list[job_pb2.Job.State]) -> frozenset[JobState]:
    """States of a ListJobs request; InvalidArgument BAD_STATE for STATE_UNSPECIFIED and unknown ones."""
    try:
        return frozenset(_FROM_PROTO[state] for state in states)
    except KeyError as error:
        raise InvalidArgument("BAD_STATE", f"{error.args[0]} is not a state that a job can have") from error


def state_to_proto(state: JobState) -> job_pb2.Job.State:
    """The wire's word for a state."""
    return _STATES[state]


def progress_to_proto(progress: Progress) -> job_pb2.Progress:
    return job_pb2.Progress(
        fraction=progress.fraction,
        step=progress.step,
        done=progress.done,
        total=progress.total,
        unit=progress.unit,
        eta_s=progress.eta_s,
    )


def result_to_proto(result: JobResult) -> job_pb2.JobResult:
    return job_pb2.JobResult(
        volume=result.volume,
        model=result.model,
        layers=result.layers,
        artifact=result.artifact,
        annotations=result.annotations,
        artifacts=result.artifacts,
    )


def error_to_proto(error: JobError) -> job_pb2.JobError:
    return job_pb2.JobError(reason=error.reason, message=error.message)


def job_to_proto(job: Job) -> job_pb2.Job:
    """A job as the wire shows it."""
    return job_pb2.Job(
        name=job.name,
        project=f"projects/{job.project_id}",
        state=_STATES[job.state],
        spec=spec_of(job.spec),
        progress=progress_to_proto(job.progress),
        owner=job.owner,
        attempt=job.attempt,
        error=error_to_proto(job.error) if job.error else None,
        result=result_to_proto(job.result) if job.result else None,
        create_time=_timestamp(job.create_time),
        start_time=_timestamp(job.start_time),
        end_time=_timestamp(job.end_time),
        revision=job.revision,
        queue_position=job.queue_position,
        metrics=job.metrics,
        cancel_requested=job.cancel_requested,
        resources=resources_to_proto(job.resources) if job.resources != Resources() else None,
        start_eta_s=job.start_eta_s,
    )


def resources_to_proto(resources: Resources) -> job_pb2.Resources:
    return job_pb2.Resources(cpus=resources.cpus, gpus=resources.gpus, memory_bytes=resources.memory_bytes)


def resources_from_proto(message: job_pb2.Resources) -> Resources:
    """What a spec asks for; InvalidArgument BAD_RESOURCES for negative amounts."""
    if message.cpus < 0 or message.gpus < 0 or message.memory_bytes < 0:
        raise InvalidArgument(
            "BAD_RESOURCES",
            f"{message.cpus} CPUs, {message.gpus} GPUs and {message.memory_bytes} bytes of memory cannot be "
            "reserved; 0 is the default of each",
        )
    return Resources(message.cpus, message.gpus, message.memory_bytes)


def line_to_proto(line: LogLine) -> job_pb2.JobLogLine:
    return job_pb2.JobLogLine(
        line=line.line, time=_timestamp(line.time), attempt=line.attempt, text=line.text
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
