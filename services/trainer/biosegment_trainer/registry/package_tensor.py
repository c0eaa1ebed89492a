"""What a bioimage.io package says of the image that goes into its network and of the answer that comes out, in
formats 0.4 and 0.5 alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from biosegment.errors import InvalidArgument
from biosegment_trainer.registry.preparation import Preparation

_LETTERS: Final[Mapping[str, str]] = {"b": "batch", "c": "channel", "t": "time", "i": "index"}
"""Axes in format 0.4; those of space have the same names in both."""
_SPACE: Final = ("z", "y", "x")
_NORMALISED: Final = "zero_mean_unit_variance"
_CUT_DEVIATIONS: Final = 5.0
_NO_CHANGE: Final = "ensure_dtype"
_MAX_SHOWN: Final = 10


def preparation_of(image: object, answer: object, dims: int) -> Preparation:
    """What is done to images before the network, and how their axes lie.

    Args:
        image: The description of the input.
        answer: That of the output.
        dims: Spatial dimensions of the network.

    Raises:
        InvalidArgument: BAD_BUNDLE for axes that a network of MONAI cannot have.
    """
    axes, answered = _space_axes(image, "input", dims), _space_axes(answer, "output", dims)
    if axes and answered and axes != answered:
        raise InvalidArgument(
            "BAD_BUNDLE",
            f"the package's input has the axes {_order(axes)}, its output {_order(answered)}; its network keeps their "
            "order: correct the description",
        )
    left_out = dict.fromkeys(_left_out(_steps(image, "preprocessing"), dims))
    return Preparation(intensity=tuple(left_out)[:_MAX_SHOWN], axes=axes)


def input_remarks(image: object) -> list[str]:
    """What a user should know of a network that takes grey values as they are; others' `Preparation` says it."""
    if any(name != _NO_CHANGE for name, _ in _steps(image, "preprocessing")):
        return []
    return [
        "it was trained on grey values as they are: each slice is brought to mean 0 and deviation 1, so that it sees "
        "other values; fine-tune it first"
    ]


def output_remarks(answer: object, channels: int) -> list[str]:
    """What a user should know of probabilities, for which we take a softmax over all channels."""
    names = [name for name, _ in _steps(answer, "postprocessing") if name != _NO_CHANGE]
    # Beside a background that stays at 0, a softmax is the sigmoid.
    if names == (["softmax"] if channels > 1 else ["sigmoid"]):
        return []
    if not names:
        return [
            "it does not say what makes probabilities of its answers: a softmax over its channels is taken"
        ]
    if names == ["sigmoid"]:
        return [
            "its classes are independent of each other (sigmoid) and may overlap: a softmax over its channels is taken "
            "instead, by which a pixel has one class; fine-tune it first"
        ]
    return [
        f"its own treatment of answers ({', '.join(names[:_MAX_SHOWN])}) is left out: a softmax over its channels is "
        "taken"
    ]


def channel_names(answer: object) -> dict[int, str]:
    """Names of the output's channels, where there are some.

    Channels that are independent of each other have no background among them, unless one is named so.
    """
    axes = answer.get("axes") if isinstance(answer, Mapping) else None
    for axis in axes if isinstance(axes, list) else ():
        if isinstance(axis, Mapping) and axis.get("type") == "channel":
            names = axis.get("channel_names")
            if isinstance(names, list):
                return {channel: str(name) for channel, name in enumerate(names)}
    return {0: ""} if any(name == "sigmoid" for name, _ in _steps(answer, "postprocessing")) else {}


def _steps(tensor: object, key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and arguments of what is done to a tensor."""
    steps = tensor.get(key) if isinstance(tensor, Mapping) else None
    found = []
    for step in steps if isinstance(steps, list) else ():
        fields = step if isinstance(step, Mapping) else {}
        arguments = fields.get("kwargs")
        # Format 0.5 calls it id, 0.4 name.
        name = _shown(fields.get("id") or fields.get("name") or "unknown")
        found.append((name, arguments if isinstance(arguments, Mapping) else {}))
    return found


def _left_out(steps: Sequence[tuple[str, Mapping[str, Any]]], dims: int) -> list[str]:
    """Names of the steps that are not ours: mean 0 and deviation 1 of a slice, cut at 5 deviations."""
    found, normalised = [], False
    for name, arguments in steps:
        if name == _NORMALISED and _is_by_slice(arguments, dims):
            normalised = True
        elif name != _NO_CHANGE and not (name == "clip" and normalised and _is_wide(arguments)):
            found.append(name)
    return found


def _is_by_slice(arguments: Mapping[str, Any], dims: int) -> bool:
    if arguments.get("mode", "per_sample") != "per_sample" or "mean" in arguments:
        return False
    axes = arguments.get("axes")
    # All of them, where none are named.
    over = {str(axis) for axis in axes} if isinstance(axes, str | list) else set(_SPACE[-dims:])
    return over.intersection(_SPACE) == {"y", "x"}


def _is_wide(arguments: Mapping[str, Any]) -> bool:
    """Whether limits cut no more than we do."""
    low, high = arguments.get("min", -_CUT_DEVIATIONS), arguments.get("max", _CUT_DEVIATIONS)
    if not all(isinstance(limit, int | float) for limit in (low, high)) or len({*arguments} - {"min", "max"}):
        return False
    return bool(low <= -_CUT_DEVIATIONS and high >= _CUT_DEVIATIONS)


def _space_axes(tensor: object, role: str, dims: int) -> tuple[int, ...]:
    """For each axis of space which of z, y, x (0, 1, 2) it is; () when the package does not say."""
    axes = _axes(tensor)
    if not axes:
        return ()
    found = tuple(_SPACE.index(axis) for axis in axes if axis in _SPACE)
    if axes[:2] != ["batch", "channel"] or len(axes) != 2 + dims or sorted(found) != [*range(3 - dims, 3)]:
        raise InvalidArgument(
            "BAD_BUNDLE",
            f"the package's {role} has the axes {', '.join(axes[:_MAX_SHOWN])}; its network takes batch, channel, and "
            f"{_order(tuple(range(3 - dims, 3)))} in any order: correct the description",
        )
    return found


def _axes(tensor: object) -> list[str]:
    axes = tensor.get("axes") if isinstance(tensor, Mapping) else None
    found = []
    for axis in axes if isinstance(axes, str | list) else ():
        if not isinstance(axis, Mapping):
            found.append(_LETTERS.get(str(axis), _shown(axis)))
        elif axis.get("type") == "space":
            # What an axis of space is, is in its name.
            found.append(_shown(axis.get("id", "x")))
        else:
            found.append(_shown(axis.get("type")))
    return found


def _order(axes: tuple[int, ...]) -> str:
    return ", ".join(_SPACE[axis] for axis in axes)


def _shown(name: object) -> str:
    """A stranger's word, of few characters that can be shown."""
    return re.sub(r"[^\w.\-]", "?", str(name)[:40])
