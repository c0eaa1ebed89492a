"""Three rounds by two people with the real trainer, and what the progress report says of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from biosegment import connect
from biosegment.client import Client
from biosegment.client.resources import Annotation, Model, ProjectProgress
from biosegment.errors import InvalidArgument
from biosegment.volume import FIRST_CLASS
from tests.system.platform import Platform, running, until
from tests.system.tissue import TRAIN_LIMIT_S, Bench, Labels, set_up, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(580)]

PER_PERSON = 6
ROUNDS = 3
HELD_OUT = {
    "validation.minimum": 8,
    "validation.slab": 1,
    "validation.gap": 0,
    "validation.fraction": 0.25,
}


@dataclass(slots=True)
class Story:
    """What the rounds left behind.

    Attributes:
        rounds: Annotations of each round that hold.
        models: One of each round.
        predictions: Labels of the whole volume by each model that was a parent.
        taken_back: Committed before the last training, and taken back.
        rejected: The same, and rejected.
    """

    platform: Platform
    bench: Bench
    people: dict[str, Client]
    rounds: list[list[Annotation]] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    predictions: list[Labels] = field(default_factory=list)
    taken_back: str = ""
    rejected: str = ""

    @property
    def made(self) -> list[Annotation]:
        return [annotation for one in self.rounds for annotation in one]

    @property
    def unseen(self) -> int:
        """Annotations that the newest model was not trained on: none, unless it has its parent's weights."""
        return len({one.name for one in self.made} - set(self.models[-1].annotations))

    def report(self, **options: float) -> ProjectProgress:
        return self.bench.client.samples.progress(self.bench.project, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("progress")
    tissue = write_tissue(folder / "in")
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        bench = set_up(client, tissue, "em", (1, 32, 32))
        # Needs no scores, which nobody waits for here.
        client.samples.configure(bench.project, strategies={"stratified": 1.0})
        people = {name: _person(bench, name) for name in ("ann", "bob")}
        story = Story(platform, bench, people)
        for number in range(ROUNDS):
            story.rounds.append(_annotate(story, PER_PERSON))
            if number == ROUNDS - 1:
                story.rejected, story.taken_back = (each.name for each in _annotate(story, 1))
                client.annotations.review(story.rejected, accepted=False, comment="no")
                client.annotations.revert(story.taken_back)
            job = bench.train(steps=40, **HELD_OUT)
            story.models.append(client.models.get(job.model))
            if number < ROUNDS - 1:
                done = client.jobs.wait(client.jobs.predict(bench.volume, model=job.model).name)
                story.predictions.append(client.volumes.read(done.layers[0]))
        client.annotations.review(story.rounds[0][0].name, accepted=True)
        newest = story.models[-1].name
        until(
            lambda: client.samples.pool(bench.project).latest_model == newest,
            TRAIN_LIMIT_S,
            f"the sampler knows of {newest}",
        )
        yield story
        for person in people.values():
            person.close()


def _person(bench: Bench, user_id: str) -> Client:
    bench.client.platform.create_user(user_id)
    bench.client.projects.set_member(bench.project, user_id, "annotator")
    token = bench.client.platform.create_token(user_id=user_id)
    return connect(bench.client.connection.address, token=token.secret)


def _annotate(story: Story, count: int) -> list[Annotation]:
    """By each of both; ann's client measures the time, bob's does not."""
    bench, made = story.bench, []
    for name, person in story.people.items():
        for number, sample in enumerate(person.samples.claim(bench.project, count).samples):
            seconds = 10.0 + number if name == "ann" else 0.0
            labels = bench.tissue.labels(sample.region)
            made.append(person.annotations.commit(labels, sample=sample, work_time_s=seconds))
    return made


def test_the_report_says_who_annotated_what(story: Story) -> None:
    report, each = story.report(), PER_PERSON * ROUNDS
    assert (report.annotations, report.new_annotations) == (2 * each, story.unseen)
    assert report.annotated_voxels == 2 * each * 32 * 32
    assert report.annotated_area_um2 == pytest.approx(2 * each * 32 * 32 * 64e-6)
    assert report.annotated_volume_um3 == 0
    truth = sum(int(story.bench.tissue.truth[one.region.slices].sum()) for one in story.made)
    by_class = {one.class_value: one for one in report.classes}
    assert by_class[FIRST_CLASS].voxels == truth
    assert by_class[1].voxels == report.annotated_voxels - truth
    people = {one.author: one for one in report.authors}
    ann, bob = people["ann"], people["bob"]
    assert (ann.annotations, ann.samples, ann.measured_annotations) == (each, each, each)
    assert ann.median_work_time_s == pytest.approx(12.5)
    assert ann.work_time_s == pytest.approx(ROUNDS * sum(10 + n for n in range(PER_PERSON)))
    assert (bob.annotations, bob.measured_annotations, bob.work_time_s) == (each, 0, 0.0)
    states = (report.reviews.accepted, report.reviews.rejected, report.reviews.reverted)
    assert states == (1, 1, 1)
    assert report.reviews.pending == 2 * each - 1
    assert sum(day.annotations for day in report.days) == 2 * each
    assert report.notice == ""


def test_each_model_stands_beside_its_parent_on_what_was_held_out(story: Story) -> None:
    rows = story.report().models
    assert [row.model for row in rows] == [model.name for model in story.models]
    assert [row.parent for row in rows] == ["", rows[0].model, rows[1].model]
    for row, model in zip(rows, story.models, strict=True):
        assert row.held_out_annotations > 0, model.remarks
        assert row.trained_annotations + row.held_out_annotations <= len(story.made)
        (mitochondria,) = row.classes
        assert mitochondria.iou == pytest.approx(row.iou)
        assert (mitochondria.parent_iou is None) == (row.parent == "")
        if row.parent:
            assert mitochondria.parent_iou == pytest.approx(row.parent_iou)
            assert row.parent_kept == (model.metrics["parent_kept"] == 1)
    # What the first model held out is known, so that its figure can be had from its prediction, too. A network that
    # sees less around a region than the prediction does may differ a little.
    first = story.models[0]
    held = set(first.config["withheld_annotations"])
    there = [one for one in story.rounds[0] if one.name in held]
    assert len(there) == rows[0].held_out_annotations
    assert rows[0].iou == pytest.approx(_iou(story, story.predictions[0], there), abs=0.08)


def test_a_parent_was_tested_on_what_was_new_to_it(story: Story) -> None:
    report = story.report()
    (curve,) = report.hint.curves
    assert curve.class_name == "mitochondria"
    assert [point.model for point in curve.points] == [model.name for model in story.models[1:]]
    for number, point in enumerate(curve.points):
        new = story.rounds[number + 1]
        # Also what was taken back and rejected was committed, but does not count.
        assert report.models[number + 1].new_annotations == len(new)
        expected = _iou(story, story.predictions[number], new)
        assert point.iou == pytest.approx(expected, abs=0.08)
        assert point.error is not None
        assert 0 < point.annotations <= len(new)
    assert sorted(story.models[2].config["tested_annotations"]) == sorted(one.name for one in story.rounds[2])
    assert not {story.rejected, story.taken_back} & set(story.models[2].annotations)


def test_two_rounds_are_too_few_to_tell_unless_one_asks_for_less(story: Story) -> None:
    report = story.report()
    assert report.hint.verdict == "too_few"
    assert "2 of 3 rounds" in report.hint.text
    assert "not accuracy on the volume" in report.hint.text
    loose = story.report(flat_rounds=2, flat_tolerance=0.99)
    least = min(point.annotations for point in loose.hint.curves[0].points)
    assert (loose.hint.verdict == "flat") == (least >= 10)
    with pytest.raises(InvalidArgument, match="flat_tolerance"):
        story.report(flat_tolerance=2.0)


def _iou(story: Story, prediction: Labels, annotations: Sequence[Annotation]) -> float:
    """Pooled over annotations, from the labels of the whole volume."""
    both = union = 0
    for one in annotations:
        found = prediction[one.region.slices] == FIRST_CLASS
        truth = story.bench.tissue.truth[one.region.slices]
        both += int(np.count_nonzero(found & truth))
        union += int(np.count_nonzero(found | truth))
    return both / union


def _biosegment(story: Story, *arguments: str) -> str:
    environment = {**os.environ, "BIOSEGMENT_DATA": str(story.platform.data_dir)}
    command = [sys.executable, "-m", "biosegment.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_command_line_shows_all_of_it(story: Story) -> None:
    text = _biosegment(story, "project", "progress", "em")
    lines = text.splitlines()
    counts = f" 36, of which {story.unseen} are new"
    assert any(line.startswith("annotations") and counts in line for line in lines)
    assert any("18 of 36 annotations that were measured, median 12.5 s" in line for line in lines)
    (ann,) = (line for line in lines if line.startswith("ann "))
    assert "18 of 18" in ann
    (bob,) = (line for line in lines if line.startswith("bob "))
    assert "0 of 18" in bob
    assert re.search(r"^mitochondria +2 +\d+ ", text, re.M)
    for number, row in enumerate(story.report().models, start=1):
        (line,) = (line for line in lines if line.startswith(f"{number} ") and f"{row.iou:.3f}" in line)
        assert f"mitochondria {row.iou:.3f}" in line
    assert "More annotations? too few" in text
    report = json.loads(_biosegment(story, "project", "progress", "em", "--json"))
    assert report["authors"][0]["median_work_time_s"] == 12.5
    assert [row["version"] for row in report["models"]] == [1, 2, 3]
    assert report["hint"]["verdict"] == "too_few"
    assert "annotations" in _biosegment(story, "project", "show", "em")


def test_the_policy_is_set_by_the_sdk_and_the_command_line(story: Story) -> None:
    client, project = story.bench.client, story.bench.project
    before = client.samples.pool(project)
    pool = client.samples.configure(project, train_after_idle_s=90.5)
    assert pool == replace(before, train_after_idle_s=90.5, etag=pool.etag)
    pool = client.samples.configure(project, train_after_annotations=7, manual_training=False)
    assert (pool.train_after_annotations, pool.train_after_idle_s, pool.manual_training) == (7, 90.5, False)
    options = ("--train-after", "9", "--idle-minutes", "2", "--manual")
    shown = json.loads(_biosegment(story, "sample", "configure", "-p", "em", *options, "--json"))
    assert shown["train_after_annotations"] == 9
    assert (shown["train_after_idle_s"], shown["manual_training"]) == (120.0, True)
    assert client.samples.configure(project, train_after_idle_s=0).train_after_idle_s == 0
    with pytest.raises(InvalidArgument) as caught:
        client.samples.configure(project, train_after_idle_s=-1)
    assert caught.value.reason == "BAD_RETRAIN_POLICY"
