"""Options of a training that a client may set, checked without loading torch.

Most names are fields of `learning.training.TrainingConfig`; those of its parts carry the part's name and a dot.
`network.*` are wishes that `learning.plan` turns into a network, `mask.*` are for pretraining alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from biosegment.errors import InvalidArgument

Option = int | float | str


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be, both ends included; a whole one when both are whole."""

    least: float
    most: float

    @property
    def kind(self) -> type:
        """`int` or `float`."""
        return int if isinstance(self.least, int) and isinstance(self.most, int) else float


_SHARE: Final = Range(0.0, 1.0)
_BELOW_ONE: Final = Range(0.0, 0.999999)

OPTIONS: Final[dict[str, Range | type[str]]] = {
    "working_resolution_nm": Range(0.1, 1e5),
    "workers": Range(1, 64),
    "batch_size": Range(1, 65536),
    "patch_size": Range(1, 2048),
    "patch_depth": Range(1, 512),
    "learning_rate": Range(1e-15, 0.999),
    "warmup": Range(1e-6, 0.999),
    "weight_decay": Range(0.0, 100.0),
    "ema_decay": _BELOW_ONE,
    "foreground_share": _SHARE,
    "checkpoint_steps": Range(1, 1_000_000),
    "consistency": Range(0.0, 100.0),
    "network.kind": str,
    "network.family": str,
    "network.slices": Range(0, 63),
    "network.channels": str,
    "network.num_res_units": Range(0, 16),
    "network.norm": str,
    "network.dropout": _BELOW_ONE,
    "augmentation.affine": _SHARE,
    "augmentation.scale": _BELOW_ONE,
    "augmentation.contrast": _BELOW_ONE,
    "augmentation.brightness": Range(0.0, 10.0),
    "augmentation.gamma": _BELOW_ONE,
    "augmentation.blur": _SHARE,
    "augmentation.noise": Range(0.0, 10.0),
    "augmentation.elastic": _SHARE,
    "augmentation.seam": _SHARE,
    "augmentation.missing": _SHARE,
    "augmentation.shifted": _SHARE,
    "validation.fraction": _BELOW_ONE,
    "validation.slab": Range(1, 4096),
    "validation.gap": Range(0, 4096),
    "validation.minimum": Range(2, 1_000_000),
    "validation.every": Range(0, 1_000_000),
    "validation.patience": Range(0, 1_000_000),
    "validation.tolerance": _BELOW_ONE,
    "validation.max_voxels": Range(1, 1 << 30),
    "mask.share": Range(1e-6, 0.999999),
    "mask.cell": Range(1, 512),
    "mask.blocks": Range(1, 4096),
}
"""Steps, seconds and the seed have fields of their own in `TrainSpec`. `network.channels` are whole numbers with
commas between, finest level first; `workers` are processes that share the work where there are no GPUs to count.
"""

KINDS: Final = ("2d", "2.5d", "3d", "auto")
FAMILIES: Final = ("DynUNet", "SegResNet", "SwinUNETR", "UNet")
_CHOICES: Final = {"network.kind": KINDS, "network.family": FAMILIES}
NORMS: Final = ("batch", "instance")
"""Whatever their case. Group norm needs to know how many groups, which no option says."""
_CHANNELS: Final = Range(1, 2048)
_LEVELS: Final = Range(2, 8)


def check_options(given: Mapping[str, object], pretraining: bool = False) -> dict[str, Option]:
    """Return the options as `OPTIONS` wants them.

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
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidArgument(
            "BAD_OPTION", f"network.channels are whole numbers with commas between, not {text[:100]!r}"
        ) from None
    if not _LEVELS.least <= len(found) <= _LEVELS.most or not all(
        _CHANNELS.least <= each <= _CHANNELS.most for each in found
    ):
        raise InvalidArgument(
            "BAD_OPTION",
            f"network.channels are {_LEVELS.least} to {_LEVELS.most} numbers within {_CHANNELS.least}.."
            f"{_CHANNELS.most}, not {text[:100]!r}",
        )
    return found


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
    norm = options.get("network.norm", NORMS[0])
    if str(norm).lower() not in NORMS:
        raise InvalidArgument("BAD_OPTION", f"network.norm must be one of {list(NORMS)}, not {norm!r}")
    if "network.channels" in options:
        channels_of(str(options["network.channels"]))


def _checked(name: str, value: object) -> Option:
    wanted = OPTIONS[name]
    if not isinstance(wanted, Range):
        if isinstance(value, str):
            return value
        raise InvalidArgument("BAD_OPTION", f"training option {name} = {value!r} is no text")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgument("BAD_OPTION", f"training option {name} = {value!r} is no number")
    if wanted.kind is int and not float(value).is_integer():
        raise InvalidArgument("BAD_OPTION", f"training option {name} = {value!r} is no whole number")
    if not wanted.least <= value <= wanted.most:
        raise InvalidArgument(
            "BAD_OPTION", f"training option {name} = {value!r} must be within {wanted.least}..{wanted.most}"
        )
    return int(value) if wanted.kind is int else float(value)
