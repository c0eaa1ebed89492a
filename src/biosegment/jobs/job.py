"""What a job is, and how it may change.

    queued -> running -> succeeded | failed | cancelled
       ^         |              (retry: failed and cancelled ones are queued again)
       +---------+  the process that worked on it died, or stopped on purpose

An attempt begins with each step from queued to running and has its own number. Whoever works on a job says which
attempt it is; once a newer one has begun, the older one's words count for nothing.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from biosegment.errors import Conflict, FailedPrecondition, InvalidArgument

MAX_CRASHES: Final = 3
"""After so many deaths of the process that worked on it a job is given up: it would kill the next one too."""
MAX_LOSSES: Final = 20
"""After so many losses of the node or the service that it ran on, which are nobody's fault, too."""


class JobState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `fraction` 0..1, `done` of `total` (0 when unknown) counted in `unit`, seconds to the end."""

    fraction: float = 0.0
    step: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    eta_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable UPPER_SNAKE reason and a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """Resource names that a job made."""

    volume: str = ""
    model: str = ""
    layers: tuple[str, ...] = ()
    artifact: str = ""
    annotations: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job, or one of its workers, reserves on one node; or what a node has.

    Attributes:
        cpus: Threads.
        gpus: Whole ones.
        memory_bytes: 0: not reserved.
    """

    cpus: int = 0
    gpus: int = 0
    memory_bytes: int = 0

    def fits(self, node: Resources) -> bool:
        """Whether a node of that size could ever run it."""
        return self.cpus <= node.cpus and self.gpus <= node.gpus and self.memory_bytes <= node.memory_bytes

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPUs", f"{self.gpus} GPUs"]
        if self.memory_bytes:
            parts.append(f"{self.memory_bytes / (1 << 30):.1f} GiB of memory")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known when a job is asked for.

    Attributes:
        project_id: Its project.
        kind: Field of `JobSpec.kind` that is set, for example `train`.
        spec: Serialized `JobSpec`, complete, as the handler will get it.
        digest: Of the request as it came, see `digest`; tells a repeated request from another one.
        request_id: Chosen by the client.
        owner: User id, '' for a service's own.
        priority: Larger is served first.
        resources: What it reserves while it runs.
    """

    project_id: str
    kind: str
    spec: bytes
    digest: str
    request_id: str
    owner: str = ""
    priority: int = 0
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is now.

    Attributes:
        job_id: `{service}-{ulid}`; later jobs sort after earlier ones.
        attempt: 0 before the first.
        crashes: How often its process died under it since it was created or retried.
        revision: Grows with each change that a watcher may see.
        losses: How often it was lost without being to blame: with its node, or with the service.
        resources: What it reserves while it runs.
        queue_position: Jobs before this one; 0 when it is next or not queued.
        start_eta_s: Estimated seconds until a queued job begins; 0 when unknown, or when it is next.
    """

    job_id: str
    project_id: str
    kind: str
    spec: bytes
    owner: str
    request_id: str
    digest: str
    priority: int
    state: JobState
    attempt: int
    crashes: int
    revision: int
    cancel_requested: bool
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: Progress = Progress()
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: JobError | None = None
    result: JobResult | None = None
    losses: int = 0
    resources: Resources = Resources()
    queue_position: int = 0
    start_eta_s: float = 0.0

    @property
    def name(self) -> str:
        return f"jobs/{self.job_id}"

    def require_attempt(self, attempt: int) -> None:
        """Raise Conflict ATTEMPT_OUTDATED unless `attempt` is the one that runs."""
        if self.state is not JobState.RUNNING or self.attempt != attempt:
            raise outdated(self.job_id, attempt)

    def require_ended(self) -> None:
        """Raise FailedPrecondition JOB_NOT_ENDED unless the job may be queued again."""
        if self.state not in (JobState.FAILED, JobState.CANCELLED):
            raise FailedPrecondition(
                "JOB_NOT_ENDED",
                f"job {self.name} is {self.state.value}; only a failed or cancelled job can be tried again",
            )


@dataclass(frozen=True, slots=True)
class LogLine:
    """Line `line` (1, 2, 3 ... over all attempts) of a job's log."""

    line: int
    time: datetime
    attempt: int
    text: str


def outdated(job_id: str, attempt: int) -> Conflict:
    return Conflict(
        "ATTEMPT_OUTDATED",
        f"attempt {attempt} of job {job_id} has ended or was taken over; stop and write nothing more",
    )


def digest(project_id: str, spec: bytes) -> str:
    """Fingerprint of a request, to recognise it when it is repeated."""
    return hashlib.sha256(project_id.encode() + b"\0" + spec).hexdigest()


def require_request_id(request_id: str) -> str:
    """Return `request_id`; InvalidArgument BAD_REQUEST_ID when it is empty or longer than 100 characters."""
    if not 0 < len(request_id) <= 100:
        raise InvalidArgument(
            "BAD_REQUEST_ID",
            f"request_id {request_id[:100]!r} must have 1 to 100 characters; send a new UUID",
        )
    return request_id
