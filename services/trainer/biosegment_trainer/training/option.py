"""Options of a training that a client may set, checked without loading torch.

The names are fields of `learning.training.TrainingConfig`; those of its parts carry the part's name and a
dot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from biosegment.errors import InvalidArgument

Option = int | float | str

OPTIONS: Final[dict[str, type]] = {
    "batch_size": int,
    "patch_size": int,
    "learning_rate": float,
    "warmup": float,
    "weight_decay": float,
    "ema_decay": float,
    "foreground_share": float,
    "checkpoint_steps": int,
    "network.num_res_units": int,
    "network.norm": str,
    "network.dropout": float,
    "augmentation.affine": float,
    "augmentation.scale": float,
    "augmentation.contrast": float,
    "augmentation.brightness": float,
    "augmentation.gamma": float,
    "augmentation.blur": float,
    "augmentation.noise": float,
    "validation.fraction": float,
    "validation.slab": int,
    "validation.gap": int,
    "validation.minimum": int,
}
"""Steps, seconds and the seed have fields of their own in `TrainSpec`."""


def check_options(given: Mapping[str, object]) -> dict[str, Option]:
    """Return the options with the types of `OPTIONS`.

    Args:
        given: Plain values; JSON knows no integers, so 8.0 passes for 8.

    Raises:
        InvalidArgument: UNKNOWN_OPTION, BAD_OPTION.
    """
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown:
        raise InvalidArgument(
            "UNKNOWN_OPTION", f"training options {unknown} are unknown; known: {sorted(OPTIONS)}"
        )
    return {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: object) -> Option:
    kind = OPTIONS[name]
    if kind is str and isinstance(value, str):
        return value
    if kind is not str and isinstance(value, int | float) and not isinstance(value, bool):
        if kind is float:
            return float(value)
        if float(value).is_integer():
            return int(value)
    raise InvalidArgument("BAD_OPTION", f"training option {name} = {value!r} is not of type {kind.__name__}")
