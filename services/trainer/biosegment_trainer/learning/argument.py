"""Arguments of networks as plain JSON: types and bounds, so that what a foreign bundle asks for is harmless."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, int], Any]
"""Takes a JSON value and the number of spatial axes; returns it in one canonical form or raises ValueError."""


def whole(low: int, high: int) -> Check:
    """A whole number within `low`..`high`; 8.0 passes for 8."""

    def check(value: Any, _: int) -> int:
        number = not isinstance(value, bool) and isinstance(value, int | float)
        if not number or value != int(value) or not low <= value <= high:
            raise ValueError(f"{value!r} is not a whole number within {low}..{high}")
        return int(value)

    return check


def real(low: float, high: float) -> Check:
    """A number within `low`..`high`."""

    def check(value: Any, _: int) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{value!r} is not a number within {low}..{high}")
        return float(value)

    return check


def flag(value: Any, _: int) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def word(*choices: str) -> Check:
    """One of some words, whatever their case."""

    def check(value: Any, _: int) -> str:
        for choice in choices:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise ValueError(f"{value!r} is not one of {list(choices)}")

    return check


def exactly(wanted: Any) -> Check:
    """One value only."""

    def check(value: Any, _: int) -> Any:
        if type(value) is not type(wanted) or value != wanted:
            raise ValueError(f"{value!r} is not supported, only {wanted!r}")
        return wanted

    return check


def optional(inner: Check) -> Check:
    """Null, or what `inner` takes."""
    return lambda value, dims: None if value is None else inner(value, dims)


def several(inner: Check, low: int, high: int) -> Check:
    """A list of `low` to `high` items."""

    def check(value: Any, dims: int) -> list[Any]:
        if not isinstance(value, list | tuple) or not low <= len(value) <= high:
            raise ValueError(f"{str(value)[:80]} is not a list of {low} to {high} items")
        return [inner(item, dims) for item in value]

    return check


def per_axis(inner: Check) -> Check:
    """One number for all axes, or a list with one for each; equal ones become one number."""

    def check(value: Any, dims: int) -> Any:
        if not isinstance(value, list | tuple):
            return inner(value, dims)
        items = several(inner, dims, dims)(value, dims)
        return items[0] if len(set(items)) == 1 else items

    return check


def layer(kinds: Mapping[str, Mapping[str, Check]]) -> Check:
    """The name of a layer, or a pair of the name and its arguments, as MONAI writes them.

    Args:
        kinds: For each name in lower case what its arguments may be.
    """

    def check(value: Any, dims: int) -> Any:
        name, given = value if isinstance(value, list | tuple) and len(value) == 2 else (value, {})
        kind = word(*kinds)(name, dims)
        if not isinstance(given, Mapping) or not set(given) <= set(kinds[kind]):
            raise ValueError(f"{kind} takes {sorted(kinds[kind])}, not {str(given)[:80]}")
        arguments = {key: kinds[kind][key](item, dims) for key, item in given.items()}
        return [kind, arguments] if arguments else kind

    return check


def on_axes(value: int | list[int], dims: int) -> tuple[int, ...]:
    """What `per_axis` returned, one number for each axis."""
    return tuple(value) if isinstance(value, list) else (value,) * dims
