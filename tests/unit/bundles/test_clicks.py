"""The shipped model that corrects masks with clicks: whole, verified by MONAI's own tools, and of use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from biosegment_trainer.learning.clicks.model import CHANNELS, ClickModel
from biosegment_trainer.learning.clicks.refinement import Click, refine
from monai.bundle import verify_net_in_out
from scipy import ndimage

from biosegment.errors import InvalidArgument
from bundles.clicks import NAME
from bundles.corruption import case
from bundles.data import ROOT, epfl
from bundles.interaction import (
    Mask,
    WorkingStack,
    brush_stroke,
    centre,
    filling_stroke,
    iou,
    largest_error,
    next_click,
)

FOLDER = ROOT / "bundles" / NAME
_ZOO_FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
)


@pytest.fixture(scope="module")
def model() -> ClickModel:
    return ClickModel.read(FOLDER, "cpu")


@pytest.fixture(scope="module")
def slab(shared: Path) -> WorkingStack:
    """Some of the slices that were not trained on; the test volume is for the released figures alone."""
    return WorkingStack.of(epfl("train", 149, 165))


def test_files_terms_and_role_are_where_people_look() -> None:
    for name in _ZOO_FILES:
        assert 0 < (FOLDER / name).stat().st_size < 25 << 20, name
    for name in ("docs/README.md", "docs/data_license.txt", "LICENSE", "configs/metadata.json"):
        assert "research, non-commercial" in (FOLDER / name).read_text(), name
    metadata = json.loads((FOLDER / "configs/metadata.json").read_text())
    assert metadata["biosegment"]["role"] == "clicks"
    channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    assert tuple(channels.values()) == CHANNELS
    readme = (FOLDER / "docs/README.md").read_text()
    for command in ("bundles.clicks", "bundles.release_clicks", "benchmarks.clicks"):
        assert f"python -m {command}" in readme
    for what in metadata["eval_metrics"]:
        assert f"| {what} |" in readme


def test_monai_verifies_input_and_output() -> None:
    verify_net_in_out(
        "network_def",
        device="cpu",
        meta_file=str(FOLDER / "configs/metadata.json"),
        config_file=str(FOLDER / "configs/inference.json"),
    )


def test_the_model_says_what_it_is(model: ClickModel) -> None:
    assert model.working_resolution_nm == 10
    assert "1.0.0" in model.name
    with pytest.raises(InvalidArgument, match="not hold a model for clicks") as error:
        ClickModel.read(ROOT / "bundles" / "mitochondria_vem_segmentation")
    assert error.value.reason == "NOT_A_CLICK_MODEL"


def test_one_click_finds_an_object_and_another_takes_an_invented_one_away(
    model: ClickModel, slab: WorkingStack
) -> None:
    numbers, _ = ndimage.label(slab.truth[8])
    part = numbers == 1 + int(np.bincount(numbers.ravel())[1:].argmax())
    y, x = centre(part)
    image, empty = slab.image[8:9], np.zeros((1, *part.shape), np.uint8)
    found = refine(model, image, empty, [Click((0, y, x), True)])
    assert iou(found.mask[0] > 0, part) > 0.7
    y, x = centre(~slab.truth[8])
    invented = found.mask.copy()
    invented[0, y - 15 : y + 15, x - 20 : x + 20] = 1
    assert not slab.truth[8, y - 15 : y + 15, x - 20 : x + 20].any()
    gone = refine(model, image, invented, [Click((0, y, x), False)])
    assert gone.mask[0, y - 15 : y + 15, x - 20 : x + 20].mean() < 0.1
    assert iou(gone.mask[0] > 0, part) > 0.7


def test_an_object_is_found_through_the_slices(model: ClickModel, slab: WorkingStack) -> None:
    numbers, _ = ndimage.label(slab.truth)
    part = numbers == 1 + int(np.bincount(numbers.ravel())[1:].argmax())
    z = len(part) // 2
    y, x = centre(part[z])
    found = refine(model, slab.image, np.zeros(part.shape, np.uint8), [Click((z, y, x), True)], through=True)
    assert iou(found.mask > 0, part) > 0.5


def ball(y: int, x: int, radius: int) -> Mask:
    rows, columns = np.ogrid[:100, :120]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def test_the_one_who_clicks_aims_at_the_middle_of_the_largest_error() -> None:
    truth = ball(50, 50, 20) | ball(20, 100, 8)
    assert next_click(np.zeros_like(truth), truth) == ((50, 50), True)
    assert next_click(ball(50, 50, 20), truth) == ((20, 100), True)
    assert next_click(truth | ball(85, 20, 10), truth) == ((85, 20), False)
    assert next_click(truth, truth) is None
    assert not largest_error(truth, truth).any()
    solid = np.zeros((9, 30, 40), bool)
    solid[2:7, 10:21, 20:31] = True
    z, y, x = centre(solid)
    assert z == 4
    assert abs(y - 15) <= 3
    assert abs(x - 25) <= 3


def test_a_stroke_is_as_wide_as_the_brush_and_as_long_as_the_error() -> None:
    truth = np.zeros((100, 120), bool)
    truth[30:60, 10:110] = True
    empty = np.zeros_like(truth)
    once = brush_stroke(empty, truth, 5)
    rows, columns = np.flatnonzero(once.any(1)), np.flatnonzero(once.any(0))
    assert 95 <= np.ptp(columns) + 1 <= 100
    assert 11 <= once[:, 60].sum() <= 12
    assert rows.min() >= 30
    assert np.array_equal(filling_stroke(empty, truth), truth)
    assert np.array_equal(brush_stroke(truth, truth, 5), truth)
    mask = empty
    for _ in range(40):
        mask = brush_stroke(mask, truth, 5)
    assert iou(mask, truth) > 0.9


def test_cases_to_correct_are_many_and_repeatable() -> None:
    truth = ball(50, 40, 15) | ball(30, 95, 12)
    image = np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32) - truth
    guesses = np.stack([np.where(truth, 0.9, 0.1), np.where(ball(52, 40, 12), 0.8, 0.2)]).astype(np.float32)

    def drawn(seed: int) -> list[tuple[bool, bool, float]]:
        rng = np.random.default_rng(seed)
        cases = [case(image, truth, guesses, ball(50, 42, 14), rng) for _ in range(60)]
        for one in cases:
            assert one.asked is None or not (one.truth ^ one.mask)[one.asked].sum() < one.asked.sum()
        return [(one.follows, one.asked is not None, iou(one.mask, one.truth)) for one in cases]

    found = drawn(0)
    assert found == drawn(0)
    assert {follows for follows, _, _ in found} == {True, False}
    assert {wilful for _, wilful, _ in found} == {True, False}
    starts = [start for _, _, start in found]
    assert min(starts) == 0
    assert max(starts) > 0.95
    assert len({round(start, 2) for start in starts}) > 15
