"""Options of a training that a client may set, checked without loading torch.

Most names are fields of `learning.training.TrainingConfig`; those of its parts carry the part's name and a dot.
`network.*` are wishes that `learning.plan` turns into a network, `mask.*` are for pretraining alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from biosegment.errors import InvalidArgument

Option = int | float | str

OPTIONS: Final[dict[str, type]] = {
    "working_resolution_nm": float,
    "workers": int,
    "batch_size": int,
    "patch_size": int,
    "patch_depth": int,
    "learning_rate": float,
    "warmup": float,
    "weight_decay": float,
    "ema_decay": float,
    "foreground_share": float,
    "checkpoint_steps": int,
    "consistency": float,
    "network.kind": str,
    "network.family": str,
    "network.slices": int,
    "network.channels": str,
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
    "augmentation.elastic": float,
    "augmentation.seam": float,
    "augmentation.missing": float,
    "augmentation.shifted": float,
    "validation.fraction": float,
    "validation.slab": int,
    "validation.gap": int,
    "validation.minimum": int,
    "validation.every": int,
    "validation.patience": int,
    "validation.tolerance": float,
    "validation.max_voxels": int,
    "mask.share": float,
    "mask.cell": int,
    "mask.blocks": int,
}
"""Steps, seconds and the seed have fields of their own in `TrainSpec`. `network.channels` are whole numbers with
commas between, finest level first; `workers` are processes that share the work where there are no GPUs to count.
"""

KINDS: Final = ("2d", "2.5d", "3d", "auto")
FAMILIES: Final = ("DynUNet", "SegResNet", "SwinUNETR", "UNet")
_CHOICES: Final = {"network.kind": KINDS, "network.family": FAMILIES}
_MOST_WORKERS: Final = 64


def check_options(given: Mapping[str, object], pretraining: bool = False) -> dict[str, Option]:
    """Return the options with the types of `OPTIONS`.

    Args:
        given: Plain values; JSON knows no integers, so 8.0 passes for 8.
        pretraining: What there is nothing to hold out or to agree with is refused; else what blanks voxels is.

    Raises:
        InvalidArgument: UNKNOWN_OPTION, BAD_OPTION.
    """
    known = {name for name in OPTIONS if not _is_foreign(name, pretraining)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InvalidArgument(
            "UNKNOWN_OPTION",
            f"{'pretraining' if pretraining else 'training'} options {unknown} are unknown; known: {sorted(known)}",
        )
    checked = {name: _checked(name, value) for name, value in given.items()}
    _require_sense(checked)
    return checked


def channels_of(text: str) -> list[int]:
    """`8,16,32` -> [8, 16, 32]; InvalidArgument BAD_OPTION."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidArgument(
            "BAD_OPTION", f"network.channels are whole numbers with commas between, not {text[:100]!r}"
        ) from None


def _is_foreign(name: str, pretraining: bool) -> bool:
    if pretraining:
        return name.startswith("validation.") or name in ("consistency", "foreground_share")
    return name.startswith("mask.")


def _require_sense(options: Mapping[str, Option]) -> None:
    for name, choices in _CHOICES.items():
        if name in options and options[name] not in choices:
            raise InvalidArgument(
                "BAD_OPTION", f"{name} must be one of {list(choices)}, not {options[name]!r}"
            )
    if "network.channels" in options:
        channels_of(str(options["network.channels"]))
    if not 0.1 <= float(options.get("working_resolution_nm", 10.0)) <= 1e5:
        raise InvalidArgument(
            "BAD_OPTION",
            f"working_resolution_nm {options['working_resolution_nm']} must be within 0.1..100000",
        )
    if not 1 <= int(options.get("workers", 1)) <= _MOST_WORKERS:
        raise InvalidArgument("BAD_OPTION", f"workers {options['workers']} must be within 1..{_MOST_WORKERS}")


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
