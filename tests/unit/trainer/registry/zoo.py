"""Bundles as others write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.registry.bundle_check import _check
from biosegment_trainer.registry.foreign import ForeignBundle, read_foreign
from torch import nn

SPLEEN = {"0": "background", "1": "spleen"}


def built(
    network: NetworkConfig, inputs: int, outputs: int, **changes: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """MONAI's own network with other channels, weights that are not fresh, and its definition."""
    definition = network.network_def(0) | {"in_channels": inputs, "out_channels": outputs} | changes
    constructor = network._family.constructor
    torch.manual_seed(0)
    module = constructor(**{key: value for key, value in definition.items() if key != "_target_"})
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return module.eval(), definition


def write_zoo_bundle(
    folder: Path,
    definition: Mapping[str, Any],
    weights: object,
    *,
    channels: Mapping[str, str] | None = None,
    suffix: str = ".json",
    extra: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    file: str = "models/model.pt",
) -> Path:
    """The layout of the Model Zoo, with the expressions that its bundles have all over."""
    configuration = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": "/workspace/bundle",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": dict(definition),
        "network": "$@network_def.to(@device)",
        **(extra or {}),
    }
    facts = {
        "version": "0.5.2",
        "name": "Spleen segmentation",
        "description": "A model of somebody",
        "authors": "Somebody",
        "network_data_format": {
            "outputs": {"pred": {"channel_def": dict(SPLEEN if channels is None else channels)}}
        },
        **(metadata or {}),
    }
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = json.dumps(configuration) if suffix == ".json" else yaml.safe_dump(configuration)
    (folder / f"configs/inference{suffix}").write_text(text)
    (folder / "configs/metadata.json").write_text(json.dumps(facts))
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0")
    (folder / "docs/data_license.txt").write_text("Scans: CC BY-SA 4.0; see their page")
    (folder / "docs/README.md").write_text("# Spleen\n\nBy somebody.")
    if isinstance(weights, bytes):
        (folder / file).write_bytes(weights)
    elif file.endswith(".safetensors"):
        from safetensors.torch import save_file

        assert isinstance(weights, dict)
        save_file(weights, folder / file)
    else:
        torch.save(weights, folder / file)
    return folder


def read(folder: Path, trusted: bool = False) -> ForeignBundle:
    """As ours, with 10 nm where it says nothing."""
    return read_foreign(folder, trusted=trusted, fallback_resolution_nm=10.0)


def window(network: NetworkConfig, channels: int = 1) -> torch.Tensor:
    """A small image that the network takes."""
    return torch.randn(1, channels, *(2 * s for s in network.stride[-network.spatial_dims :]))


def checked(place: Path) -> dict[str, Any]:
    """The bundle in `zoo`, taken over into `ours` as an import does it."""
    return _check(
        {"folder": str(place / "zoo"), "target": str(place / "ours"), "classes": {"membrane": 3},
         "working_resolution_nm": 8, "trusted": False}
    )  # fmt: skip
