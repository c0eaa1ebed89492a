"""The main job through the SDK, the command line beside it, and a restart on the same folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import biosegment
from biosegment.auth import SERVICES
from biosegment.client.resources import JobState, Model
from biosegment.volume import Region
from tests.system.platform import Platform, lives, running, until
from tests.system.tissue import VOXEL_SIZE, Bench, Labels, Tissue, composed, set_up, write_tissue

pytestmark = pytest.mark.timeout(600)

SAMPLE_SHAPE = (1, 64, 64)
PER_ROUND = 4


@dataclass(slots=True)
class Story:
    """What the rounds left behind, for the tests that look at it.

    Attributes:
        answers: Labels by name of the annotation.
        models: Of the rounds.
        predicted: Name of the labels layer.
    """

    platform: Platform
    bench: Bench
    answers: dict[str, Labels] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    strategies: list[set[str]] = field(default_factory=list)
    predicted: str = ""

    @property
    def tissue(self) -> Tissue:
        return self.bench.tissue

    def layer(self) -> Labels:
        """The annotations layer that the answers must make."""
        made = self.bench.client.annotations.list(self.bench.volume)
        return composed(self.tissue.raw.shape, [(one, self.answers[one.name]) for one in made])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Two rounds of claim, annotate, train and score, then a prediction."""
    folder = tmp_path_factory.mktemp("main-job")
    tissue = write_tissue(folder / "in")
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        bench = set_up(client, tissue, "em", SAMPLE_SHAPE)
        story = Story(platform, bench)
        for _ in range(2):
            _round(story)
        job = client.jobs.wait(client.jobs.predict(bench.volume, probabilities=True).name)
        story.predicted = job.layers[0]
        yield story


def _round(story: Story) -> None:
    bench = story.bench
    newest = story.models[-1].name if story.models else ""
    samples = bench.claim(PER_ROUND, lambda claim: {one.model for one in claim.samples} == {newest}).samples
    assert len(samples) == PER_ROUND
    story.strategies.append({sample.strategy for sample in samples})
    for sample in samples:
        annotation = bench.annotate(sample)
        story.answers[annotation.name] = bench.tissue.labels(sample.region)
    job = bench.train(steps=40)
    story.models.append(bench.client.models.get(job.model))
    bench.until_scored(job.model)


def test_the_first_round_is_stratified_and_the_second_follows_the_entropy_of_the_first_model(
    story: Story,
) -> None:
    assert story.strategies == [{"stratified"}, {"entropy"}]


def test_a_model_knows_its_parent_and_every_annotation_that_it_was_trained_on(story: Story) -> None:
    first, second = story.models
    assert first.parent == ""
    assert second.parent == first.name
    names = list(story.answers)
    assert sorted(first.annotations) == sorted(names[:PER_ROUND])
    assert sorted(second.annotations) == sorted(names)
    lineage = story.bench.client.models.lineage(second.name)
    assert [model.name for model in lineage] == [second.name, first.name]


def test_the_annotations_layer_is_what_was_answered(story: Story) -> None:
    client = story.bench.client
    assert {one.name for one in client.annotations.list(story.bench.project)} == set(story.answers)
    found = client.volumes.read(f"{story.bench.volume}/layers/annotations")
    np.testing.assert_array_equal(found, story.layer())
    assert set(np.unique(found)) == {0, 1, 2}


def test_the_prediction_is_a_labels_layer_of_the_volume_that_is_better_than_chance(story: Story) -> None:
    client = story.bench.client
    layer = client.volumes.layer(story.predicted)
    assert (layer.kind, layer.state, layer.shape) == ("labels", "committed", story.tissue.raw.shape)
    assert layer.model == story.models[-1].name
    found = client.volumes.read(layer.name)
    assert set(np.unique(found)) <= {1, 2}
    (probabilities,) = client.volumes.layers(story.bench.volume, kind="probabilities")
    foreground = client.volumes.read(probabilities.name).astype(float)
    truth = story.tissue.truth
    assert foreground[truth].mean() > foreground[~truth].mean() + 10
    np.testing.assert_array_equal(found == 2, foreground >= 127.5)


def test_a_region_of_the_volume_is_what_the_file_holds(story: Story) -> None:
    region = Region((3, 17, 40), (9, 101, 128))  # type: ignore[arg-type]
    found = story.bench.client.volumes.read(story.bench.volume, region)
    np.testing.assert_array_equal(found, story.tissue.raw[region.slices])


