"""The models that are shipped: whole, verified by MONAI's own tools, within the zoo's rules, as good as they say."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from biosegment_trainer.learning.bundle import read_bundle
from monai.bundle import ckpt_export, onnx_export, verify_net_in_out

from bundles.data import MITOCHONDRIA, ROOT, Stack, epfl
from bundles.evaluation import CHANGES, iou
from bundles.recipe import RECIPES
from bundles.release import RELEASES, left_out_lines

_ZOO_FILE_BYTES = 25 << 20
_ZOO_FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
)
_CHECK_PROPERTIES = """
import sys
from monai.bundle import ConfigWorkflow
config, meta = f"{sys.argv[1]}/configs/inference.json", f"{sys.argv[1]}/configs/metadata.json"
workflow = ConfigWorkflow(config, meta, logging_file=False, workflow_type="infer", bundle_root=sys.argv[1])
workflow.initialize()
print(workflow.check_properties())
"""


@pytest.fixture(params=sorted(RELEASES))
def folder(request: pytest.FixtureRequest) -> Path:
    return ROOT / "bundles" / request.param


@pytest.fixture
def files(folder: Path) -> dict[str, str]:
    """Arguments of MONAI's functions."""
    return {
        "meta_file": str(folder / "configs/metadata.json"),
        "config_file": str(folder / "configs/inference.json"),
    }


def test_the_zoo_s_rules_for_directories_and_versions_hold(folder: Path) -> None:
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", folder.name)
    for name in _ZOO_FILES:
        assert 0 < (folder / name).stat().st_size < _ZOO_FILE_BYTES, name
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["version"] in metadata["changelog"]
    assert metadata["schema"].startswith("https://")
    for key in ("monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"):
        assert metadata[key]
    assert metadata["copyright"]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] == "mitochondria"


def test_terms_and_figures_are_where_people_look(folder: Path) -> None:
    readme = (folder / "docs/README.md").read_text()
    for name in ("docs/README.md", "docs/data_license.txt", "LICENSE", "configs/metadata.json"):
        assert "research, non-commercial" in (folder / name).read_text(), name
    bundle = read_bundle(folder)
    assert bundle.data_license == RELEASES[folder.name].terms
    assert bundle.model.classes == (MITOCHONDRIA,)
    figures = json.loads((folder / "configs/metadata.json").read_text())["eval_metrics"]
    assert set(figures) == set(RELEASES[folder.name].measured.values())
    for what, value in figures.items():
        assert f"| {what} | {value:.3f} |" in readme
    assert f"python -m bundles.evaluate {folder.name}" in readme


def test_the_readme_says_exactly_what_models_of_one_data_set_were_trained_on() -> None:
    name = "mitochondria_vem_general"
    readme = (ROOT / "bundles" / name / "docs/README.md").read_text()
    ours, left_out = RECIPES[name].config.augmentation, RELEASES[name].left_out
    for other, _, what in left_out:
        config = RECIPES[other].config
        assert f"`{other}`: " in what
        assert f"{config.steps} steps" in what
        assert ("augmented as this model" in what) == (config.augmentation == ours)
        without = dataclasses.replace(ours, elastic=0.0, seam=0.0)
        assert ("neither elastic deformation nor tile seams" in what) == (config.augmentation == without)
    figures = {
        what: float(iou)
        for _, _, what in left_out
        for iou in re.findall(rf"{re.escape(what)} \| (.*) \|", readme)
    }
    assert len(figures) == len(left_out)
    lines = "\n".join(left_out_lines(name, figures))
    assert lines in readme
    for other, on, _ in left_out:
        assert re.search(rf"`python -m bundles\.\w+ (--weights build/bundles/)?{other}\S* --on {on}`", lines)


def test_monai_verifies_input_and_output(files: dict[str, str]) -> None:
    verify_net_in_out("network_def", device="cpu", **files)


def test_it_finds_mitochondria_also_through_another_microscope(folder: Path, shared: Path) -> None:
    # Two slices of the slab that it was not trained on; the test volume is for the released figures alone.
    model, slab = read_bundle(folder).model, epfl("train", 156, 158)
    assert iou(model, slab) > 0.7
    darker = next(change for change in CHANGES if change.gamma > 1)
    assert iou(model, darker.applied(slab)) > 0.6


@pytest.mark.system
def test_monai_finds_all_properties_of_the_workflow(folder: Path) -> None:
    # In a process of its own: ignite, which runs the workflow, warns of much when it is imported.
    command = [sys.executable, "-W", "ignore", "-c", _CHECK_PROPERTIES, str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.splitlines()[-1] == "[]"


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")
def test_monai_exports_it_as_torchscript_and_onnx(
    folder: Path, files: dict[str, str], tmp_path: Path
) -> None:
    weights = {"ckpt_file": str(folder / "models/model.pt")}
    ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), **weights, **files)
    onnx_export("network_def", filepath=str(tmp_path / "model.onnx"), **weights, **files)
    assert (tmp_path / "model.ts").stat().st_size > 1 << 20
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_changed_stacks_keep_truth_and_image_together() -> None:
    raw = np.zeros((2, 512, 512), np.uint8)
    raw[:, 100:300, 200:400] = 200
    stack = Stack("square", raw, raw > 0, 5.0)
    for change in CHANGES:
        changed = change.applied(stack)
        assert changed.raw.shape == changed.truth.shape
        bright = changed.raw.astype(float)
        inside, outside = bright[changed.truth], bright[~changed.truth]
        assert np.median(inside) > np.median(outside) + 40, change.name
        assert changed.in_plane_nm == (change.in_plane_nm or 5.0)
