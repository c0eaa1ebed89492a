"""Backups of a platform on PostgreSQL and a bucket, into a bucket; and its return to other kinds of stores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from biosegment.auth import SERVICES
from biosegment.client import Client
from biosegment.storage.objects import open_blocking_objects
from tests.servers import moto_s3, postgres_server
from tests.system.estate import Wire, require_same, seen
from tests.system.lab import Backends, Lab
from tests.system.platform import Platform, running, until
from tests.system.tissue import set_up, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

TARGET = "s3://backups/of/the/lab"


@dataclass(frozen=True, slots=True)
class Story:
    """A lab that has stopped, and what was in it.

    Attributes:
        environment: Settings of its services, by which its backup was made.
        credentials: Of the bucket with the backup.
        state: What the SDK saw.
        records: The whole history.
        output: All that the backup printed.
    """

    backends: Backends
    environment: dict[str, str]
    credentials: dict[str, str]
    state: dict[str, Any]
    records: list[bytes]
    output: str


def command(environment: Mapping[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BIOSEGMENT_")}
    return subprocess.run(
        [sys.executable, "-m", "biosegment.cli", *map(str, arguments)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("lab")
    with postgres_server() as postgres, moto_s3() as s3:
        backends = Backends(postgres, s3)
        environment = _settings(backends, "first")
        lab = Lab(folder / "data", backends, environment, folder / "in")
        tissue = write_tissue(folder / "in", (8, 96, 96))
        try:
            lab.start()
            with lab.connect() as client, Wire(client.connection) as wire:
                bench = set_up(client, tissue, "em", (1, 32, 32))
                made = bench.annotate_next(4)
                client.annotations.review(made[0].name, accepted=True)
                client.annotations.revert(made[1].name)
                bench.until_scored(bench.train(steps=4).model)
                client.jobs.wait(client.jobs.predict(bench.volume).name)
                state, records = seen(client, "projects/em"), wire.records("projects/em")
            # The backup's own settings win over those of the platform's object storage.
            credentials = {
                "BIOSEGMENT_BACKUP__S3_ENDPOINT_URL": s3.endpoint_url,
                "BIOSEGMENT_BACKUP__S3_ACCESS_KEY_ID": s3.access_key_id,
                "BIOSEGMENT_BACKUP__S3_SECRET_ACCESS_KEY": s3.secret_access_key,
            }
            done = command(environment | credentials, "backup", TARGET)
            assert done.returncode == 0, done.stderr
        finally:
            lab.stop()
        yield Story(backends, environment, credentials, state, records, done.stdout + done.stderr)


def _settings(backends: Backends, name: str) -> dict[str, str]:
    settings = backends.shared(name) | {
        "BIOSEGMENT_TRAINER__RAY_CPUS": "1",
        "BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR": "",
    }
    for service in SERVICES:
        settings |= backends.database(service, f"{name}_{service}")
    return settings


def _require_all(story: Story, client: Client) -> None:
    after = seen(client, "projects/em")
    known = {token.name for token in story.state["tokens"]}
    require_same(
        story.state, {**after, "tokens": [token for token in after["tokens"] if token.name in known]}
    )
    with Wire(client.connection) as wire:
        assert wire.records("projects/em") == story.records


def test_a_lab_returns_on_one_machine_with_sqlite_and_a_folder(story: Story, tmp_path: Path) -> None:
    platform = Platform(tmp_path, import_root=tmp_path)
    done = command(story.credentials, "restore", TARGET, "--data", platform.data_dir)
    assert done.returncode == 0, done.stderr
    with running(tmp_path, import_root=tmp_path) as started, started.connect() as client:
        _require_all(story, client)
        # And from SQLite to PostgreSQL, from a folder to a bucket.
        done = command({}, "backup", tmp_path / "backup", "--data", platform.data_dir)
        assert done.returncode == 0, done.stderr
    environment = _settings(story.backends, "second")
    done = command(environment, "restore", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    lab = Lab(tmp_path / "lab", story.backends, environment, tmp_path)
    try:
        lab.start()
        with lab.connect() as client:
            _require_all(story, client)
            with Wire(client.connection) as wire:
                before = len(wire.audit())
                client.platform.create_user("newcomer")
                # Rows are numbered on from where the old database was.
                until(lambda: len(wire.audit()) > before, 20, "the event is written")
            (sample,) = client.samples.claim("projects/em", 1).samples
            assert sample.strategy == "entropy"
    finally:
        lab.stop()


def test_a_restore_refuses_databases_and_buckets_that_are_in_use(story: Story) -> None:
    done = command(story.environment | story.credentials, "restore", TARGET)
    assert done.returncode == 1
    assert "has tables already" in " ".join(done.stderr.split())
    fresh = _settings(story.backends, "third") | story.backends.shared("first")
    done = command(fresh | story.credentials, "restore", TARGET)
    assert done.returncode == 1
    assert "the object storage holds objects already" in " ".join(done.stderr.split())


def test_a_lab_that_lost_only_its_databases_gets_them_back_onto_its_bucket(
    story: Story, tmp_path: Path
) -> None:
    environment = _settings(story.backends, "fourth") | story.backends.shared("first")
    done = command(environment | story.credentials, "restore", TARGET, "--keep-objects")
    assert done.returncode == 0, done.stderr
    assert ", 0 of them written" in " ".join(done.stdout.split())
    lab = Lab(tmp_path / "lab", story.backends, environment, tmp_path)
    try:
        lab.start()
        with lab.connect() as client:
            _require_all(story, client)
    finally:
        lab.stop()


def test_no_secret_is_printed_or_in_the_bucket(story: Story) -> None:
    assert not [secret for secret in story.backends.secrets if secret in story.output]
    objects = open_blocking_objects(story.backends.s3.settings("backups", "of/the/lab"))
    manifests = [key for key in objects.list("snapshots/") if key.endswith("manifest.json")]
    assert len(manifests) == 1
    content = objects.get(manifests[0])
    for secret in (*story.backends.secrets, story.backends.s3.access_key_id):
        assert secret.encode() not in content
    objects.close()
