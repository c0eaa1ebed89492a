"""Long work."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.client.resources.wire import time_of, word_of


class JobState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobError:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job reserves on one node; 0 stands for the platform's default."""

    cpus: int = 0
    gpus: int = 0
    memory_bytes: int = 0

    @classmethod
    def from_proto(cls, message: job_pb2.Resources) -> Resources:
        return cls(message.cpus, message.gpus, message.memory_bytes)

    def to_proto(self) -> job_pb2.Resources:
        return job_pb2.Resources(cpus=self.cpus, gpus=self.gpus, memory_bytes=self.memory_bytes)


@dataclass(frozen=True, slots=True)
class Passes:
    """Several passes over the same voxels.

    Attributes:
        mc_dropout: Passes with dropout switched on.
        test_time_augmentation: Passes over turned and mirrored copies, 2..8; 0 for none.
        ensemble: Other models of the same classes.
    """

    mc_dropout: int = 0
    test_time_augmentation: int = 0
    ensemble: tuple[str, ...] = ()

    def to_proto(self) -> job_pb2.Passes:
        return job_pb2.Passes(
            mc_dropout=self.mc_dropout,
            test_time_augmentation=self.test_time_augmentation,
            ensemble=self.ensemble,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """Long work. What it made is in `volume`, `model`, `layers`, `annotations`, `artifact` or `artifacts`, as its kind
    has it.
    """

    name: str
    project: str
    kind: str
    state: JobState
    fraction: float
    step: str
    done: int
    total: int
    unit: str
    eta_s: float
    owner: str
    attempt: int
    error: JobError | None
    volume: str
    model: str
    layers: tuple[str, ...]
    artifact: str
    annotations: tuple[str, ...]
    metrics: dict[str, float]
    revision: int
    queue_position: int
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    resources: Resources | None = None
    start_eta_s: float = 0.0
    artifacts: tuple[str, ...] = ()

    @classmethod
    def from_proto(cls, message: job_pb2.Job) -> Job:
        progress, result = message.progress, message.result
        return cls(
            message.name,
            message.project,
            message.spec.WhichOneof("kind") or "",
            JobState(word_of(job_pb2.Job.State, message.state)),
            progress.fraction,
            progress.step,
            progress.done,
            progress.total,
            progress.unit,
            progress.eta_s,
            message.owner,
            message.attempt,
            JobError(message.error.reason, message.error.message) if message.HasField("error") else None,
            result.volume,
            result.model,
            tuple(result.layers),
            result.artifact,
            tuple(result.annotations),
            dict(message.metrics),
            message.revision,
            message.queue_position,
            time_of(message.create_time),
            time_of(message.start_time),
            time_of(message.end_time),
            Resources.from_proto(message.resources) if message.HasField("resources") else None,
            message.start_eta_s,
            tuple(result.artifacts),
        )


@dataclass(frozen=True, slots=True)
class JobLogLine:
    line: int
    time: datetime | None
    attempt: int
    text: str
