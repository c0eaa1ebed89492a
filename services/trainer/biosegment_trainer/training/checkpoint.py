"""Checkpoints of a training, in the object store.

`jobs/{job}/attempt-{n}/step-{step}.pt`: the key carries the attempt, so that an orphan of an older attempt
overwrites nothing. A new attempt goes on from the furthest checkpoint of the newest attempt that wrote one: what an
orphan writes after a newer attempt has does not count.
"""

from __future__ import annotations

import io
import pickle
import re
from typing import Any, Final

import torch

from biosegment.failpoint import failpoint
from biosegment.storage.objects import BlockingObjects

_KEY: Final = re.compile(r".*/attempt-(\d+)/step-(\d+)\.pt")


class Checkpoints:
    """The checkpoints of one attempt, and those that it may begin from.

    Args:
        objects: The store.
        prefix: `jobs/{job}`.
        attempt: The attempt that writes.
    """

    def __init__(self, objects: BlockingObjects, prefix: str, attempt: int) -> None:
        self._objects = objects
        self._prefix = prefix
        self._attempt = attempt
        self._written = ""

    def write(self, checkpoint: dict[str, Any]) -> str:
        """Store a checkpoint durably and drop this attempt's one before; returns its key."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        key = f"{self._prefix}/attempt-{self._attempt}/step-{checkpoint['step']:08d}.pt"
        failpoint("trainer.checkpoint.before_write")
        self._objects.put(key, buffer.getvalue())
        failpoint("trainer.checkpoint.after_write")
        if self._written and self._written != key:
            self._objects.delete(self._written)
        self._written = key
        return key

    def newest(self) -> tuple[str, dict[str, Any]] | None:
        """Key and content of the furthest readable checkpoint of the newest attempt that has one."""
        found = [
            (match, key) for key in self._objects.list(f"{self._prefix}/") if (match := _KEY.fullmatch(key))
        ]
        for _, key in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2])), reverse=True):
            try:
                content = torch.load(
                    io.BytesIO(self._objects.get(key)), map_location="cpu", weights_only=True
                )
            except (RuntimeError, pickle.UnpicklingError, EOFError):
                continue
            return key, content
        return None
