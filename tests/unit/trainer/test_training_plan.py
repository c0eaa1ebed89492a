"""What a training learns from, when annotations are judged while it waits or between its attempts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from biosegment_trainer.datastore_client import AnnotationView, DatastoreClient
from biosegment_trainer.request import TrainRequest
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.training.job import TrainingJob
from biosegment_trainer.training.parent import ParentChoice

from biosegment.errors import FailedPrecondition
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import open_objects
from biosegment.volume import Region

NAMES = [f"projects/p/volumes/v/annotations/a{number}" for number in range(3)]
NOTHING = cast(Any, None)
PLAN = "jobs/trainer-1/plan.json"


class Annotations:
    """The datastore, as far as a plan asks it."""

    def __init__(self) -> None:
        here = Region.of_shape((1, 8, 8))
        self.views = {
            name: AnnotationView(name, here, frozenset(), holds=True, state="pending") for name in NAMES
        }

    def judge(self, number: int, state: str) -> None:
        view, holds = self.views[NAMES[number]], state == "accepted"
        self.views[view.name] = replace(view, state=state, holds=holds, is_accepted=holds)

    async def annotation_names(self, project_id: str) -> list[str]:
        return [name for name, view in self.views.items() if view.holds]

    async def annotations(self, names: Any, with_labels: bool) -> list[AnnotationView]:
        return [self.views[name] for name in names]


class NoModels:
    async def newest(self, project_id: str) -> None:
        return None


@dataclass
class Context:
    """What a handler is told, and its log."""

    job: Any = field(default_factory=lambda: type("Job", (), {"job_id": "trainer-1", "project_id": "p"}))
    lines: list[str] = field(default_factory=list)

    async def log(self, *texts: str) -> None:
        self.lines += texts


@pytest.fixture
async def bench(tmp_path):
    objects = open_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}"))
    annotations = Annotations()

    async def no_parent() -> str:
        return ""

    models, datastore = cast(SqlModels, NoModels()), cast(DatastoreClient, annotations)
    yield (
        annotations,
        objects,
        TrainingJob(models, datastore, objects, NOTHING, ParentChoice(models, no_parent)),
    )
    await objects.close()


@pytest.mark.parametrize("asked", [tuple(NAMES), ()])
async def test_what_was_judged_while_the_job_waited_is_left_out_and_the_log_says_why(bench, asked):
    annotations, _, job = bench
    annotations.judge(0, "rejected")
    annotations.judge(1, "accepted")
    context = Context()
    plan = await job._plan(context, TrainRequest(annotations=asked))
    assert (plan.annotations, plan.accepted) == ((NAMES[1], NAMES[2]), {NAMES[1]})
    if asked:
        assert context.lines == [f"{NAMES[0]} is left out: it was rejected while the job waited"]


async def test_a_training_of_which_nothing_is_left_fails_and_says_why(bench):
    annotations, objects, job = bench
    for number, state in enumerate(("rejected", "reverted", "rejected")):
        annotations.judge(number, state)
    context = Context()
    with pytest.raises(FailedPrecondition, match=f"all 2 annotations .* first {NAMES[1]}") as caught:
        await job._plan(context, TrainRequest(annotations=tuple(NAMES[1:])))
    assert caught.value.reason == "ANNOTATION_DOES_NOT_HOLD"
    assert [line.partition(": ")[2] for line in context.lines] == [
        "it was reverted while the job waited",
        "it was rejected while the job waited",
    ]
    with pytest.raises(FailedPrecondition) as caught:
        await job._plan(context, TrainRequest())
    assert caught.value.reason == "NO_ANNOTATIONS"
    assert not await objects.exists(PLAN)


async def test_a_later_attempt_learns_from_what_the_first_one_did(bench):
    annotations, objects, job = bench
    annotations.judge(2, "accepted")
    first = await job._plan(Context(), TrainRequest(annotations=tuple(NAMES)))
    annotations.judge(0, "reverted")
    annotations.judge(1, "accepted")
    context = Context()
    later = await job._plan(context, TrainRequest(annotations=tuple(NAMES)))
    assert (later, context.lines) == (first, [])
    views = later.as_planned(list(annotations.views.values()))
    assert [view.is_accepted for view in views] == [False, False, True]
    # A plan of an older release does not know what was accepted.
    await objects.put(PLAN, json.dumps({"parent": "", "annotations": NAMES}).encode())
    old = await job._plan(context, TrainRequest())
    assert [view.is_accepted for view in old.as_planned(list(annotations.views.values()))] == [
        False,
        True,
        True,
    ]
