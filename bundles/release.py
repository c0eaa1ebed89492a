"""Makes a bundle of what `bundles.train` left: `python -m bundles.release NAME`.

Measures the model, once, and writes `bundles/NAME` with weights, figures, terms and the commands that print them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

import torch
from biosegment_trainer.learning.bundle import README, ModelBundle, ModelLineage, joined_terms, write_bundle
from biosegment_trainer.learning.network import NetworkModel

from bundles.data import MITOCHONDRIA, ROOT
from bundles.evaluate import SETS, measure
from bundles.evaluation import CHANGES
from bundles.recipe import RECIPES, WORKING_RESOLUTION_NM, Recipe
from bundles.train import BUILD

EPFL_TERMS = (
    "research, non-commercial: electron microscopy data set of EPFL CVLab, offered for research, to be cited as "
    "A. Lucchi, Y. Li, P. Fua, CVPR 2013"
)
VNC_TERMS = (
    "research, non-commercial: CC BY-NC-SA 3.0, S. Gerhard, J. Funke, J. Martel, A. Cardona, R. Fetter, Segmented "
    "anisotropic ssTEM dataset of neural tissue, figshare 2013, doi:10.6084/m9.figshare.856713"
)
_REFERENCES = [
    "A. Lucchi, Y. Li, P. Fua: Learning for structured prediction using approximate subgradient descent with working "
    "sets. CVPR 2013",
    "S. Gerhard, J. Funke, J. Martel, A. Cardona, R. Fetter: Segmented anisotropic ssTEM dataset of neural tissue. "
    "figshare 2013, doi:10.6084/m9.figshare.856713",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Release:
    """What is said of a model beside its figures.

    Attributes:
        version: Of the bundle.
        changelog: By version.
        title: For people.
        terms: Of the data that it was trained on.
        measured: Names in `SETS` and what they are to this model.
        travels: Whether other voxel sizes, contrast and seams are measured too.
        left_out: Of models that were trained on one of the data sets alone: recipe, the other in `SETS`, and what
            exactly was trained.
        text: What the README says first.
    """

    version: str
    changelog: dict[str, str]
    title: str
    terms: str
    measured: dict[str, str]
    text: str
    travels: bool = False
    left_out: tuple[tuple[str, str, str], ...] = ()


RELEASES = {
    "mitochondria_vem_segmentation": Release(
        version="1.0.0",
        changelog={"1.0.0": "first version, trained on a CPU"},
        title="Mitochondria in volume electron microscopy",
        terms=EPFL_TERMS,
        measured={
            "validation": "validation slab of EPFL's training volume, not trained on",
            "epfl": "EPFL test, the complete volume of 165 slices",
            "vnc_all": "VNC, all 20 sections: another animal and microscope, never seen (zero-shot)",
        },
        text="Trained on slices 0 to 144 of the training volume of EPFL CVLab's CA1 hippocampus (FIB-SEM, 5 nm).",
    ),
    "mitochondria_vem_general": Release(
        version="1.0.0",
        changelog={"1.0.0": "first version, trained on a CPU"},
        title="Mitochondria in volume electron microscopy, a parent for other tissue",
        terms=joined_terms(EPFL_TERMS, VNC_TERMS),
        measured={
            "validation": "validation slab of EPFL's training volume",
            "epfl": "EPFL test, the complete volume of 165 slices",
            "vnc": "VNC, sections 10 to 19",
        },
        travels=True,
        left_out=(
            (
                "mitochondria_vem_segmentation",
                "vnc_all",
                "`mitochondria_vem_segmentation`: EPFL slices 0 to 144 alone, 5600 steps, neither elastic deformation "
                "nor tile seams; on all of VNC",
            ),
            (
                "without_epfl",
                "epfl",
                "`without_epfl`: VNC sections 0 to 7 alone, 1600 steps, augmented as this model; on EPFL test",
            ),
        ),
        text="Trained on slices 0 to 144 of the training volume of EPFL CVLab's CA1 hippocampus (FIB-SEM, 5 nm) and on "
        "sections 0 to 9 of the Drosophila larva's ventral nerve cord (ssTEM, 4.6 nm), with tile seams and elastic "
        "deformation among the augmentations. New projects start from it; the first annotations of their own tissue "
        "are what makes it good there.",
    ),
}


def trained(name: str) -> NetworkModel:
    """The model that `bundles.train` left."""
    weights = torch.load(BUILD / name / "weights.pt", weights_only=True)
    return NetworkModel(RECIPES[name].config.network, (MITOCHONDRIA,), weights)


def figures(name: str, release: Release) -> dict[str, dict[str, float]]:
    """IoU by what was measured, in groups."""
    model = trained(name)
    found: dict[str, dict[str, float]] = {"as it is": {}}
    for key, what in release.measured.items():
        (stack,) = SETS[key]()
        found["as it is"][what] = measure(model, stack)
    if release.travels:
        (validation,) = SETS["validation"]()
        found["changed"] = {c.name: measure(model, c.applied(validation)) for c in CHANGES}
    if release.left_out:
        found["left out"] = {}
        for other, key, what in release.left_out:
            (stack,) = SETS[key]()
            found["left out"][what] = measure(trained(other), stack)
    return found


def bundle(name: str, release: Release, found: dict[str, dict[str, float]]) -> ModelBundle:
    """The bundle with its README."""
    recipe, run = RECIPES[name], json.loads((BUILD / name / "run.json").read_text())
    lineage = ModelLineage("", (), _plain(recipe), {"steps": run["steps"], "cpu_s": run["cpu_s"]})
    made = ModelBundle(
        name=release.title,
        version=release.version,
        model=trained(name),
        working_resolution_nm=WORKING_RESOLUTION_NM,
        lineage=lineage,
        data_license=release.terms,
        about={
            "changelog": release.changelog,
            "authors": "BioSegment developers",
            "copyright": "research, non-commercial: see docs/data_license.txt",
            "data_source": release.terms,
            "references": _REFERENCES,
            "eval_metrics": {what: round(iou, 3) for what, iou in found["as it is"].items()},
        },
    )
    return dataclasses.replace(made, texts={README: _readme(name, release, made, run, found)})


def _plain(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(recipe.config) | {"seed": recipe.seed}))  # type: ignore[no-any-return]


def _readme(
    name: str,
    release: Release,
    made: ModelBundle,
    run: dict[str, Any],
    found: dict[str, dict[str, float]],
) -> str:
    lines = [
        f"# {release.title} {release.version}",
        "",
        "A 2D residual U-Net with 1.6 million weights that finds mitochondria in slices of volume electron",
        f"microscopy at {WORKING_RESOLUTION_NM:g} nm per pixel. **Research, non-commercial use only**: the weights are",
        "bound by the terms of the data (below).",
        "",
        f"{release.text}",
        "",
        f"{run['steps']} steps on one thread of a CPU, {run['cpu_s']} processor seconds:",
        f"`python -m bundles.train {name}`.",
        "",
        "Input: one slice, brought to mean 0 and deviation 1 of the whole slice, cut at 5 deviations; edges are",
        "multiples of 16 pixels. Output: logits of background (channel 0) and mitochondria (channel 1).",
        "",
        "## Figures",
        "",
        "Foreground intersection over union of all voxels at full resolution; the largest logit wins, one pass.",
        f"`python -m bundles.evaluate {name} --on {' '.join(release.measured)}`",
        "",
        *_table("on", found["as it is"]),
    ]
    if "changed" in found:
        lines += [
            "",
            f"Does it travel? The validation slab, changed (`python -m bundles.travel {name}`):",
            "",
            *_table("change", found["changed"]),
        ]
    if "left out" in found:
        lines += ["", *left_out_lines(name, found["left out"])]
    facts_terms = "\n".join(f"- {term.strip()}" for term in made.data_license.split(";"))
    return "\n".join(
        [
            *lines,
            "",
            "## Data licence",
            "",
            "Terms of the data that these weights were trained on:",
            "",
            facts_terms,
            "",
        ]
    )


def left_out_lines(name: str, figures: dict[str, float]) -> list[str]:
    """What a README says of models of one data set alone, and how they are measured."""
    return [
        "Does it travel to tissue that was never seen? Models of one data set each, on the other. They are not this",
        "model's training with a data set left out: one's augmentation, the other's steps and sections differ too.",
        "",
        *_table("model", figures),
        "",
        "The first is shipped: `python -m bundles.evaluate mitochondria_vem_segmentation --on vnc_all`. The second is",
        "not: `python -m bundles.train without_epfl` leaves its weights in `build/bundles/without_epfl/weights.pt`,",
        "which `python -m bundles.travel --weights build/bundles/without_epfl/weights.pt --on epfl` measures.",
        f"`python -m bundles.release {name}` measures both and needs `weights.pt` of all three",
        "models below `build/bundles/`, where `bundles.train` leaves them, and this model's `run.json` beside it.",
    ]


def _table(head: str, rows: dict[str, float]) -> list[str]:
    return [f"| {head} | IoU |", "|---|---|", *(f"| {what} | {iou:.3f} |" for what, iou in rows.items())]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RELEASES))
    name = parser.parse_args().name
    release = RELEASES[name]
    found = figures(name, release)
    write_bundle(bundle(name, release, found), ROOT / "bundles" / name)


if __name__ == "__main__":
    main()
