"""Which part of a file's array is the volume, and how its axes lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region
from biosegment_datastore.formats.source import SourceOptions

_KNOWN = "zyxctsqi"
# Files without metadata call their first axis many things; electron microscopy of volumes has no time, and ImageJ saves
# many a stack as a time series.
_DEPTH = ("z", "q", "i", "t")


@dataclass(frozen=True, slots=True)
class Selection:
    """A zyx view of an array with more axes, or with axes in another order.

    Attributes:
        fixed: For every axis of the file its index, or None for z, y and x.
        order: Positions of z, y and x among the axes of the file.
        shape: Of the volume, zyx.
    """

    fixed: tuple[int | None, ...]
    order: tuple[int, int, int]
    shape: Index

    def index(self, start: int, stop: int) -> tuple[int | slice, ...]:
        """What to index the file's array with for the planes `[start, stop)`."""
        return tuple(
            (slice(start, stop) if axis == self.order[0] else slice(None)) if number is None else number
            for axis, number in enumerate(self.fixed)
        )

    def index_of(self, region: Region) -> tuple[int | slice, ...]:
        """What to index the file's array with for a region of the volume."""
        index: list[int | slice] = [0 if number is None else number for number in self.fixed]
        for axis, part in zip(self.order, region.slices, strict=True):
            index[axis] = part
        return tuple(index)

    @property
    def transposition(self) -> tuple[int, int, int]:
        """How to transpose what `index` gives to get zyx."""
        kept = sorted(self.order)
        z, y, x = (kept.index(axis) for axis in self.order)
        return z, y, x


def select(name: str, axes: str, shape: Sequence[int], options: SourceOptions) -> Selection:
    """Choose the volume in an array.

    Args:
        name: Of the file, for messages.
        axes: One letter per axis, slowest first: z, y, x, c (channel), t (time), s (colour samples), q or i (unknown);
            '' when the file does not say.
        shape: Size of every axis.
        options: What the importing person says.

    Raises:
        InvalidArgument: BAD_AXES, NOT_A_VOLUME, CHANNEL_MISSING, BAD_CHANNEL, TIME_POINT_MISSING, BAD_TIME_POINT.
    """
    axes = _checked(name, (options.axes or axes).lower(), shape, bool(options.axes))
    size = dict(zip(axes, shape, strict=True))
    depth = next((axis for axis in _DEPTH if _is_depth(axis, size, options)), None)
    if depth is None or "y" not in axes or "x" not in axes:
        raise _not_a_volume(name, axes, shape)
    fixed: list[int | None] = []
    for axis in axes:
        if axis in ("y", "x", depth):
            fixed.append(None)
        elif axis in "cs":
            if axis == "s" and size[axis] > 1 and options.channel is None:
                raise InvalidArgument(
                    "CHANNEL_MISSING",
                    f"{name!r} is in colour, {size[axis]} samples per voxel: convert it to grey values, or say which "
                    f"sample to take with `channel`, 0 to {size[axis] - 1}",
                )
            fixed.append(_choose(name, "channel", options.channel, size[axis]))
        elif axis == "t":
            fixed.append(_choose(name, "time_point", options.time_point, size[axis]))
        elif size[axis] == 1:
            fixed.append(0)
        else:
            raise _not_a_volume(name, axes, shape)
    for option, number, letters in (
        ("channel", options.channel, "cs"),
        ("time_point", options.time_point, "t"),
    ):
        if not any(letter in axes and letter != depth for letter in letters):
            _choose(name, option, number, 1)
    z, y, x = axes.index(depth), axes.index("y"), axes.index("x")
    return Selection(tuple(fixed), (z, y, x), Index(shape[z], shape[y], shape[x]))


def check_axes(axes: str) -> None:
    """InvalidArgument BAD_AXES unless these can be the axes of a file that holds a volume."""
    if len(set(axes)) != len(axes) or not {*"yx"} <= {*axes} <= {*_KNOWN}:
        raise InvalidArgument(
            "BAD_AXES",
            f"`axes` is {axes[:50]!r}: name every axis of the file once, slowest first, with z, y, x, c (channel) and "
            "t (time), for example 'czyx'",
        )


def _is_depth(axis: str, size: dict[str, int], options: SourceOptions) -> bool:
    if axis not in size:
        return False
    # A single plane in z is an image in time, when there are more time points than one.
    if axis == "z":
        return size["z"] > 1 or size.get("t", 1) == 1 or options.time_point is not None
    return axis != "t" or (size["t"] > 1 and options.time_point is None)


def _checked(name: str, axes: str, shape: Sequence[int], is_given: bool) -> str:
    if not axes:
        if len(shape) != 3:
            raise InvalidArgument(
                "BAD_AXES",
                f"{name!r} has the shape {tuple(shape)} and does not say what its axes mean; say so with `axes`, "
                "for example 'czyx'",
            )
        axes = "zyx"
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not set(axes) <= set(_KNOWN):
        hint = "" if is_given else "; say what they are with `axes`, for example 'zyx'"
        raise InvalidArgument(
            "BAD_AXES",
            f"{name!r} has the shape {tuple(shape)}: {axes!r} does not name its axes, each once, with z, y, x, "
            f"c (channel) and t (time){hint}",
        )
    return axes


def _choose(name: str, option: str, number: int | None, size: int) -> int:
    what = option.replace("_", " ")
    if number is None:
        if size == 1:
            return 0
        raise InvalidArgument(
            f"{option.upper()}_MISSING",
            f"{name!r} has {size} {what}s: say which with `{option}`, 0 to {size - 1}",
        )
    if not 0 <= number < size:
        raise InvalidArgument(
            f"BAD_{option.upper()}", f"{name!r} has no {what} {number}: it has {size}, numbered from 0"
        )
    return number


def _not_a_volume(name: str, axes: str, shape: Sequence[int]) -> InvalidArgument:
    return InvalidArgument(
        "NOT_A_VOLUME",
        f"{name!r} has the axes {axes} of shape {tuple(shape)}: a volume needs z, y and x; if that is what they are, "
        "say so with `axes`",
    )
