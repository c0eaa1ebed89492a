"""Which network a training makes, and whether its options suit it: known without loading torch, so that what can never
work is refused when it is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.architecture import NetworkConfig
from biosegment_trainer.learning.plan import Plan, kind_of, plan, plan_for
from biosegment_trainer.training.option import Option, channels_of

_PLANNED = ("network.kind", "network.family", "network.slices")
_NAMES = {
    "DynUNet": {"norm": "norm_name"},
    "SegResNet": {"dropout": "dropout_prob"},
    "SwinUNETR": {"norm": "norm_name", "dropout": "drop_rate"},
}
"""What some families call their norm and dropout."""


def choose(
    options: Mapping[str, Option],
    voxel_size_nm: tuple[float, float, float],
    working_resolution_nm: float,
    parent: NetworkConfig | None,
) -> tuple[Plan, tuple[str, ...]]:
    """The network and its patches, and remarks on wishes that cannot be.

    Args:
        options: Checked by `check_options`.
        voxel_size_nm: (z, y, x) of the volume that matters most.
        working_resolution_nm: Wanted size of a pixel in plane.
        parent: Network of the model to start from.

    Raises:
        InvalidArgument: BAD_NETWORK, BAD_PLAN, BAD_RESOLUTION.
    """
    if parent is None:
        chosen = plan(
            voxel_size_nm,
            working_resolution_nm,
            str(options.get("network.kind", "2d")),
            str(options.get("network.family", "UNet")),
            int(options.get("network.slices", 0)),
            _arguments(options),
        )
        return chosen, ()
    # A 2D network can learn to look at its neighbours; all else about it is in its weights.
    wanted = parent
    if options.get("network.kind") == "2.5d" and parent.spatial_dims == 2:
        slices = plan(
            voxel_size_nm, working_resolution_nm, "2.5d", slices=int(options.get("network.slices", 0))
        )
        wanted = dataclasses.replace(parent, input_slices=slices.network.input_slices)
    chosen = plan_for(wanted, voxel_size_nm, working_resolution_nm)
    ignored = sorted(
        name for name in options if name.startswith("network.") and not _holds(name, options, chosen)
    )
    if not ignored:
        return chosen, ()
    return chosen, (
        f"{ignored} are ignored: the parent's network stays, a {kind_of(parent)} {parent.family}",
    )


def require_fit(options: Mapping[str, Option], chosen: Plan, workers: int) -> None:
    """Raise InvalidArgument BAD_TRAINING when patches or batches that are asked for do not suit the network.

    Args:
        options: Checked by `check_options`.
        chosen: As `choose` returned it.
        workers: Processes that share a batch.
    """
    batch = int(options.get("batch_size", chosen.batch_size * workers))
    if batch % workers:
        raise InvalidArgument(
            "BAD_TRAINING",
            f"batch_size {batch} cannot be shared by {workers} processes; take a multiple of {workers}",
        )
    depth = int(options.get("patch_depth", chosen.patch_depth))
    patch = chosen.network.patch(depth, int(options.get("patch_size", chosen.patch_size)))
    chosen.network.require_batch(patch, batch // workers)


def _holds(name: str, options: Mapping[str, Option], chosen: Plan) -> bool:
    """Whether a wish about the network is true of the parent's anyway."""
    match name:
        case "network.kind":
            return options[name] in (chosen.kind, "auto")
        case "network.family":
            return options[name] == chosen.network.family
        case "network.slices":
            return options[name] == chosen.network.input_slices
        case "network.channels":
            return channels_of(str(options[name])) == list(chosen.network.arguments.get("channels", ()))
        case _:
            return options[name] == chosen.network.arguments.get(name.partition(".")[2])


def _arguments(options: Mapping[str, Option]) -> dict[str, Any]:
    """Options that are arguments of the network's constructor."""
    family = options.get("network.family", "UNet")
    names = _NAMES.get(str(family), {})
    found: dict[str, Any] = {}
    for name, value in options.items():
        part, _, inner = name.rpartition(".")
        if part == "network" and name not in _PLANNED:
            found[names.get(inner, inner)] = channels_of(str(value)) if inner == "channels" else value
    return found
