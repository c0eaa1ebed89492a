"""Removes old snapshots from a target, and what no other one needs."""

from __future__ import annotations

from biosegment.backup.index import Index
from biosegment.backup.line import read_parts
from biosegment.backup.manifest import SNAPSHOTS, load_manifest, manifest_key, object_key, snapshots
from biosegment.backup.progress import Progress, silent
from biosegment.backup.stored import stored_digests
from biosegment.storage.objects import BlockingObjects


def prune(target: BlockingObjects, keep: int, say: Progress = silent) -> tuple[str, ...]:
    """Keep the newest `keep` snapshots (1 or more); whoever calls holds the target's lock.

    Snapshots that were not completed go too. Returns the ids of complete ones that were removed.
    """
    known = snapshots(target)
    old, kept = known[:-keep], known[-keep:]
    for snapshot in old:
        # The manifest first: what is half gone is no snapshot.
        target.delete(manifest_key(snapshot))
    begun = {key.split("/")[1] for key in target.list(SNAPSHOTS)}
    for snapshot in begun - set(kept):
        target.delete_prefix(f"{SNAPSHOTS}{snapshot}/")
    with Index() as index:
        for snapshot in kept:
            parts = load_manifest(target, snapshot).objects
            index.store(str(line[1]) for line in read_parts(target, parts))
        for digests in stored_digests(target, say):
            for digest in digests:
                if not index.is_stored(digest):
                    target.delete(object_key(digest))
    return tuple(old)
