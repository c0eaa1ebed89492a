"""How far a backup or a restore is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far the work is, often."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """What is done, and how much of how much; `total` is 0 while it is not known."""


def silent(step: str, done: int, total: int) -> None:
    """For those who do not care."""
