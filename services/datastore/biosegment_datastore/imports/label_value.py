"""What the values of a label file mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument
from biosegment_datastore.formats.source import Voxels

MAX_SHOWN = 20
"""So many values that nothing is said about are listed in a message."""


_LookUp = Callable[[Voxels], tuple[Voxels, Voxels]]
"""From a plane to its labels and the values in it that have none."""


class ValueMeaning(Protocol):
    """Turns the voxels of a file into those of the platform."""

    def data_type(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Of what `translated` gives for a file of this type."""

    def translated(self, voxels: Voxels) -> tuple[Voxels, list[int]]:
        """Planes (z, y, x) in the platform's values, and values of the file that have none, sorted; not all of many."""


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
        labels = np.empty(voxels.shape, np.uint8)
        unknown: set[int] = set()
        look_up = self._table(voxels.dtype) if voxels.dtype.itemsize <= 2 else self._search(voxels.dtype)
        # Plane by plane: looking up makes indexes of eight bytes.
        for number in range(len(voxels)):
            labels[number], strange = look_up(np.ascontiguousarray(voxels[number]))
            unknown.update(map(int, strange))
        return labels, sorted(unknown)

    def _known(self, dtype: np.dtype[Any]) -> dict[int, int]:
        """The meanings of what a file of this type can hold."""
        top = np.iinfo(dtype).max
        return {0: self.zero, **{value: meaning for value, meaning in self.values.items() if value <= top}}

    def _table(self, dtype: np.dtype[Any]) -> _LookUp:
        # Negative values are in the upper half of the table.
        unsigned = np.dtype(f"u{dtype.itemsize}")
        table = np.full(1 << 8 * unsigned.itemsize, self.other or 0, np.uint8)
        is_strange = np.full(table.shape, self.other is None)
        for value, meaning in self._known(dtype).items():
            table[value], is_strange[value] = meaning, False
        all_known = self.other is not None

        def look_up(plane: Voxels) -> tuple[Voxels, Voxels]:
            places = plane.view(unsigned)
            if unsigned.itemsize == 1:  # five times as fast as an index
                labels = np.frombuffer(places.tobytes().translate(table.tobytes()), np.uint8)
                labels = labels.reshape(plane.shape)
            else:
                labels = table[places]
            if all_known:
                return labels, plane.reshape(-1)[:0]
            return labels, _strange(plane, is_strange[places])

        return look_up

    def _search(self, dtype: np.dtype[Any]) -> _LookUp:
        known = sorted(self._known(dtype).items())
        keys = np.array([value for value, _ in known], dtype)
        meanings = np.array([meaning for _, meaning in known], np.uint8)

        def look_up(plane: Voxels) -> tuple[Voxels, Voxels]:
            places = np.minimum(np.searchsorted(keys, plane), len(keys) - 1)
            is_strange, labels = keys[places] != plane, meanings[places]
            if self.other is not None:
                return np.where(is_strange, np.uint8(self.other), labels), plane.reshape(-1)[:0]
            return labels, _strange(plane, is_strange)

        return look_up


def _strange(plane: Voxels, is_strange: Voxels) -> Voxels:
    """Some of the values that have no meaning, each once."""
    return np.unique(plane[is_strange])[: MAX_SHOWN + 1] if is_strange.any() else plane.reshape(-1)[:0]


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
    """Voxels by class value, 256 counts; plane by plane, for counting makes eight bytes of each."""
    counts = np.zeros(256, np.int64)
    for plane in labels:
        counts += np.bincount(plane.reshape(-1), minlength=256)
    return counts