def test_the_exported_segmentation_is_the_prediction_under_the_annotations(
    story: Story, tmp_path: Path
) -> None:
    client = story.bench.client
    done = client.jobs.wait(client.jobs.export(story.bench.volume, segmentation=True).name)
    path = client.volumes.download(done.artifact, tmp_path / "segmentation.ome.tif")
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        found, metadata = file.asarray(), tifffile.xml2dict(file.ome_metadata or "")
    pixels = metadata["OME"]["Image"]["Pixels"]
    assert found.shape == story.tissue.raw.shape
    sizes = [(pixels[f"PhysicalSize{axis}"], pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"]
    assert [_nm(*size) for size in sizes] == pytest.approx(list(VOXEL_SIZE))
    expected = client.volumes.read(story.predicted)
    answered = story.layer()
    expected = np.where(answered != 0, answered, expected)
    np.testing.assert_array_equal(found, np.where(expected == 1, 0, expected))


def _nm(size: float, unit: str) -> float:
    return float(size) * {"nm": 1.0, "µm": 1000.0}[unit]


def test_an_exported_model_is_a_monai_bundle(story: Story, tmp_path: Path) -> None:
    path = story.bench.client.models.export(story.models[-1].name, tmp_path / "model.zip")
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        by_end = {"/".join(name.split("/")[-2:]): name for name in file.namelist()}
        metadata = json.loads(file.read(by_end["configs/metadata.json"]))
        inference = json.loads(file.read(by_end["configs/inference.json"]))
        weights = file.getinfo(by_end["models/model.pt"])
    assert metadata["monai_version"]
    assert "network_def" in metadata or "network_data_format" in metadata
    assert "network_def" in inference
    assert weights.file_size > 10_000


def _cli(story: Story, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BIOSEGMENT_DATA": str(story.platform.data_dir)}
    command = [sys.executable, "-m", "biosegment.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def _json(story: Story, *arguments: str) -> Any:
    done = _cli(story, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_shows_each_service_with_its_version(story: Story) -> None:
    shown = _cli(story, "status")
    assert shown.returncode == 0, shown.stderr
    services = _json(story, "status")
    assert {item["service"] for item in services} == {"datastore", "sampler", "trainer", "gateway"}
    for item in services:
        assert (item["health"], item["version"]) == ("serving", biosegment.__version__)
        assert item["service"] in shown.stdout


def test_every_list_command_prints_the_resources_as_json(story: Story) -> None:
    project, volume = "--project=em", story.bench.volume
    models = {model.name for model in story.models}
    expected: dict[tuple[str, ...], set[str]] = {
        ("project", "list"): {story.bench.project},
        ("volume", "list", project): {volume},
        ("sample", "list", project, "--state=annotated"): {
            one.sample for one in story.bench.client.annotations.list(volume)
        },
        ("annotation", "list", project): set(story.answers),
        ("model", "list", project): models,
        ("model", "lineage", story.models[-1].name): models,
        ("job", "list", project): {job.name for job in story.bench.client.jobs.list(story.bench.project)},
        ("user", "list"): {"users/admin"},
    }
    for arguments, names in expected.items():
        assert {item["name"] for item in _json(story, *arguments)} == names, arguments
    assert [item["role"] for item in _json(story, "project", "members", "em")] == ["owner"]
    layers = {item["name"] for item in _json(story, "volume", "layers", volume)}
    assert story.predicted in layers
    assert len(_json(story, "token", "list")) == 1
    assert {"entropy", "stratified"} <= {item["strategy"] for item in _json(story, "sample", "strategies")}
    (training, *_) = (job for job in story.bench.client.jobs.list() if job.kind == "train")
    assert _json(story, "job", "log", training.name)


def test_an_error_on_the_command_line_is_one_line_without_a_traceback(story: Story) -> None:
    done = _cli(story, "volume", "show", "nothing", "--project=em")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no volume")
    assert len(done.stderr.strip().splitlines()) == 1


async def test_the_asynchronous_client_does_the_same(story: Story) -> None:
    async with biosegment.aconnect(data_dir=story.platform.data_dir) as client:
        assert [project.name for project in await client.projects.list()] == [story.bench.project]
        found = await client.volumes.read(story.bench.volume)
        np.testing.assert_array_equal(found, story.tissue.raw)
        job = await client.jobs.export(story.bench.volume)
        seen = [change async for change in client.jobs.watch(job.name)]
        assert seen[-1].state is JobState.SUCCEEDED
        revisions = [change.revision for change in seen]
        assert revisions == sorted(set(revisions))
        (claimed,) = (await client.samples.claim(story.bench.project, 1)).samples
        await client.samples.release(claimed.name)


def test_ctrl_c_stops_everything_and_a_second_start_finds_everything_again(story: Story) -> None:
    platform, client = story.platform, story.bench.client
    before = _everything(client, story)
    processes = platform.processes()
    assert len(processes) > len(SERVICES)
    assert platform.stop() == 0
    until(lambda: not any(map(lives, processes)), 60, "every process has ended")
    for path in (platform.output, *(platform.data_dir / "logs").iterdir()):
        assert "Traceback" not in path.read_text(errors="replace"), path
    platform.start()
    with platform.connect() as again:
        after = _everything(again, story)
        assert after.keys() == before.keys()
        for what, value in before.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(after[what], value, err_msg=what)
            else:
                assert after[what] == value, what
        (sample,) = again.samples.claim(story.bench.project, 1).samples
        assert sample.model == story.models[-1].name


def _everything(client: biosegment.Client, story: Story) -> dict[str, NDArray[Any] | list[Any]]:
    bench = story.bench
    annotations = client.annotations.list(bench.project)
    found: dict[str, NDArray[Any] | list[Any]] = {
        "projects": client.projects.list(),
        "volumes": client.volumes.list(bench.project),
        "layers": client.volumes.layers(bench.volume),
        "annotations": annotations,
        "models": client.models.list(bench.project),
        "jobs": client.jobs.list(bench.project),
        "samples": [(item.name, item.state) for item in client.samples.list(bench.project)],
        "voxels": client.volumes.read(bench.volume),
        "prediction": client.volumes.read(story.predicted),
        "annotations layer": client.volumes.read(f"{bench.volume}/layers/annotations"),
    }
    for annotation in annotations:
        found[annotation.name] = client.annotations.labels(annotation.name)
    return found
