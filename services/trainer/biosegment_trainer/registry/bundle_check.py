"""Reads a foreign bundle in a process of its own, with limits, and writes it anew as one of ours: nothing of
a stranger's but checked tensors, literals and texts is kept. `python -m
biosegment_trainer.registry.bundle_check`.

The service runs it through `check_bundle`, which loads neither torch nor MONAI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biosegment_trainer.registry.child import answer, run_child

_MODULE: Final = "biosegment_trainer.registry.bundle_check"


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    """What a bundle says of itself, checked: its network can be built, its weights fit and it answers.

    Attributes:
        name: For people.
        network: Kind of the network, like `unet2d`.
        classes: Value in label blocks (0: the project lacks it) and name of each output after the first.
        working_resolution_nm: Pixel size in plane that it works at.
        data_license: Terms of the data that it was trained on; empty when not known.
        remarks: What a user should know.
    """

    name: str
    network: str
    classes: tuple[tuple[int, str], ...]
    working_resolution_nm: float
    data_license: str
    remarks: tuple[str, ...]


async def check_bundle(
    folder: Path,
    target: Path,
    classes: Mapping[str, int],
    working_resolution_nm: float,
    *,
    trusted: bool = False,
) -> CheckedBundle:
    """Check the bundle in `folder` and write it to `target`.

    Args:
        folder: A MONAI bundle or a bioimage.io package.
        target: Made.
        classes: The project's, by name; the bundle's are matched with them.
        working_resolution_nm: The project's, for bundles that do not say theirs.
        trusted: Evaluate `$` expressions.

    Raises:
        BiosegmentError: Those of `registry.foreign.read_foreign`, or BAD_BUNDLE.
    """
    task = {
        "folder": str(folder),
        "target": str(target),
        "classes": dict(classes),
        "working_resolution_nm": working_resolution_nm,
        "trusted": trusted,
    }
    found = await run_child(_MODULE, task)
    return CheckedBundle(
        name=found["name"],
        network=found["network"],
        classes=tuple((int(value), str(name)) for value, name in found["classes"]),
        working_resolution_nm=found["working_resolution_nm"],
        data_license=found["data_license"],
        remarks=tuple(found["remarks"]),
    )


def _check(task: dict[str, Any]) -> dict[str, Any]:
    import dataclasses

    import torch

    from biosegment.errors import InvalidArgument, NotFound
    from biosegment_trainer.learning.bundle import read_bundle, write_bundle
    from biosegment_trainer.registry.bioimage import is_package, read_package
    from biosegment_trainer.registry.foreign import distinct, read_foreign

    folder = Path(task["folder"])
    fallback = float(task["working_resolution_nm"])
    try:
        if is_package(folder):
            found = read_package(folder, fallback_resolution_nm=fallback)
        else:
            found = read_foreign(folder, trusted=task["trusted"], fallback_resolution_nm=fallback)
    except NotFound as error:
        # Nothing that the caller named was not found: what was sent lacks a file.
        raise InvalidArgument("BAD_BUNDLE", error.message) from error
    model = found.bundle.model
    classes = matched(distinct([item.name for item in model.classes]), task["classes"])
    model = dataclasses.replace(
        model,
        classes=tuple(
            type(item)(value, name) for item, (value, name) in zip(model.classes, classes, strict=True)
        ),
    )
    network = model.network
    image = torch.zeros(1, network.input_slices, *(2 * s for s in network.stride[-network.spatial_dims :]))
    with torch.inference_mode():
        shape = tuple(model.build()(image).shape)
    if shape != (1, 1 + len(classes), *image.shape[2:]):
        raise InvalidArgument(
            "NETWORK_NOT_ALLOWED", f"the network answers {tuple(image.shape)} with {shape}, another window"
        )
    write_bundle(dataclasses.replace(found.bundle, model=model), Path(task["target"]))
    # What is registered can be read: here, and not first in a job.
    read_bundle(Path(task["target"]))
    return {
        "name": found.bundle.name,
        "network": network.label,
        "classes": classes,
        "working_resolution_nm": found.bundle.working_resolution_nm,
        "data_license": found.bundle.data_license,
        "remarks": [*found.remarks, *remarks_on(classes)],
    }


def matched(names: list[str], values: Mapping[str, int]) -> list[tuple[int, str]]:
    """Values and names of a bundle's classes, which differ by more than case: the project's where it has one
    of that name, else 0.
    """
    known = {name.casefold(): (value, name) for name, value in values.items()}
    found: list[tuple[int, str]] = []
    for name in names:
        value = known.pop(name.casefold(), (0, name))
        found.append(value)
    return found


def remarks_on(classes: list[tuple[int, str]]) -> list[str]:
    """What a user should know of classes that the project lacks."""
    lacking = [name for value, name in classes if value == 0]
    if not lacking:
        return []
    shown = ", ".join(repr(name) for name in lacking[:10])
    if len(lacking) == len(classes):
        return [f"the project has none of its classes ({shown}): it is a parent only; fine-tune it first"]
    return [f"the project lacks its classes {shown}: they count as background until it is fine-tuned"]


if __name__ == "__main__":
    answer(_check)
