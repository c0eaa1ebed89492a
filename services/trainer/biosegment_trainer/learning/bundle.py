"""A model version as a MONAI bundle: a folder that MONAI's own tools open, and that we read without running
any of it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from biosegment.errors import InvalidArgument, NotFound
from biosegment_trainer.learning.network import (
    LabelClass,
    NetworkConfig,
    NetworkModel,
    Weights,
    require_classes,
)

_METADATA, _INFERENCE, _WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_LICENCE = """The licence of these weights is not known.

They were trained on images whose licence was not recorded, and may be bound by its terms. Find out and
replace this text before you pass the bundle on.
"""


@dataclass(frozen=True, slots=True)
class ModelLineage:
    """How a model came about.

    Attributes:
        parent: Name of the parent model; empty for none.
        annotations: Ids of the annotation records that it was trained on.
        configuration: The training configuration, as plain JSON values.
        metrics: The training metrics, as plain JSON values.
    """

    parent: str = ""
    annotations: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """What a bundle holds.

    Attributes:
        name: Of the model, for people.
        version: Like 1.0.0.
        model: Network, classes and weights.
        working_resolution_nm: Pixel size in plane that the network was trained at.
        lineage: Where it comes from.
    """

    name: str
    version: str
    model: NetworkModel
    working_resolution_nm: float
    lineage: ModelLineage = ModelLineage()


def write_bundle(bundle: ModelBundle, folder: Path) -> None:
    """Write `folder`, which may exist; weights last, so that a bundle with weights is whole.

    Args:
        bundle: What to write.
        folder: Becomes the bundle's root.
    """
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_json(folder / _METADATA, _metadata(bundle))
    _write_json(folder / _INFERENCE, _inference(bundle.model))
    (folder / "docs/README.md").write_text(_readme(bundle), encoding="utf-8")
    (folder / "LICENSE").write_text(_LICENCE, encoding="utf-8")
    torch.save(bundle.model.weights, folder / _WEIGHTS)


def read_bundle(folder: Path) -> ModelBundle:
    """Read a bundle, ours or a foreign one with an allowed network; no code and no `$` expression in it is
    run.

    Raises:
        NotFound: BUNDLE_FILE_MISSING.
        InvalidArgument: BAD_BUNDLE, NETWORK_NOT_ALLOWED, BAD_WEIGHTS, NO_CLASSES, DUPLICATE_CLASS.
    """
    metadata, inference = _read_json(folder / _METADATA), _read_json(folder / _INFERENCE)
    definition = inference.get("network_def")
    if not isinstance(definition, dict):
        raise InvalidArgument(
            "BAD_BUNDLE", f"{folder / _INFERENCE} has no network_def; it must name the network"
        )
    network, class_count = NetworkConfig.from_network_def(definition)
    try:
        classes = _classes(metadata)
        resolution = float(metadata["biosegment"]["working_resolution_nm"])
        lineage = metadata["biosegment"].get("lineage", {})
        bundle = ModelBundle(
            name=str(metadata["name"]),
            version=str(metadata["version"]),
            model=NetworkModel(network, classes, _read_weights(folder / _WEIGHTS)),
            working_resolution_nm=resolution,
            lineage=ModelLineage(
                str(lineage.get("parent", "")),
                tuple(lineage.get("annotations", ())),
                dict(lineage.get("configuration", {})),
                dict(lineage.get("metrics", {})),
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgument("BAD_BUNDLE", f"{folder / _METADATA} cannot be read: {error!r}") from error
    if len(classes) != class_count:
        raise InvalidArgument(
            "BAD_BUNDLE", f"{class_count} output classes but {len(classes)} names in {folder}"
        )
    bundle.model.build()
    return bundle


def _classes(metadata: Mapping[str, Any]) -> tuple[LabelClass, ...]:
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    values = metadata["biosegment"]["class_values"]
    channels = sorted((int(channel), str(name)) for channel, name in names.items())
    return require_classes([LabelClass(int(values[name]), name) for channel, name in channels if channel > 0])


def _read_weights(path: Path) -> Weights:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise NotFound(
            "BUNDLE_FILE_MISSING", f"{path} is missing; a bundle needs its weights there"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InvalidArgument("BAD_WEIGHTS", f"{path} is not a plain state dict: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(t, torch.Tensor) for t in weights.values()):
        raise InvalidArgument("BAD_WEIGHTS", f"{path} is not a plain state dict of tensors")
    return dict(weights)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound("BUNDLE_FILE_MISSING", f"{path} is missing; a bundle needs it") from error
    except ValueError as error:
        raise InvalidArgument("BAD_BUNDLE", f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgument("BAD_BUNDLE", f"{path} must hold a JSON object")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _metadata(bundle: ModelBundle) -> dict[str, Any]:
    model, lineage = bundle.model, bundle.lineage
    channels = {"0": "background"} | {str(i): c.name for i, c in enumerate(model.classes, start=1)}
    edge = f"{model.network.stride[1]}*n"
    return {
        "schema": _SCHEMA,
        "version": bundle.version,
        "changelog": {bundle.version: "trained with BioSegment"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {},
        "name": bundle.name,
        "task": "Segmentation of volume electron microscopy, slice by slice",
        "description": f"2D residual U-Net for {', '.join(c.name for c in model.classes)} at "
        f"{bundle.working_resolution_nm:g} nm per pixel.",
        "authors": "not recorded",
        "copyright": "not recorded",
        "data_source": "not recorded",
        "network_data_format": {
            "inputs": {"image": _format("image", "magnitude", 1, edge, [-5, 5], {"0": "image"})},
            "outputs": {"pred": _format("image", "segmentation", len(channels), edge, [-100, 100], channels)},
        },
        "biosegment": {
            "working_resolution_nm": bundle.working_resolution_nm,
            "normalisation": "mean 0 and deviation 1 of the whole slice, cut at 5 deviations",
            "class_values": {c.name: c.value for c in model.classes},
            "lineage": {
                "parent": lineage.parent,
                "annotations": list(lineage.annotations),
                "configuration": dict(lineage.configuration),
                "metrics": dict(lineage.metrics),
            },
        },
    }


def _format(
    kind: str, form: str, channels: int, edge: str, value_range: list[int], channel_def: dict[str, str]
) -> dict[str, Any]:
    return {
        "type": kind,
        "format": form,
        "modality": "EM",
        "num_channels": channels,
        "spatial_shape": [edge, edge],
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": True,
        "channel_def": channel_def,
    }


def _inference(model: NetworkModel) -> dict[str, Any]:
    """What MONAI needs to run the network itself; our own reader takes `network_def` only."""
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": model.network.network_def(len(model.classes)),
        "network": "$@network_def.to(@device)",
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [256, 256],
            "sw_batch_size": 4,
            "overlap": 0.25,
        },
        "weights": "$@bundle_root + '/models/model.pt'",
        "checkpoint": "$torch.load(@weights, map_location=@device, weights_only=True)",
        "load": "$@network.load_state_dict(@checkpoint)",
    }


def _readme(bundle: ModelBundle) -> str:
    names = "\n".join(f"- channel {i}: {c.name}" for i, c in enumerate(bundle.model.classes, start=1))
    return (
        f"# {bundle.name} {bundle.version}\n\n"
        f"A 2D residual U-Net that segments slices of volume electron microscopy at "
        f"{bundle.working_resolution_nm:g} nm per pixel.\n\n"
        "Input: one slice, brought to mean 0 and deviation 1 of the whole slice and cut at 5 deviations; "
        f"edges are multiples of {bundle.model.network.stride[1]} pixels. Output: logits.\n\n"
        f"- channel 0: background\n{names}\n\n"
        f"Trained on {len(bundle.lineage.annotations)} annotations; "
        f"parent: {bundle.lineage.parent or 'none'}. Details are in configs/metadata.json.\n"
    )
