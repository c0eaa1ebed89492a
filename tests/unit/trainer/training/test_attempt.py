"""What an attempt goes on from, writes and reports when its numbers run away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import Callback, Outcome
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.optimisation import TrainingProgress
from biosegment_trainer.registry.model import ModelClass
from biosegment_trainer.training.attempt import Attempt, write_model
from biosegment_trainer.training.checkpoint import Checkpoints
from biosegment_trainer.training.group import Mailbox
from biosegment_trainer.training.worker import load_bundle

from biosegment.api.trainer.v1alpha1 import worker_pb2, worker_pb2_grpc
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from tests.unit.trainer.learning.conftest import untrained


class Desk(worker_pb2_grpc.WorkerServiceServicer):
    """The trainer, as far as a worker tells it something."""

    def __init__(self) -> None:
        self.heard: list[worker_pb2.ReportProgressRequest] = []

    def ReportProgress(self, request: Any, context: Any) -> Any:
        self.heard.append(request)
        return worker_pb2.ReportProgressResponse()


@pytest.fixture
def desk() -> Iterator[tuple[Desk, Callback]]:
    server, desk = grpc.server(ThreadPoolExecutor(2)), Desk()
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(desk, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield desk, Callback(f"127.0.0.1:{port}", "token", "job", 1)
    server.stop(None).wait()


@pytest.fixture
def objects(tmp_path: Path) -> BlockingObjects:
    return open_blocking_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}"))


def spoilt() -> NetworkModel:
    model = untrained()
    name = next(iter(model.weights))
    broken = torch.full_like(model.weights[name], float("nan"))
    return replace(model, weights={**model.weights, name: broken})


def test_numbers_that_are_not_finite_are_not_reported(desk, objects):
    heard, callback = desk
    with Reporter(callback) as reporter:
        attempt = Attempt(Checkpoints(objects, "jobs/job", 1), reporter, 0.0)
        attempt.on_progress(TrainingProgress(1, 9, 0.1, 0.5, 1.0, 0.25))
        attempt.on_progress(TrainingProgress(2, 9, 0.2, float("nan"), 2.0, 0.5))
    last = heard.heard[-1]
    assert last.done == 2
    assert dict(last.metrics) == {"validation_iou": 0.5}


def test_a_run_that_diverges_after_a_checkpoint_is_not_begun_again(desk, objects):
    _, callback = desk
    checkpoints = Checkpoints(objects, "jobs/job", 2)
    checkpoints.write({"step": 4})
    begun: list[Any] = []

    def work(resume_from: Any) -> str:
        begun.append(resume_from)
        if resume_from is not None:
            raise FailedPrecondition(reasons[0], "no")
        return "done"

    with Reporter(callback) as reporter:
        attempt = Attempt(checkpoints, reporter, 0.0)
        reasons = ["DIVERGED"]
        with pytest.raises(FailedPrecondition):
            attempt.resumed(work)
        assert begun == [{"step": 4}]
        reasons = ["CHECKPOINT_MISMATCH"]
        assert attempt.resumed(work) == "done"
        assert begun[1:] == [{"step": 4}, None]


def test_weights_that_are_not_finite_are_not_written(desk, objects):
    _, callback = desk
    with Reporter(callback) as reporter:
        with pytest.raises(
            FailedPrecondition, match=r"1 tensors of the model are not finite.*lower"
        ) as caught:
            write_model(ModelBundle("m", "1.0.0", spoilt(), 10.0), objects, "models/m-1", reporter)
        assert caught.value.reason == "DIVERGED"
        assert not list(objects.list("models/"))
        write_model(ModelBundle("m", "1.0.0", untrained(), 10.0), objects, "models/m-1", reporter)


def test_a_stored_model_that_is_not_finite_is_named_with_what_to_do(objects, tmp_path):
    """As an older release may have registered one."""
    write_bundle(ModelBundle("m", "1.0.0", spoilt(), 10.0), tmp_path / "models/m-1")
    classes = (ModelClass(2, "disc"),)
    with pytest.raises(InvalidArgument) as caught:
        load_bundle(objects, "models/m-1", classes, "projects/p/models/m-1")
    assert caught.value.reason == "BAD_WEIGHTS"
    said = caught.value.message
    assert said.startswith("projects/p/models/m-1 cannot be used: models/model.pt: ")
    assert (
        "is not finite; choose an earlier version, to predict with or as the parent, and delete this one"
        in said
    )
    assert "/bundle-" not in said
    with pytest.raises(InvalidArgument, match=r"^models/m-1 cannot be used"):
        load_bundle(objects, "models/m-1", classes)


def test_what_all_processes_met_is_kept_until_the_leader_speaks():
    mailbox, theirs, its = (
        Mailbox(),
        Outcome(error=FailedPrecondition("DIVERGED", "a")),
        Outcome(cancelled=True),
    )
    mailbox.put(theirs, leads=False)
    assert mailbox.get() is theirs
    mailbox.put(its)
    mailbox.put(theirs, leads=False)
    assert mailbox.get() is its
