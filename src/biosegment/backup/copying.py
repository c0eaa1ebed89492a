"""Objects into a target and back, several at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from biosegment.backup.index import Index, Stored, Wanted
from biosegment.backup.manifest import object_key
from biosegment.backup.progress import Progress
from biosegment.backup.reference import is_sound
from biosegment.errors import FailedPrecondition, NotFound
from biosegment.storage.objects import BlockingObjects

_THREADS: Final = 8
"""Each has one object in memory; an object is a shard (tens of MB at most) or a model's weights."""
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Copied:
    """What copying did.

    Attributes:
        copied: Objects whose content was new to the target.
        copied_bytes: Of those.
        damaged: Keys whose content is not what their row says.
    """

    copied: int = 0
    copied_bytes: int = 0
    damaged: list[str] = field(default_factory=list)


def copy_into(target: BlockingObjects, store: BlockingObjects, index: Index, say: Progress) -> Copied:
    """Copy every object that `index` wants, unless its content is in the target; says in `index` what became of it."""
    total, done, outcome = index.count(), 0, Copied()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="backup") as pool:
        for batch in index.batches():
            found: list[Stored] = []
            for wanted, (stored, was_new, sound) in zip(
                batch, pool.map(lambda item: _copy_one(target, store, item), batch), strict=True
            ):
                found.append(stored)
                if was_new:
                    outcome.copied += 1
                    outcome.copied_bytes += stored.size
                if not sound:
                    outcome.damaged.append(wanted.key)
                done += 1
                say("copying objects", done, total)
            index.done(found)
            index.store(stored.sha256 for stored in found if stored.sha256)
    return outcome


def _copy_one(target: BlockingObjects, store: BlockingObjects, wanted: Wanted) -> tuple[Stored, bool, bool]:
    try:
        if wanted.is_immutable and wanted.known_sha256 and store.size(wanted.key) == wanted.known_size:
            return Stored(wanted.key, wanted.known_sha256, wanted.known_size), False, True
        data = store.get(wanted.key)
    except NotFound:
        return Stored(wanted.key, "", 0), False, True
    sha256 = hashlib.sha256(data).hexdigest()
    stored = Stored(wanted.key, sha256, len(data))
    is_new = not target.exists(object_key(sha256))
    if is_new:
        # Two threads with the same content write the same.
        target.put(object_key(sha256), data)
    return stored, is_new, is_sound(data, sha256, wanted.check_kind, wanted.check_value)


def copy_back(
    source: BlockingObjects, store: BlockingObjects, items: Iterable[Stored], total: int, say: Progress
) -> int:
    """Put objects into a platform's storage; one that is there with its size stays. Returns how many were written.

    Raises:
        FailedPrecondition: BACKUP_DAMAGED when content is missing or is not what it was.
    """
    done = written = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="restore") as pool:
        for batch in batches(items):
            for was_written in pool.map(lambda item: _put_back(source, store, item), batch):
                done += 1
                written += was_written
                say("copying objects", done, total)
    return written


def _put_back(source: BlockingObjects, store: BlockingObjects, item: Stored) -> bool:
    try:
        if store.size(item.key) == item.size:
            return False
    except NotFound:
        pass
    data = read_object(source, item.sha256)
    if data is None:
        raise FailedPrecondition(
            "BACKUP_DAMAGED",
            f"the content of {item.key} ({object_key(item.sha256)} of the backup) is missing or damaged: choose "
            "an earlier snapshot or another backup; `biosegment backup verify` finds all that is damaged",
        )
    store.put(item.key, data)
    return True


def read_object(source: BlockingObjects, sha256: str) -> bytes | None:
    """Content of a target, None when it is missing or damaged."""
    try:
        data = source.get(object_key(sha256))
    except NotFound:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def batches(items: Iterable[Stored]) -> Iterator[Sequence[Stored]]:
    rest = iter(items)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch
