"""What a foreign bundle does to images before its network sees them: what we follow, and what we leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from biosegment.errors import BiosegmentError
from biosegment_trainer.registry.reference import Literals

_INTENSITY: Final = frozenset(
    {
        "AdjustContrast",
        "ClipIntensityPercentiles",
        "GaussianSharpen",
        "GaussianSmooth",
        "HistogramNormalize",
        "MaskIntensity",
        "MedianSmooth",
        "NormalizeIntensity",
        "SavitzkyGolaySmooth",
        "ScaleIntensity",
        "ScaleIntensityFixedMean",
        "ScaleIntensityRange",
        "ScaleIntensityRangePercentiles",
        "ShiftIntensity",
        "StdShiftIntensity",
        "ThresholdIntensity",
    }
)
"""Transforms of MONAI that change grey values and leave nothing to chance."""
_SUFFIXES: Final = ("Dict", "D", "d", "")
_AXES: Final = {"I": 0, "S": 0, "A": 1, "P": 1, "L": 2, "R": 2}
"""Which of z, y, x runs along a direction of the body."""
_CANONICAL: Final = "RAS"
_MAX_VISITS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Preparation:
    """Of images, before the network.

    Attributes:
        intensity: Names of the transforms that change grey values, in order.
        axes: For each axis of the arrays that the network sees which of z, y, x (0, 1, 2) it is; () when the
            bundle does not say, or says different things.
        spacing: Sizes of the voxels that it resamples to, in the order of its axes; () when it does not.
    """

    intensity: tuple[str, ...] = ()
    axes: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> Preparation:
        """What a configuration says; nothing of it is evaluated, and what cannot be read counts as not said."""
        steps = [(name, step) for step in _steps(configuration) if (name := _plain_name(step))]
        intensity = dict.fromkeys(_written_name(step) for name, step in steps if name in _INTENSITY)
        oriented = {_axes(step, configuration) for name, step in steps if name == "Orientation"}
        sizes = [_sizes(step, configuration) for name, step in steps if name == "Spacing"]
        return cls(
            tuple(intensity),
            oriented.pop() if len(oriented) == 1 else (),
            next((each for each in sizes if each), ()),
        )

    def order(self, dims: int) -> tuple[int, ...]:
        """Where z, y, x (or y, x) lie among the axes of a network's arrays; () when that is not known."""
        if len(self.axes) != dims:
            return ()
        return tuple(sorted(range(dims), key=self.axes.__getitem__))

    @property
    def in_plane(self) -> tuple[float, ...]:
        """Sizes of its voxels along y and x; without a word about the axes, the last two."""
        order = self.order(len(self.spacing)) or tuple(range(len(self.spacing)))
        return tuple(self.spacing[axis] for axis in order[-2:])

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the grey values."""
        if not self.intensity:
            return []
        return [
            f"its own scaling of grey values ({', '.join(self.intensity)}) is left out: each slice is brought to mean "
            "0 and deviation 1 instead, so that it sees other values than it was trained on; fine-tune it first"
        ]


def _steps(configuration: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Everything in a configuration that would be made and is not done to what the network answers."""
    left = _MAX_VISITS
    todo: list[Any] = [configuration]
    # YAML may show one object in many places, or within itself.
    seen: set[int] = set()
    while todo and left:
        value = todo.pop()
        left -= 1
        if not isinstance(value, Mapping | list) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list):
            todo.extend(reversed(value))
            continue
        if value.get("_disabled_") is True:
            continue
        if isinstance(value.get("_target_"), str):
            yield value
        todo.extend(item for key, item in reversed([*value.items()]) if not str(key).startswith("post"))


def _written_name(step: Mapping[str, Any]) -> str:
    return str(step["_target_"].rpartition(".")[2])


def _plain_name(step: Mapping[str, Any]) -> str:
    """Name of a transform without the ending of those that work on dictionaries; '' for what is of no interest."""
    written = _written_name(step)
    for suffix in _SUFFIXES:
        name = written.removesuffix(suffix)
        if written.endswith(suffix) and name in _INTENSITY | {"Orientation", "Spacing"}:
            return name
    return ""


def _axes(step: Mapping[str, Any], configuration: Mapping[str, Any]) -> tuple[int, ...]:
    if step.get("as_closest_canonical") is True:
        codes: Any = _CANONICAL
    else:
        codes = None if step.get("labels") else _literal(step.get("axcodes"), configuration)
    if not isinstance(codes, Sequence) or any(str(code) not in _AXES for code in codes):
        return ()
    found = tuple(_AXES[str(code)] for code in codes)
    # Each once; of two axes, those of a slice.
    return found if sorted(found) in ([0, 1, 2], [1, 2]) else ()


def _sizes(step: Mapping[str, Any], configuration: Mapping[str, Any]) -> tuple[float, ...]:
    sizes = _literal(step.get("pixdim"), configuration)
    if not isinstance(sizes, list) or not 2 <= len(sizes) <= 3:
        return ()
    if any(isinstance(size, bool) or not isinstance(size, int | float) for size in sizes):
        return ()
    return tuple(float(size) for size in sizes)


def _literal(value: Any, configuration: Mapping[str, Any]) -> Any:
    """A value, or what it refers to; None for what would have to be evaluated."""
    try:
        return Literals({**configuration, "asked": value}).at("asked")
    except BiosegmentError:
        return None
