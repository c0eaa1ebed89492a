"""Makes the bundle of what `bundles.clicks` left: `python -m bundles.release_clicks [--figures FILE ...]`.

A FILE is what `python -m benchmarks.clicks --json FILE` wrote about the bundle as it was released without figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from biosegment_trainer.learning.bundle import (
    INFERENCE,
    LICENCE,
    METADATA,
    README,
    TERMS,
    WEIGHTS,
    ModelBundle,
    facts_of,
    read_bundle,
)
from biosegment_trainer.learning.bundle_text import inference_config, licence_text, metadata_of, terms_text
from biosegment_trainer.learning.clicks.model import CHANNELS, CROP_PX, DISK_RADIUS_PX, ROLE, network_def

from bundles.clicks import BUILD, NAME, START, ClickRecipe
from bundles.data import MITOCHONDRIA, ROOT
from bundles.recipe import WORKING_RESOLUTION_NM
from bundles.release import EPFL_TERMS

FOLDER = ROOT / "bundles" / NAME
VERSION = "1.0.0"
TITLE = "Mitochondria in volume electron microscopy, corrected with clicks"
_REFERENCES = [
    "A. Lucchi, Y. Li, P. Fua: Learning for structured prediction using approximate subgradient descent with working "
    "sets. CVPR 2013",
    "K. Sofiiuk, I. A. Petrov, A. Konushin: Reviving Iterative Training with Mask Guidance for Interactive "
    "Segmentation. ICIP 2022, arXiv 2102.06583",
    "X. Chen, Z. Zhao, Y. Zhang, M. Duan, D. Qi, H. Zhao: FocalClick: Towards Practical Interactive Image "
    "Segmentation. CVPR 2022, arXiv 2204.02574",
]
_RANGES = {"image": (-5, 5), "previous mask": (0, 1), "positive clicks": (0, 1), "negative clicks": (0, 1)}


def metadata(run: dict[str, Any], figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of `metadata.json`."""
    made = _made()
    found = metadata_of(facts_of(made))
    image = found["network_data_format"]["inputs"]["image"]
    image |= {
        "num_channels": len(CHANNELS),
        "channel_def": {str(channel): name for channel, name in enumerate(CHANNELS)},
        "value_range": [min(low for low, _ in _RANGES.values()), max(high for _, high in _RANGES.values())],
    }
    return found | {
        "changelog": {VERSION: "first version, trained on a CPU"},
        "name": TITLE,
        "version": VERSION,
        "task": "Interactive segmentation of volume electron microscopy",
        "description": f"2D UNet that corrects masks of mitochondria with clicks at {WORKING_RESOLUTION_NM:g} nm per "
        "pixel.",
        "authors": "BioSegment developers",
        "copyright": "research, non-commercial: see docs/data_license.txt",
        "data_source": EPFL_TERMS,
        "image_classes": "the image, mean 0 and deviation 1 of the whole slice, cut at 5 deviations; the mask before; "
        f"disks of {DISK_RADIUS_PX} pixels' radius around positive and around negative clicks",
        "references": _REFERENCES,
        "eval_metrics": {item["name"]: round(item["value"], 3) for item in figures},
        "biosegment": {
            "role": ROLE,
            "working_resolution_nm": WORKING_RESOLUTION_NM,
            "normalisation": "mean 0 and deviation 1 of the whole slice, cut at 5 deviations",
            "class_values": {MITOCHONDRIA.name: MITOCHONDRIA.value},
            "data_license": EPFL_TERMS,
            "lineage": {
                "parent": START,
                "annotations": [],
                "configuration": json.loads(json.dumps(dataclasses.asdict(ClickRecipe()))),
                "metrics": {"steps": run["step"], "cpu_s": round(run["cpu_s"])},
            },
        },
    }


def inference() -> dict[str, Any]:
    """Content of `inference.json`: .npy files (4, y, x) in, of which the image is already normalised."""
    made = _made()
    found = inference_config(made.model, facts_of(made))
    found["network_def"] = network_def()
    found["preprocessing"]["transforms"] = [
        {"_target_": "LoadImaged", "keys": "image", "reader": "NumpyReader"},
        {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": 0},
    ]
    return found


def _made() -> ModelBundle:
    """A bundle of the parent's shape: most that is said of the two is the same."""
    parent = read_bundle(ROOT / "bundles" / START)
    return dataclasses.replace(parent, name=TITLE, version=VERSION, data_license=EPFL_TERMS)


def readme(run: dict[str, Any], figures: list[dict[str, Any]]) -> str:
    """Content of `README.md`."""
    channels = "\n".join(f"- channel {n}: {name}" for n, name in enumerate(CHANNELS))
    rows = "\n".join(
        f"| {item['name']} | {item['value']:.3g} {item['unit']} | {'at most' if item['at_most'] else 'at least'} "
        f"{item['bound']:g} | {'reached' if item['passed'] else '**missed**'} |"
        for item in figures
    )
    return f"""# {TITLE} {VERSION}

A 2D residual U-Net with 1.6 million weights that corrects a mask of mitochondria where somebody clicks, at
{WORKING_RESOLUTION_NM:g} nm per pixel. **Research, non-commercial use only**: the weights are bound by the terms of the
data (below). It is for corrections alone: it cannot predict a volume, and nothing is trained from it.

It started from the weights of `{START}` and learned on the same slices 0 to 144 of the training volume of EPFL CVLab's
CA1 hippocampus (FIB-SEM, 5 nm), from masks that were wrong in many ways and simulated clicks on their largest errors,
as in RITM (arXiv 2102.06583); a click changes the objects that were clicked on, in a crop of {CROP_PX} x {CROP_PX}
pixels around it, after FocalClick (arXiv 2204.02574).

{run["step"]} steps on one thread of a CPU, {run["cpu_s"]:.0f} processor seconds: `python -m bundles.clicks`, then
`python -m bundles.release_clicks`.

Input: a window whose edges are multiples of 16 pixels, with

{channels}

The image has mean 0 and deviation 1 of the whole slice and is cut at 5 deviations; the mask is 0 or 1; a click is a
disk of {DISK_RADIUS_PX} pixels' radius. Output: logits of background (channel 0) and mitochondria (channel 1).

## Figures

On EPFL's test volume, which was not trained on: `python -m benchmarks.clicks`, which says what they mean; more in
docs/benchmarks.md of the project. A GPU was not at hand.

| what | figure | target | |
|---|---|---|---|
{rows}

## Data licence

Terms of the data that these weights were trained on:

- {EPFL_TERMS}
"""


def main() -> None:
    """Write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, nargs="+", default=[], help="JSON of benchmarks.clicks")
    options = parser.parse_args()
    figures = [item for path in options.figures for item in json.loads(path.read_text())]
    run = torch.load(BUILD / "checkpoint.pt", weights_only=True)
    for name in ("configs", "models", "docs"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    facts = facts_of(_made())
    texts = {
        README: readme(run, figures),
        LICENCE: licence_text(facts),
        TERMS: terms_text(facts),
        METADATA: json.dumps(metadata(run, figures), indent=4) + "\n",
        INFERENCE: json.dumps(inference(), indent=4) + "\n",
    }
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    # Half precision: half the size, and answers that differ by less than a thousandth.
    weights = {k: t.half() if t.is_floating_point() else t for k, t in run["average"].items()}
    torch.save(weights, FOLDER / WEIGHTS)


if __name__ == "__main__":
    main()
