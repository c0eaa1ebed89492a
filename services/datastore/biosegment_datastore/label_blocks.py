"""Decoded label blocks, of annotations and of edits, the last used ones kept."""

from __future__ import annotations

import threading
from collections import OrderedDict

from biosegment.storage.objects import BlockingObjects
from biosegment.volume import Region
from biosegment_datastore.annotations.annotation import Ids, Labels, decode_labels_block

_KEPT_BYTES = 128 << 20


class LabelBlocks:
    """Fetches label blocks; blocks, and may be used from several threads.

    Args:
        objects: Where they are.
        kept_bytes: What is kept, for blocks that are wanted again.
    """

    def __init__(self, objects: BlockingObjects, kept_bytes: int = _KEPT_BYTES) -> None:
        self._objects = objects
        self._limit_bytes = kept_bytes
        self._kept: OrderedDict[str, Labels | Ids] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str, sha256: str, region: Region) -> Labels | Ids:
        """The labels of a block, (z, y, x); Internal ANNOTATION_CORRUPT when it is not what its record says."""
        with self._lock:
            block = self._kept.get(key)
            if block is not None:
                self._kept.move_to_end(key)
                return block
        block = decode_labels_block(self._objects.get(key), sha256, region, key)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = block
                self._kept_bytes += block.nbytes
                while self._kept_bytes > self._limit_bytes and len(self._kept) > 1:
                    self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return block
