"""What a snapshot says of objects that are lost or damaged, and where a platform is looked for."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from biosegment.backup.manifest import FORMAT, Manifest, load_manifest, manifest_key
from biosegment.backup.place import Installation, open_target
from biosegment.backup.restoration import restore
from biosegment.backup.snapshot import make_snapshot
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.storage.objects import BlockingObjects
from tests.unit.backup.small import Small


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small.at(tmp_path / "platform")
    made.project()
    return made


@pytest.fixture
def target(tmp_path: Path) -> BlockingObjects:
    return open_target(str(tmp_path / "target"), must_exist=False)


def test_lost_and_damaged_objects_are_told_and_the_rest_is_backed_up(
    small: Small, target: BlockingObjects
) -> None:
    lost, hurt, wrong, *_ = small.annotate(5)
    small.objects.delete(lost)
    small.objects.put(hurt, b"BSL1" + bytes(32) + b"no zlib stream")
    small.objects.put(wrong, small.objects.get(small.annotate(1)[0]))
    small.model("m1")
    small.objects.put("models/m1/models/model.pt", b"other weights")
    manifest = make_snapshot(small.installation, target).manifest
    assert (manifest.missing, manifest.missing_count) == ((lost,), 1)
    assert set(manifest.damaged) == {hurt, wrong, "models/m1/models/model.pt"}
    assert manifest.object_count == len(small.objects.list(""))


def test_lost_and_damaged_blocks_of_edits_are_told_and_whole_ones_backed_up(
    small: Small, target: BlockingObjects
) -> None:
    layer = {"project_id": "em", "volume_id": "stack", "layer_id": "cells"}
    row = {"project_id": "em", "volume_id": "stack", "id": "cells", "kind": "instances", "attempt": 1}
    small.insert("datastore", "layers", {**row, "state": "committed", "storage_key": "projects/em/layers/c"})
    small.objects.put("projects/em/layers/c/1/zarr.json", b"{}")
    small.objects.put("projects/em/layers/c/catalogue-1", b"objects")
    small.insert("datastore", "instance_layers", {**layer, "key": "projects/em/layers/c/catalogue-1"})
    labels = b"labels" * 20
    digest = hashlib.sha256(labels)
    whole = b"BSL1" + digest.digest() + zlib.compress(labels)
    for number, block in enumerate((whole, whole[:-9], None), 1):
        key = f"projects/em/edits/c/{number}"
        row = {**layer, "sequence": number, "id": f"e{number}", "key": key}
        small.insert("datastore", "instance_edits", {**row, "labels_sha256": digest.hexdigest()})
        if block is not None:
            small.objects.put(key, block)
    # A merge has no block.
    small.insert("datastore", "instance_edits", {**layer, "sequence": 4, "id": "e4"})
    manifest = make_snapshot(small.installation, target).manifest
    assert manifest.missing == ("projects/em/edits/c/3",)
    assert manifest.damaged == ("projects/em/edits/c/2",)
    assert manifest.object_count == 3 + 4


def test_a_volume_that_has_lost_all_its_voxels_is_told(small: Small, target: BlockingObjects) -> None:
    small.objects.delete_prefix("volumes/")
    manifest = make_snapshot(small.installation, target).manifest
    assert manifest.missing == ("volumes/stack.ome.zarr",)


def test_what_needs_no_copy_is_not_in_a_snapshot(small: Small, target: BlockingObjects) -> None:
    ours = {"project_id": "em", "volume_id": "stack", "attempt": 2, "kind": "labels"}
    small.insert(
        "datastore",
        "layers",
        {**ours, "id": "done", "state": "committed", "storage_key": "projects/em/layers/done"},
        {**ours, "id": "open", "state": "writing", "storage_key": "projects/em/layers/open"},
        {**ours, "id": "annotations", "kind": "annotations", "state": "committed", "storage_key": "x/y"},
    )
    elsewhere = {"project_id": "em", "id": "far", "key": "volumes/far.ome.zarr"}
    small.insert("datastore", "volumes", {**elsewhere, "reference": {"uri": "file:///archive/far.ome.zarr"}})
    small.insert("datastore", "uploads", {"project_id": "em", "id": "u", "key": "projects/em/uploads/u"})
    small.model("gone", deleted=True)
    for key in ("layers/done/1/c", "layers/done/2/c", "layers/open/2/c", "uploads/u/0"):
        small.objects.put(f"projects/em/{key}", key.encode())
    manifest = make_snapshot(small.installation, target).manifest
    assert manifest.missing_count == 0
    assert manifest.object_count == 3 + 1  # of the volume, and of the second attempt of the layer
    without = make_snapshot(small.installation, target, with_volumes=False).manifest
    assert without.object_count == 0


def test_work_under_way_waits_or_ends_after_a_restore(
    small: Small, target: BlockingObjects, tmp_path: Path
) -> None:
    job = {"project_id": "em", "kind": "export", "instance": "i", "heartbeat_us": 5, "attempt": 1}
    small.insert(
        "datastore",
        "jobs",
        {**job, "job_id": "a", "request_id": "a", "state": "running"},
        {**job, "job_id": "b", "request_id": "b", "state": "running", "cancel_requested": True},
        {**job, "job_id": "c", "request_id": "c", "state": "succeeded"},
    )
    small.insert(
        "datastore",
        "projections",
        {
            "project_id": "em",
            "volume_id": "stack",
            "wanted_sequence": 9,
            "applied_sequence": 9,
            "owner": "i",
            "lease_us": 1 << 60,
        },
    )
    old = small.installation.store.object_store_url
    place = {"project_id": "em", "name": "l", "uri": f"{old}/projects/em/layers/l/1", "volume_id": "stack"}
    small.insert("sampler", "score_layers", place)
    make_snapshot(small.installation, target)
    restored = Installation.embedded(tmp_path / "place")
    restore(target, load_manifest(target), restored)
    back = Small(restored, small.objects)
    states = [(row["state"], row["instance"], row["attempt"]) for row in back.rows("datastore", "jobs")]
    assert states == [("queued", "", 1), ("cancelled", "", 1), ("succeeded", "i", 1)]
    (projection,) = back.rows("datastore", "projections")
    assert (projection["applied_sequence"], projection["owner"], projection["lease_us"]) == (0, "", 0)
    (scores,) = back.rows("sampler", "score_layers")
    assert scores["uri"] == f"{restored.store.object_store_url}/projects/em/layers/l/1"
    assert back.rows("datastore", "uploads") == []


def test_an_older_backup_is_brought_to_the_newest_tables(
    small: Small, target: BlockingObjects, tmp_path: Path
) -> None:
    made = make_snapshot(small.installation, target).manifest
    content = json.loads(target.get(manifest_key(made.snapshot)))
    datastore = next(item for item in content["services"] if item["service"] == "datastore")
    newer = {**content, "format": FORMAT + 1, "version": "9.9"}
    with pytest.raises(FailedPrecondition, match=r"written by BioSegment 9\.9"):
        Manifest.from_json(json.dumps(newer).encode())
    # As the first release that had holds would have written it.
    known = {"projects", "members", "volumes", "layers", "annotations", "annotation_records", "projections"}
    known |= {"uploads", "artifacts", "requests", "garbage", "jobs", "job_logs", "deleted_projects", "holds"}
    datastore["revision"] = "0003"
    datastore["tables"] = [item for item in datastore["tables"] if item["name"] in known]
    for table in datastore["tables"]:
        if table["name"] in ("annotations", "volumes", "uploads", "layers", "jobs"):
            table["rows"], table["parts"], table["columns"] = 0, [], []
    restored = Installation.embedded(tmp_path / "place")
    older = Manifest.from_json(json.dumps(content).encode())
    restore(target, older, restored)
    back = Small(restored, small.objects)
    assert back.rows("datastore", "drafts") == []
    assert [row["id"] for row in back.rows("datastore", "projects")] == ["em"]
    datastore["revision"] = "7777"
    with pytest.raises(FailedPrecondition) as caught:
        restore(
            target, Manifest.from_json(json.dumps(content).encode()), Installation.embedded(tmp_path / "n")
        )
    assert caught.value.reason == "DATABASE_TOO_NEW"


def test_a_platform_is_found_by_its_folder_or_by_the_settings_of_its_services(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no data of a platform"):
        Installation.embedded(tmp_path).require_present()
    assert not (tmp_path / "db").exists()
    environment = {
        f"BIOSEGMENT_{service}__DATABASE_URL": f"postgres://u:secret@host/{service.lower()}"
        for service in ("DATASTORE", "SAMPLER", "TRAINER")
    }
    with pytest.raises(InvalidArgument, match="not set: BIOSEGMENT_GATEWAY__DATABASE_URL") as caught:
        Installation.from_settings(environment)
    assert "secret" not in caught.value.message
    (tmp_path / "url").write_text("postgresql://u:secret@host/gateway\n")
    environment["BIOSEGMENT_GATEWAY__DATABASE_URL_FILE"] = str(tmp_path / "url")
    with pytest.raises(InvalidArgument, match="OBJECT_STORE_URL"):
        Installation.from_settings(environment)
    environment["BIOSEGMENT_OBJECT_STORE_URL"] = "s3://bucket/prefix"
    found = Installation.from_settings(environment)
    assert found.databases["gateway"] == "postgresql+psycopg://u:secret@host/gateway"
    assert found.data_dir is None
    with pytest.raises(InvalidArgument, match="s3_endpoint_url"):
        open_target("s3://backups", environment, must_exist=False)


_MANY = """
import resource, sys
from pathlib import Path
from biosegment.backup.manifest import load_manifest
from biosegment.backup.place import Installation, open_target
from biosegment.backup.restoration import restore
from biosegment.backup.snapshot import make_snapshot

platform, target, place = map(Path, sys.argv[1:])
target = open_target(str(target), must_exist=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = make_snapshot(Installation.embedded(platform), target)
restore(target, load_manifest(target), Installation.embedded(place))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(table.rows for service in made.manifest.services for table in service.tables)
print(rows, (after - before) // 1024)
"""


@pytest.mark.timeout(400)
def test_memory_does_not_grow_with_the_rows(small: Small, target: BlockingObjects, tmp_path: Path) -> None:
    row = {"project_id": "em", "volume_id": "stack", "annotation_id": "a", "action": "committed"}
    rows = [{**row, "sequence": number, "comment": "c" * 500} for number in range(1, 150_001)]
    small.insert("datastore", "annotation_records", *rows)
    arguments = [tmp_path / "platform", tmp_path / "many", tmp_path / "place"]
    done = subprocess.run(
        [sys.executable, "-c", _MANY, *map(str, arguments)], capture_output=True, text=True, timeout=350
    )
    assert done.returncode == 0, done.stderr
    count, grown_mb = map(int, done.stdout.split())
    assert count >= 150_000
    # The rows are 90 MB of text, and several times that as Python objects.
    assert grown_mb < 90, f"{grown_mb} MB"
