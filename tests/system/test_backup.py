"""Backups of a platform that works meanwhile, and its return on an empty machine."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment import connect
from biosegment.backup.manifest import load_manifest, snapshots
from biosegment.backup.place import Installation, open_target
from biosegment.backup.snapshot import make_snapshot
from biosegment.client.resources import JobState
from biosegment.errors import BiosegmentError, FailedPrecondition, NotFound, Unauthenticated
from biosegment.failpoint import VARIABLE
from tests.system.backup_story import Story, command, succeeded, told
from tests.system.estate import Wire, require_same, seen
from tests.system.platform import Platform, running
from tests.system.tissue import VOXEL_SIZE, composed

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(tmp_path_factory.mktemp("backup")) as story:
        yield story


@contextmanager
def returned(story: Story, folder: Path, snapshot: str = "") -> Iterator[Platform]:
    """A platform on another folder, restored from a snapshot; the newest one by default."""
    platform = Platform(folder, import_root=folder)
    arguments = ["--snapshot", snapshot] if snapshot else []
    succeeded("restore", story.target, "--data", platform.data_dir, *arguments)
    with running(folder, import_root=folder) as started:
        yield started


@pytest.fixture(scope="module")
def restored(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with returned(story, tmp_path_factory.mktemp("restored")) as platform:
        yield platform


def test_a_restore_on_an_empty_machine_gives_the_same_project(story: Story, restored: Platform) -> None:
    with restored.connect() as client:
        require_same(story.state, _without_new_token(seen(client, story.bench.project), story))
        with Wire(client.connection) as wire:
            assert wire.records(story.bench.project) == story.records
            assert wire.audit()[: len(story.audit)] == story.audit


def _without_new_token(state: dict[str, Any], story: Story) -> dict[str, Any]:
    known = {token.name for token in story.state["tokens"]}
    extra = [token for token in state["tokens"] if token.name not in known]
    # The file with the administrator's token is not in a backup; the gateway made another one at its start.
    assert len(extra) == 1
    return {**state, "tokens": [token for token in state["tokens"] if token.name in known]}


def test_the_restored_annotations_layer_is_what_was_answered(story: Story, restored: Platform) -> None:
    with restored.connect() as client:
        made = client.annotations.list(story.bench.volume)
        for annotation in made:
            np.testing.assert_array_equal(
                client.annotations.labels(annotation.name), story.answers[annotation.name]
            )
        holding = [one for one in made if one.state not in ("reverted", "rejected")]
        assert 0 < len(holding) < len(made)
        found = client.volumes.read(f"{story.bench.volume}/layers/annotations")
    expected = composed(story.bench.tissue.raw.shape, [(one, story.answers[one.name]) for one in holding])
    np.testing.assert_array_equal(found, expected)


def test_api_tokens_go_on_being_good_and_a_revoked_one_bad(story: Story, restored: Platform) -> None:
    with restored.connect() as client:
        address = client.connection.address
    for user in ("admin", "ada", "bob"):
        with connect(address, token=story.tokens[user]) as person:
            assert person.platform.self().name == f"users/{user}"
    with connect(address, token=story.tokens["revoked"]) as person, pytest.raises(Unauthenticated):
        person.platform.self()


def test_the_restored_platform_predicts_with_the_same_model_and_goes_on_with_the_loop(
    story: Story, restored: Platform
) -> None:
    with restored.connect() as client:
        layer = client.volumes.layer(story.predicted)
        job = client.jobs.predict(story.bench.volume, model=layer.model)
        again = client.jobs.wait(job.name).layers[0]
        assert again != story.predicted
        np.testing.assert_array_equal(client.volumes.read(again), client.volumes.read(story.predicted))
        # What somebody held they still hold; the lease is signed anew, with this machine's key.
        held = {one.name for one in story.state["samples"] if one.state == "leased"}
        (sample,) = client.samples.claim(story.bench.project, 1).samples
        assert sample.name in held
        made = client.annotations.commit(story.bench.tissue.labels(sample.region), sample=sample)
        assert made.sequence > max(one.sequence for one in story.state["annotations"])
        with connect(client.connection.address, token=story.tokens["ada"]) as ada:
            (sample,) = ada.samples.claim(story.bench.project, 1).samples
        newest = client.models.list(story.bench.project)[0].name
        assert sample.name not in held
        assert (sample.strategy, sample.model) == ("entropy", newest)


def test_a_backup_in_the_middle_of_work_is_a_moment_of_the_history_with_all_that_was_acknowledged(
    story: Story, tmp_path: Path
) -> None:
    with (
        returned(story, tmp_path, story.made[0]["snapshot"]) as platform,
        platform.connect() as client,
        Wire(client.connection) as wire,
    ):
        records = wire.records(story.bench.project)
        assert len(records) < len(story.records)
        assert records == story.records[: len(records)]
        made = client.annotations.list(story.bench.project)
        assert story.acknowledged <= {one.name for one in made}
        for annotation in made:
            np.testing.assert_array_equal(
                client.annotations.labels(annotation.name), story.answers[annotation.name]
            )
        holding = [one for one in made if one.state not in ("reverted", "rejected")]
        expected = composed(story.bench.tissue.raw.shape, [(one, story.answers[one.name]) for one in holding])
        found = client.volumes.read(f"{story.bench.volume}/layers/annotations")
        np.testing.assert_array_equal(found, expected)
        # It was running when the snapshot was made, and nobody works on it here.
        assert client.jobs.wait(story.running_job).state is JobState.SUCCEEDED
        newest = client.models.list(story.bench.project)[0]
        assert newest.job == story.running_job


def test_a_later_backup_copies_only_what_is_new_and_verifies(story: Story) -> None:
    first, second = story.made
    listed = succeeded("backup", "list", story.target)
    assert [item["snapshot"] for item in listed] == [first["snapshot"], second["snapshot"]]
    stored = [path for path in (story.target / "objects").rglob("*") if path.is_file()]
    assert len(stored) < first["objects"] + second["objects"] - first["objects"] // 2
    for item in (first, second):
        found = succeeded("backup", "verify", story.target, "--snapshot", item["snapshot"])
        assert found["objects"] == item["objects"] > 0
        assert (found["damaged_objects"], found["damaged_parts"]) == ([], [])


def test_neither_keys_nor_tokens_are_in_a_backup(story: Story) -> None:
    keys = [path.read_bytes() for path in (story.platform.data_dir / "keys").glob("*.key")]
    secrets = [*keys, *(secret.encode() for secret in story.tokens.values())]
    assert len(secrets) == 9
    seen_rows = False
    for path in story.target.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
            seen_rows = seen_rows or b'"users/' in data or b"ada" in data
            assert not [secret for secret in secrets if secret.strip() in data], path
    assert seen_rows
    assert story.target.stat().st_mode & 0o77 == 0


def test_a_restore_refuses_a_place_that_is_not_empty_and_a_platform_that_runs(
    story: Story, restored: Platform, tmp_path: Path
) -> None:
    running_one = command("restore", story.target, "--data", restored.data_dir)
    assert running_one.returncode == 1
    assert "stop it" in running_one.stderr
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "something").write_bytes(b"1")
    occupied = command("restore", story.target, "--data", tmp_path)
    assert occupied.returncode == 1
    assert "holds objects already (something): nothing was changed" in occupied.stderr.replace("\n", " ")
    nothing = command("restore", tmp_path / "nowhere", "--data", tmp_path / "new")
    assert nothing.returncode == 1
    assert "there is no folder" in nothing.stderr
    assert not (tmp_path / "new").exists()


def test_a_backup_holds_what_is_deleted_while_it_copies(story: Story, tmp_path: Path) -> None:
    client, platform = story.bench.client, story.platform
    import_job = client.jobs.import_volume(
        story.bench.project, str(story.bench.tissue.path), volume_id="doomed", voxel_size=VOXEL_SIZE
    )
    doomed = client.jobs.wait(import_job.name).volume
    model = client.models.import_bundle(
        story.bench.project,
        client.models.export(client.models.list(story.bench.project)[0].name, tmp_path / "model.zip"),
    )
    begun: list[str] = []

    def delete_meanwhile(step: str, done: int, total: int) -> None:
        if step == "listing objects" and not begun:
            begun.append(step)
            client.volumes.delete(doomed, force=True)
            client.models.delete(model.name)
            with pytest.raises(FailedPrecondition, match="a backup is being made"):
                client.platform.collect_garbage()

    target = open_target(str(tmp_path / "held"), must_exist=False)
    made = make_snapshot(Installation.embedded(platform.data_dir), target, say=delete_meanwhile)
    assert begun
    assert made.manifest.missing_count == 0
    assert made.manifest.deleted_models == (model.name.removeprefix("models/"),)
    with pytest.raises(NotFound):
        client.volumes.get(doomed)
    client.platform.collect_garbage()
    assert not [key for key in platform.objects() if "/models/" in key and model.name in key]
    place = tmp_path / "place"
    back = Platform(place, import_root=place)
    succeeded("restore", tmp_path / "held", "--data", back.data_dir)
    with running(place, import_root=place) as again, again.connect() as other:
        np.testing.assert_array_equal(other.volumes.read(doomed), story.bench.tissue.raw)
        with pytest.raises(BiosegmentError, match="deleted"):
            other.models.export(model.name, tmp_path / "gone.zip")


def test_a_backup_that_is_killed_leaves_no_snapshot_and_the_next_one_takes_over(
    story: Story, tmp_path: Path
) -> None:
    place = tmp_path / "killed"
    for point in ("backup.rows.written", "backup.before_manifest"):
        (tmp_path / "failpoint").write_text(point)
        killed = command(
            "backup", place, "--data", story.platform.data_dir, **{VARIABLE: str(tmp_path / "failpoint")}
        )
        assert killed.returncode == -9
        target = open_target(str(place), must_exist=True)
        assert snapshots(target) == []
    made = succeeded("backup", place, "--data", story.platform.data_dir, "--keep", "1")
    assert snapshots(target) == [made["snapshot"]]
    begun = {key.split("/")[1] for key in target.list("snapshots/")}
    assert begun == {made["snapshot"]}


def test_without_volumes_the_annotations_come_back_and_reading_voxels_says_what_is_wrong(
    story: Story, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    made = succeeded("backup", small, "--data", story.platform.data_dir, "--no-volumes")
    manifest = load_manifest(open_target(str(small), must_exist=True))
    assert not manifest.with_volumes
    assert made["objects"] < story.made[1]["objects"]
    place = tmp_path / "place"
    back = Platform(place, import_root=place)
    done = succeeded("restore", small, "--data", back.data_dir)
    assert done["volumes_without_voxels"] == [story.bench.volume]
    assert story.predicted in done["layers_left_out"]
    with running(place, import_root=place) as again, again.connect() as client:
        assert client.volumes.get(story.bench.volume).shape == story.bench.tissue.raw.shape
        with pytest.raises(BiosegmentError) as caught:
            client.volumes.read(story.bench.volume)
        assert caught.value.reason == "ARRAY_NOT_FOUND"
        made_annotations = client.annotations.list(story.bench.project)
        assert {one.name for one in made_annotations} >= set(story.answers)
        found = client.volumes.read(f"{story.bench.volume}/layers/annotations")
        np.testing.assert_array_equal(found, story.state[f"annotations of {story.bench.volume}"])
        assert client.models.list(story.bench.project)
        with pytest.raises(NotFound):
            client.volumes.layer(story.predicted)
    # Somebody finds the old bucket: with its objects in place everything is there again.
    for folder in ("volumes", "projects"):
        subprocess.run(
            ["cp", "-rn", story.platform.data_dir / "objects" / folder, back.data_dir / "objects"], check=True
        )
    with running(place, import_root=place) as again, again.connect() as client:
        np.testing.assert_array_equal(client.volumes.read(story.bench.volume), story.bench.tissue.raw)
