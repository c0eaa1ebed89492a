"""Between the values of label files and the class values of a project.

In files for MONAI Label clients 0 is background, and 1, 2 ... are positions in a list of names. In label blocks of the
platform 0 is *not annotated*, 1 none of the classes, 2 and up are classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment.volume import BACKGROUND
from biosegment_gateway.monailabel.file_reader import NamedSegment

BACKGROUND_NAME: Final = "background"
FOREGROUND_SCRIBBLES: Final = "foreground_scribbles"
BACKGROUND_SCRIBBLES: Final = "background_scribbles"
_NO_CLASSES: Final = frozenset({BACKGROUND_NAME, FOREGROUND_SCRIBBLES, BACKGROUND_SCRIBBLES})
"""Segments of 3D Slicer that are no objects."""


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The classes of a project in order.

    Attributes:
        values: Class value by name.
        colors: 0xRRGGBB by name.
    """

    values: Mapping[str, int]
    colors: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def value(self, name: str) -> int:
        """Class value of a name, whatever its case; InvalidArgument UNKNOWN_LABEL."""
        folded = {each.casefold(): value for each, value in self.values.items()}
        found = folded.get(name.strip().casefold())
        if found is None:
            raise InvalidArgument(
                "UNKNOWN_LABEL",
                f"label {name[:100]!r} is no class of the project; its classes are {', '.join(self.names)}",
            )
        return found

    def position(self, name: str) -> int:
        """Value of a class in the files that the platform makes: 1, 2 ..."""
        return list(self.values.values()).index(self.value(name)) + 1

    def as_labels(self) -> dict[str, int]:
        """For `/info/`: positions by name, background last, as MONAI's transforms number them."""
        return {**{name: number for number, name in enumerate(self.names, 1)}, BACKGROUND_NAME: 0}


def names_in(label_info: Any, classes: ClassNames) -> tuple[str, ...]:
    """Names by position, from what a client says about its segments.

    The voxels of the n-th segment that is listed have the value n, whatever `idx` says: that counts segments which were
    not saved. Without a list they are the project's classes in order.

    Raises:
        InvalidArgument: BAD_LABEL_INFO.
    """
    if not label_info:
        return classes.names
    if isinstance(label_info, list) and len(label_info) <= 254:
        names = [item.get("name") for item in label_info if isinstance(item, dict)]
        if len(names) == len(label_info) and all(isinstance(name, str) for name in names):
            return tuple(str(name) for name in names)
    raise InvalidArgument("BAD_LABEL_INFO", 'label_info must be a list of {"name": ..., "idx": ...}')


def positions(
    voxels: NDArray[Any], segments: Sequence[NamedSegment], names: tuple[str, ...]
) -> NDArray[np.uint8]:
    """A label file's voxels as positions in `names`, uint8 (z, y, x).

    Args:
        voxels: (z, y, x), or (layer, z, y, x).
        segments: Of a `.seg.nrrd`, which names its values itself; then `names` are those.
        names: By position.

    Raises:
        InvalidArgument: BAD_LABEL for values that nothing is said about, and for broken numbers.
    """
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        if not np.isfinite(voxels).all() or (whole != voxels).any():
            raise InvalidArgument(
                "BAD_LABEL", "the label holds numbers that are not whole; save it as integers"
            )
        voxels = whole
    if not segments:
        if voxels.ndim != 3:
            raise InvalidArgument(
                "BAD_LABEL", "the label has layers and no names for them; save it as one layer"
            )
        low, high = int(voxels.min()), int(voxels.max())
        if low < 0 or high > len(names):
            wrong = low if low < 0 else high
            raise InvalidArgument(
                "BAD_LABEL",
                f"the label holds the value {wrong}; there are {len(names)} labels: "
                + ", ".join(f"{number} {name}" for number, name in enumerate(names, 1)),
            )
        return voxels.astype(np.uint8)
    layers = voxels if voxels.ndim == 4 else voxels[None]
    found = np.zeros(layers.shape[1:], np.uint8)
    for number, segment in enumerate(segments, 1):
        if not 0 <= segment.layer < len(layers):
            raise InvalidArgument(
                "BAD_LABEL", f"segment {segment.name!r} is in layer {segment.layer}, which is not there"
            )
        found[layers[segment.layer] == segment.value] = number
    return found


def to_classes(
    labels: NDArray[np.uint8], names: Sequence[str], classes: ClassNames
) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Class values of a label in which every voxel was looked at, and the classes that were looked for.

    Args:
        labels: Positions, 0 background.
        names: By position.
        classes: Of the project.

    Raises:
        InvalidArgument: UNKNOWN_LABEL.
    """
    table = np.full(256, BACKGROUND, np.uint8)
    scope = set()
    for number, name in enumerate(names, 1):
        if name.strip().casefold() in _NO_CLASSES:
            continue
        table[number] = classes.value(name)
        scope.add(int(table[number]))
    if not scope:
        raise InvalidArgument(
            "NO_LABEL", f"the label names none of the project's classes: {', '.join(classes.names)}"
        )
    return table[labels], tuple(sorted(scope))


def from_classes(values: NDArray[np.uint8], classes: ClassNames) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Positions of a label of class values, and those positions that occur by name.

    A class that is missing is left out of the names, for clients give the values that they find to the names in turn.
    """
    table = np.zeros(256, np.uint8)
    for number, value in enumerate(classes.values.values(), 1):
        table[value] = number
    labels = table[values]
    present = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())
    return labels, {name: number for number, name in enumerate(classes.names, 1) if number in present}
