from __future__ import annotations

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.cli.output import duration, resources_text, standing
from biosegment.client.resources import Job


def job(**fields: object) -> Job:
    spec = job_pb2.JobSpec(train=job_pb2.TrainSpec())
    return Job.from_proto(job_pb2.Job(name="jobs/trainer-x", spec=spec, **fields))  # type: ignore[arg-type]


def test_a_job_says_in_one_line_where_it_stands() -> None:
    waiting = job(state=job_pb2.Job.STATE_QUEUED, queue_position=2, start_eta_s=90)
    assert standing(waiting) == "train: queued, place 3, begins in 1:30"
    running = job(
        state=job_pb2.Job.STATE_RUNNING,
        progress=job_pb2.Progress(step="training", eta_s=3725),
        metrics={"loss": 0.25, "validation_iou": 0.8125, "steps": 7},
    )
    assert standing(running) == "train: training, loss 0.25, IoU 0.812, 1:02:05 left"


@pytest.mark.parametrize(("seconds", "text"), [(0, ""), (0.2, "0:01"), (61, "1:01"), (7322.4, "2:02:02")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_a_job_reserves() -> None:
    reserved = job(
        state=job_pb2.Job.STATE_QUEUED, resources=job_pb2.Resources(cpus=4, gpus=1, memory_bytes=3 << 30)
    ).resources
    assert resources_text(reserved) == "4 CPU, 1 GPU, 3 GiB"
    assert resources_text(job(state=job_pb2.Job.STATE_QUEUED).resources) == ""
