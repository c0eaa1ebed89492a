"""Which jobs go first: those that somebody waits for."""

from __future__ import annotations

from typing import Any, cast

import pytest
from biosegment_sampler.trainer_client import TrainerClient
from biosegment_trainer.admission import Admission

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.client.jobs import Jobs
from biosegment.jobs.convert import kind_of

NOTHING = cast(Any, None)


class Wire:
    """A channel that keeps the jobs that are asked for."""

    def __init__(self) -> None:
        self.specs: list[job_pb2.JobSpec] = []

    def unary_unary(self, path: str, *args: Any, **kwargs: Any) -> Any:
        async def create(request: Any, **options: Any) -> job_pb2.CreateJobResponse:
            self.specs.append(request.spec)
            job = job_pb2.Job(name="jobs/trainer-1", spec=request.spec, state=job_pb2.Job.STATE_QUEUED)
            return job_pb2.CreateJobResponse(job=job)

        return create

    def unary_stream(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return None

    stream_unary = stream_stream = unary_stream

    def priority(self) -> int:
        """Of the job that was asked for."""
        (spec,) = self.specs
        kinds = Admission(*[NOTHING] * 6).kinds()
        return kinds[kind_of(spec)].priority(spec.SerializeToString())


class Nobody:
    def on_behalf_of(self, user: str) -> tuple[()]:
        return ()


@pytest.mark.parametrize(("asked", "priority"), [({}, 1), ({"interactive": False}, 0)])
async def test_a_training_is_waited_for_unless_its_maker_says_otherwise(asked, priority):
    wire = Wire()
    await Jobs(cast(Any, wire)).train("projects/p", **asked)
    assert wire.priority() == priority


@pytest.mark.parametrize("user", ["ann", ""])
async def test_annotators_wait_for_the_model_that_learns_from_what_they_annotated(user):
    wire = Wire()
    await TrainerClient(cast(Any, wire), cast(Any, Nobody())).train("p", "request", user)
    assert wire.priority() == 1


@pytest.mark.parametrize(
    ("spec", "priority"),
    [
        ({"train": job_pb2.TrainSpec()}, 0),
        ({"train": job_pb2.TrainSpec(interactive=True)}, 1),
        ({"predict": job_pb2.PredictSpec()}, 1),
        ({"instances": job_pb2.InstancesSpec()}, 1),
        ({"measure_objects": job_pb2.MeasureObjectsSpec()}, 1),
        ({"score": job_pb2.ScoreSpec()}, 0),
        ({"pretrain": job_pb2.PretrainSpec()}, 0),
    ],
)
def test_every_kind_of_job_has_its_priority(spec, priority):
    wire = Wire()
    wire.specs.append(job_pb2.JobSpec(**spec))
    assert wire.priority() == priority
