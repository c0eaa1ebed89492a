"""What the values of a label file mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument
from biosegment_datastore.formats.source import Voxels

MAX_SHOWN = 20
"""So many values that nothing is said about are listed in a message."""


class ValueMeaning(Protocol):
    """Turns the voxels of a file into those of the platform."""

    def data_type(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Of what `translated` gives for a file of this type."""

    def translated(self, voxels: Voxels) -> tuple[Voxels, list[int]]:
        """The platform's values, and those of the file that have none, sorted; some of them when there are many."""


@dataclass(frozen=True, slots=True)
class ClassValues:
    """Values of a file as class values, uint8.

    Attributes:
        values: By value of the file, which is not 0.
        zero: What 0 means, `NOT_ANNOTATED` or `BACKGROUND`.
        other: What all other values mean; None: they have no meaning.
    """

    values: Mapping[int, int]
    zero: int
    other: int | None = None

    def data_type(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def translated(self, voxels: Voxels) -> tuple[Voxels, list[int]]:
        if voxels.dtype == bool:
            voxels = voxels.view(np.uint8)
        if voxels.dtype.itemsize <= 2:
            return self._by_table(voxels)
        return self._by_search(voxels)

    def _known(self, dtype: np.dtype[Any]) -> dict[int, int]:
        """The meanings of what a file of this type can hold."""
        top = np.iinfo(dtype).max
        return {0: self.zero, **{value: meaning for value, meaning in self.values.items() if value <= top}}

    def _by_table(self, voxels: Voxels) -> tuple[Voxels, list[int]]:
        # Negative values are in the upper half of the table.
        unsigned = np.dtype(f"u{voxels.dtype.itemsize}")
        table = np.full(1 << 8 * unsigned.itemsize, self.other or 0, np.uint8)
        has_meaning = np.full(table.shape, self.other is not None)
        for value, meaning in self._known(voxels.dtype).items():
            table[value], has_meaning[value] = meaning, True
        places = voxels.view(unsigned)
        unknown: list[int] = []
        if self.other is None:
            present = np.zeros(table.shape, bool)
            present[places.reshape(-1)] = True
            strange = np.flatnonzero(present & ~has_meaning).astype(unsigned).view(voxels.dtype)
            unknown = sorted(map(int, strange))
        return table[places], unknown

    def _by_search(self, voxels: Voxels) -> tuple[Voxels, list[int]]:
        known = sorted(self._known(voxels.dtype).items())
        keys = np.array([value for value, _ in known], voxels.dtype)
        meanings = np.array([meaning for _, meaning in known], np.uint8)
        places = np.minimum(np.searchsorted(keys, voxels), len(keys) - 1)
        is_known = keys[places] == voxels
        labels = meanings[places]
        if self.other is not None:
            labels[~is_known] = self.other
            return labels, []
        return labels, [int(value) for value in np.unique(voxels[~is_known])[: MAX_SHOWN + 1]]


@dataclass(frozen=True, slots=True)
class InstanceIds:
    """Values of a file as ids of objects, kept as they are; 0 is no object."""

    def data_type(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.uint64 if stored.itemsize == 8 else np.uint32)

    def translated(self, voxels: Voxels) -> tuple[Voxels, list[int]]:
        unknown: list[int] = []
        if voxels.dtype.kind == "i":
            unknown = [int(value) for value in np.unique(voxels[voxels < 0])[: MAX_SHOWN + 1]]
        return voxels.astype(self.data_type(voxels.dtype)), unknown


@dataclass(slots=True)
class UnknownValues:
    """Collects what a file holds and nothing is said about."""

    found: set[int] = field(default_factory=set)

    @property
    def are_many(self) -> bool:
        """More than a message lists: there is no use in reading on."""
        return len(self.found) > MAX_SHOWN

    def require_none(self, name: str, meaning: ValueMeaning) -> None:
        """InvalidArgument UNMAPPED_VALUES or NEGATIVE_IDS, with the values."""
        if not self.found:
            return
        shown = ", ".join(map(str, sorted(self.found)[:MAX_SHOWN])) + (" and more" if self.are_many else "")
        if isinstance(meaning, InstanceIds):
            raise InvalidArgument(
                "NEGATIVE_IDS", f"{name!r} holds the ids {shown}: ids of objects are not negative"
            )
        raise InvalidArgument(
            "UNMAPPED_VALUES",
            f"{name!r} holds the values {shown}, and nothing says what they mean: give their classes with `values` "
            "(0 for not annotated and 1 for background are allowed too), or one class for all with `other_values`",
        )


def count_values(labels: Voxels) -> npt.NDArray[np.int64]:
    """Voxels by class value, 256 counts."""
    return np.bincount(labels.reshape(-1), minlength=256)
