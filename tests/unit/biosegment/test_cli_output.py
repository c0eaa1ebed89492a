from __future__ import annotations

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.cli.output import duration, resources_text, show, show_list, standing
from biosegment.cli.pool import show_settings
from biosegment.client.resources import Job, Pool, Sample
from biosegment.client.resources.wire import states_of
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region


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


def test_what_people_wrote_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are neither markup nor an error."""
    sample = Sample.from_proto(
        sampler_pb2.Sample(
            name="projects/p/samples/s",
            region=region_to_proto(Region((1, 0, 0), (2, 64, 32))),
            skip_reason="[/] out of focus [bold]",
        )
    )
    show(sample, False)
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["skip reason"].strip() == "[/] out of focus [bold]"
    assert lines["region"].strip() == "[1:2, 0:64, 0:32]"
    show_list([sample], ("region", "skip_reason"), False, "")
    assert "[1:2, 0:64, 0:32]  [/] out of focus [bold]" in capsys.readouterr().out


def test_a_pool_says_how_it_chooses_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    message = sampler_pb2.Pool(lease_duration_s=1800, heartbeat_timeout_s=90, slice_distance=4)
    message.strategies.add(strategy="entropy", share=0.75)
    message.strategies.add(strategy="stratified", share=0.25)
    message.retrain.after_annotations = 20
    message.retrain.after_idle_s = 600
    show_settings(Pool.from_proto(message), False)
    text = capsys.readouterr().out
    for part in (
        "entropy 75%, stratified 25%",
        "4 slices",
        "30 min after the last activity, 90 s after the last heartbeat",
        "after 20 new annotations, or on fewer after 10 min without a further one",
    ):
        assert part in text
    message.retrain.manual = True
    show_settings(Pool.from_proto(message), False)
    assert "only when asked to" in capsys.readouterr().out


def test_a_state_that_is_none_is_refused_with_those_that_there_are() -> None:
    assert states_of(sampler_pb2.Sample.State, "") == []
    assert states_of(sampler_pb2.Sample.State, "Skipped") == [sampler_pb2.Sample.STATE_SKIPPED]
    assert states_of(job_pb2.Job.State, "running") == [job_pb2.Job.STATE_RUNNING]
    for word in ("lost", "unspecified"):
        with pytest.raises(InvalidArgument, match=rf"'{word}' is none of leased, .*skipped"):
            states_of(sampler_pb2.Sample.State, word)
