"""One suite for every kind of place where backups are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from biosegment.backup.line import read_parts
from biosegment.backup.manifest import load_manifest, object_key, snapshots
from biosegment.backup.place import Installation
from biosegment.backup.restoration import restore
from biosegment.backup.snapshot import make_snapshot
from biosegment.backup.verification import verify
from biosegment.errors import FailedPrecondition, NotFound
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from tests.unit.backup.small import Small


@pytest.fixture
def target(store_settings: ObjectStoreSettings) -> Iterator[BlockingObjects]:
    objects = open_blocking_objects(store_settings)
    yield objects
    objects.close()


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small.at(tmp_path / "platform")
    made.project()
    made.annotate(5)
    made.model("m1")
    return made


def _content(objects: BlockingObjects) -> dict[str, bytes]:
    return {key: objects.get(key) for key in objects.list("")}


def test_what_was_backed_up_is_restored(small: Small, target: BlockingObjects, tmp_path: Path) -> None:
    make_snapshot(small.installation, target)
    back = Small.at(tmp_path / "other")  # only to see that it is refused
    with pytest.raises(FailedPrecondition, match="has tables already"):
        restore(target, load_manifest(target), back.installation)
    place = Installation.embedded(tmp_path / "place")
    done = restore(target, load_manifest(target), place)
    assert (done.volumes_without_voxels, done.layers_left_out, done.artifacts_left_out) == ((), (), ())
    again = Small(place, open_blocking_objects(place.store))
    assert _content(again.objects) == _content(small.objects)
    for service, table in (("gateway", "users"), ("gateway", "tokens"), ("datastore", "annotations")):
        assert again.rows(service, table) == small.rows(service, table)
    assert again.rows("trainer", "models") == small.rows("trainer", "models")
    assert again.rows("datastore", "holds") == []


def test_the_same_content_is_copied_once(small: Small, target: BlockingObjects) -> None:
    first = make_snapshot(small.installation, target)
    assert first.copied.copied == first.manifest.object_count == 10
    small.annotate(2)
    second = make_snapshot(small.installation, target)
    assert (second.copied.copied, second.manifest.object_count) == (2, 12)
    assert len(target.list("objects/")) == 12
    assert snapshots(target) == [first.manifest.snapshot, second.manifest.snapshot]


def test_only_the_newest_are_kept_and_nothing_that_they_need_is_lost(
    small: Small, target: BlockingObjects
) -> None:
    for _ in range(2):
        make_snapshot(small.installation, target)
    small.model("m2", b"other weights")
    small.objects.delete_prefix("volumes/")
    small.objects.put("volumes/stack.ome.zarr/0/c/0", b"new")
    made = make_snapshot(small.installation, target, keep=2)
    assert len(made.pruned) == 1
    assert len(snapshots(target)) == 2
    made = make_snapshot(small.installation, target, keep=1)
    assert snapshots(target) == [made.manifest.snapshot]
    wanted = {object_key(line) for line in _digests(target)}
    assert set(target.list("objects/")) == wanted
    found = verify(target, load_manifest(target))
    assert (found.objects, found.damaged_objects, found.damaged_parts) == (made.manifest.object_count, [], [])


def _digests(target: BlockingObjects) -> set[str]:
    return {str(line[1]) for line in read_parts(target, load_manifest(target).objects)}


def test_damage_is_found_and_the_next_backup_mends_it(small: Small, target: BlockingObjects) -> None:
    make_snapshot(small.installation, target)
    hurt, gone, *_ = target.list("objects/")
    target.put(hurt, b"something else")
    target.delete(gone)
    found = verify(target, load_manifest(target), remove_damaged=True)
    assert len(found.damaged_objects) == 2
    make_snapshot(small.installation, target)
    assert verify(target, load_manifest(target)).damaged_objects == []


def test_a_damaged_file_of_rows_is_found_and_not_restored(
    small: Small, target: BlockingObjects, tmp_path: Path
) -> None:
    make_snapshot(small.installation, target)
    (part,) = [key for key in target.list("snapshots/") if "/datastore/annotations-" in key]
    target.put(part, target.get(part)[:-9] + b"123456789")
    assert verify(target, load_manifest(target)).damaged_parts == [part]
    place = Installation.embedded(tmp_path / "place")
    with pytest.raises(FailedPrecondition, match="missing or damaged"):
        restore(target, load_manifest(target), place)
    # Nothing was entered, so that another snapshot can follow onto the same place.
    target.delete(part)
    make_snapshot(small.installation, target)
    done = restore(target, load_manifest(target), place, keep_objects=True)
    assert done.written == 0


def test_a_damaged_list_of_objects_does_not_keep_anybody_from_a_new_backup(
    small: Small, target: BlockingObjects
) -> None:
    made = make_snapshot(small.installation, target)
    (part,) = made.manifest.objects
    target.put(part.key, b"damaged")
    again = make_snapshot(small.installation, target)
    assert (again.copied.copied, again.manifest.object_count) == (0, made.manifest.object_count)
    assert verify(target, load_manifest(target)).damaged_parts == []


def test_one_backup_at_a_time_writes_to_a_place(small: Small, target: BlockingObjects) -> None:
    def begin_another(step: str, done: int, total: int) -> None:
        with pytest.raises(FailedPrecondition, match="another backup") as caught:
            make_snapshot(small.installation, target)
        assert caught.value.reason == "TARGET_BUSY"
        begun.append(step)

    begun: list[str] = []
    make_snapshot(small.installation, target, say=begin_another)
    assert begun
    assert not target.exists("lock")


def test_a_place_with_other_things_is_refused(small: Small, target: BlockingObjects) -> None:
    target.put("somebody/elses", b"thing")
    with pytest.raises(FailedPrecondition, match="somebody/elses"):
        make_snapshot(small.installation, target)
    with pytest.raises(NotFound, match="no complete snapshot"):
        load_manifest(target)


def test_a_platform_whose_objects_are_in_such_a_place_returns_from_a_folder(
    store_settings: ObjectStoreSettings, tmp_path: Path
) -> None:
    small = Small.at(tmp_path / "platform", store_settings)
    small.project()
    small.annotate(3)
    folder = open_blocking_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}/backup"))
    make_snapshot(small.installation, folder)
    content = _content(small.objects)
    for key in content:
        small.objects.delete(key)
    place = Installation(Installation.embedded(tmp_path / "other").databases, store_settings)
    restore(folder, load_manifest(folder), place)
    assert _content(small.objects) == content
    small.objects.close()
