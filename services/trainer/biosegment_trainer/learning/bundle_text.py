"""What a bundle says of its model: to MONAI's tools and to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import monai
import numpy as np
import torch

from biosegment_trainer.learning.network import NetworkConfig, NetworkModel

_SCHEMA: Final = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_TILE: Final = {2: 256, 3: 96}


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What the texts are made of; fields as in `ModelBundle`."""

    name: str
    version: str
    network: NetworkConfig
    classes: tuple[str, ...]
    working_resolution_nm: float
    parent: str
    annotation_count: int
    data_license: str

    @property
    def kind(self) -> str:
        """The network in words."""
        slices, dims = self.network.input_slices, self.network.spatial_dims
        return f"{dims}D {self.network.family}" + (f" that sees {slices} slices" if slices > 1 else "")

    @property
    def channels(self) -> dict[str, str]:
        """Meaning of the outputs by channel."""
        if not self.classes:
            return {"0": "reconstruction"}
        return {str(i): name for i, name in enumerate(("background", *self.classes))}


def metadata_of(facts: BundleFacts) -> dict[str, Any]:
    """Content of `metadata.json`, without what only we read."""
    network, what = facts.network, ", ".join(facts.classes) or "the image itself (pretrained)"
    slices = {str(i): _slice_name(i, network.input_slices) for i in range(network.input_slices)}
    return {
        "schema": _SCHEMA,
        "version": facts.version,
        "changelog": {facts.version: "trained with BioSegment"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"pytorch-ignite": "0.5.0"},
        "name": facts.name,
        "task": "Segmentation of volume electron microscopy",
        "description": f"{facts.kind} for {what} at {facts.working_resolution_nm:g} nm per pixel.",
        "authors": "not recorded",
        "copyright": "not recorded",
        "data_source": "not recorded",
        "data_type": "electron micrographs",
        "image_classes": "one channel, mean 0 and deviation 1 of the whole slice, cut at 5 deviations",
        "label_classes": ", ".join(f"{i}: {name}" for i, name in facts.channels.items()),
        "pred_classes": "logits; the largest wins",
        "intended_use": f"Data licence of what it learned from: {_shown(facts.data_license)}",
        "references": [],
        "network_data_format": {
            "inputs": {"image": _format("image", "magnitude", network, [-5, 5], slices)},
            "outputs": {"pred": _format("image", "segmentation", network, [-100, 100], facts.channels)},
        },
    }


def _shown(terms: str) -> str:
    whole = terms or "not recorded"
    return whole if len(whole) <= 500 else f"{whole[:400]}... (whole in docs/data_license.txt)"


def _slice_name(number: int, count: int) -> str:
    away = number - count // 2
    return f"slice z{away:+d}" if away else "image"


def _format(
    kind: str, form: str, network: NetworkConfig, value_range: list[int], channel_def: dict[str, str]
) -> dict[str, Any]:
    # A norm that measures the window needs more than one voxel on the coarsest level.
    least = 2 if network.has_window_norm else 1
    return {
        "type": kind,
        "format": form,
        "modality": "EM",
        "num_channels": len(channel_def),
        "spatial_shape": [f"{least * stride}*n" for stride in network.stride[-network.spatial_dims :]],
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": True,
        "channel_def": channel_def,
    }


def inference_config(model: NetworkModel, facts: BundleFacts) -> dict[str, Any]:
    """Content of `inference.json`: what MONAI needs to run the network itself; our own reader takes
    `network_def` only.

    Images are .npy files with the axes of the network's input: (y, x), (slices, y, x) or (z, y, x).
    """
    network = model.network
    tile = [-(-_TILE[network.spatial_dims] // s) * s for s in network.stride[-network.spatial_dims :]]
    return {
        "imports": ["$import glob", "$import os", "$import torch"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "network_def": network.network_def(len(model.classes)),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(network)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in sorted(glob.glob(os.path.join(@dataset_dir, '*.npy')))]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": tile,
            "sw_batch_size": 4 if network.spatial_dims == 2 else 1,
            "overlap": 0.25,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "meta_keys": "image_meta_dict",
                    "output_dir": "@output_dir",
                },
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "@weights",
                "load_dict": {"model": "@network"},
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "weights": "$@bundle_root + '/models/model.pt'",
        "checkpoint": "$torch.load(@weights, map_location=@device, weights_only=True)",
        "load": "$@network.load_state_dict(@checkpoint)",
        "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', True)"],
        "run": ["$@evaluator.run()"],
    }


def _preprocessing(network: NetworkConfig) -> list[dict[str, Any]]:
    """Each slice brought to mean 0 and deviation 1: slices stand in the first axis while that is done."""
    one = {"keys": "image"}
    slices_first = network.spatial_dims == 3 or network.input_slices > 1
    steps: list[dict[str, Any]] = [{"_target_": "LoadImaged", **one, "reader": "NumpyReader"}]
    channel = {"_target_": "EnsureChannelFirstd", **one, "channel_dim": "no_channel"}
    if not slices_first:
        steps.append(channel)
    steps.append({"_target_": "NormalizeIntensityd", **one, "channel_wise": True})
    steps.append({"_target_": "ThresholdIntensityd", **one, "threshold": 5.0, "above": False, "cval": 5.0})
    steps.append({"_target_": "ThresholdIntensityd", **one, "threshold": -5.0, "above": True, "cval": -5.0})
    if network.spatial_dims == 3:
        steps.append(channel)
    return steps


def readme_text(facts: BundleFacts) -> str:
    """Content of `README.md`."""
    names = "\n".join(f"- channel {i}: {name}" for i, name in facts.channels.items())
    edges = " x ".join(str(s) for s in facts.network.stride[-facts.network.spatial_dims :])
    seams = seams_text(facts.network)
    seams = f"{seams}\n\n" if seams else ""
    return (
        f"# {facts.name} {facts.version}\n\n"
        f"A {facts.kind} that segments volume electron microscopy at "
        f"{facts.working_resolution_nm:g} nm per pixel in plane.\n\n"
        "Input: every slice brought to mean 0 and deviation 1 of the whole slice and cut at 5 deviations; "
        f"edges of the window are multiples of {edges} pixels. Output: logits.\n\n"
        f"{names}\n\n{seams}"
        f"Trained on {facts.annotation_count} annotations; "
        f"parent: {facts.parent or 'none'}. Details are in configs/metadata.json.\n\n"
        f"## Data licence\n\n{terms_text(facts)}"
    )


def seams_text(network: NetworkConfig) -> str:
    """What `README.md` says of a network whose answers depend on the window; empty for others."""
    if not network.has_window_norm:
        return ""
    return (
        "Its norm takes its statistics from the window that it is shown: large images that are predicted "
        "window by window may show seams."
    )


def terms_text(facts: BundleFacts) -> str:
    """Content of `data_license.txt`."""
    if not facts.data_license:
        return "The terms of the images that these weights were trained on were not recorded.\n"
    return (
        "Terms of the data that these weights, or the weights that they started from, were trained on. "
        "All of them bind:\n\n"
        + "\n".join(f"- {term.strip()}" for term in facts.data_license.split(";"))
        + "\n"
    )


def licence_text(facts: BundleFacts) -> str:
    """Content of `LICENSE`."""
    if not facts.data_license:
        return (
            "The licence of these weights is not known.\n\n"
            "They were trained on images whose licence was not recorded, and may be bound by its terms. "
            "Find out and\nreplace this text before you pass the bundle on.\n"
        )
    return (
        "These weights are bound by the terms of the data that they were trained on:\n\n"
        f"{facts.data_license}\n\nSee docs/data_license.txt.\n"
    )
