"""Which of the arrays of a container file is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import InvalidArgument
from biosegment_datastore.formats.source import SourceOptions

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """An array that may be a volume.

    Attributes:
        path: Below the file's or folder's root.
        shape: Along the axes of the file.
        dtype: NumPy name.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.path!r} {self.shape} {self.dtype}"


def choose_dataset(name: str, candidates: Sequence[Candidate], wanted: str, options: SourceOptions) -> str:
    """Path of the array to read.

    Args:
        name: Of the file, for messages.
        candidates: The arrays with three axes or more.
        wanted: What `dataset` names and was not found; '' when nothing was named, or a group that holds them.
        options: Says which dtypes are accepted: the only array of such a one is taken.

    Raises:
        InvalidArgument: DATASET_MISSING when there are several, NO_DATASET when there is none.
    """
    listed = ", ".join(map(str, candidates[:_SHOWN])) + (", ..." if len(candidates) > _SHOWN else "")
    if wanted:
        raise InvalidArgument(
            "NO_DATASET",
            f"{name!r} has no array {wanted!r}; it has {listed or 'none with three axes'}",
        )
    if not candidates:
        raise InvalidArgument("NO_DATASET", f"{name!r} holds no array of numbers with three axes or more")
    accepted = [each for each in candidates if each.dtype in options.accepted]
    if len(candidates) == 1 or len(accepted) == 1:
        return (accepted or list(candidates))[0].path
    raise InvalidArgument(
        "DATASET_MISSING", f"{name!r} holds several arrays: say which with `dataset`; it has {listed}"
    )
