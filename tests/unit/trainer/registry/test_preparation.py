"""What foreign bundles do to images before their networks see them: followed, or said."""

from __future__ import annotations

import pytest
import torch
from biosegment_trainer.learning.bundle import read_bundle, write_bundle
from biosegment_trainer.learning.network import NetworkConfig

from tests.unit.trainer.learning.family import TINY_NETWORKS
from tests.unit.trainer.registry.zoo import built, checked, read, window, write_zoo_bundle

UNET = TINY_NETWORKS["UNet 2D"]


def test_a_pixel_size_that_the_bundle_states_is_taken(tmp_path):
    module, definition = built(UNET, 1, 2)
    spacing = {"transforms": [{"_target_": "Spacingd", "keys": "image", "pixdim": [3e-5, 8e-6, 8e-6]}]}
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra={"preprocessing": spacing})
    assert read(tmp_path).bundle.working_resolution_nm == pytest.approx(8.0)
    write_zoo_bundle(tmp_path, definition, module.state_dict(), metadata={"pixel_size_nm": 5})
    assert read(tmp_path).bundle.working_resolution_nm == 5.0


def preprocessing(*steps):
    """Of the Model Zoo's own bundles, where a part may stand elsewhere and the whole be an expression."""
    return {
        "preprocessing_transforms": [{"_target_": "LoadImaged", "keys": "@image_key"}, *steps],
        "preprocessing": {"_target_": "Compose", "transforms": "$@preprocessing_transforms + []"},
    }


RAS = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}


def test_scaling_of_grey_values_that_is_left_out_is_said(tmp_path):
    module, definition = built(UNET, 1, 2)
    extra = preprocessing(
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -175, "a_max": 250, "clip": True},
        {"_target_": "monai.transforms.NormalizeIntensityD", "keys": "image", "nonzero": True},
        {"_target_": "ScaleIntensityd", "keys": "image", "_disabled_": True},
    )
    answer = {"postprocessing": {"transforms": [{"_target_": "ThresholdIntensityd", "keys": "pred"}]}}
    write_zoo_bundle(tmp_path / "zoo", definition, module.state_dict(), extra=extra | answer)
    (remark,) = [remark for remark in checked(tmp_path)["remarks"] if "grey values" in remark]
    assert "(ScaleIntensityRanged, NormalizeIntensityD) is left out" in remark
    assert "each slice is brought to mean 0 and deviation 1 instead" in remark
    assert "fine-tune it first" in remark
    write_zoo_bundle(tmp_path / "plain", definition, module.state_dict(), extra=preprocessing() | answer)
    assert "grey values" not in " ".join(read(tmp_path / "plain").remarks)


LONG = {
    "UNet": ("UNet 3D", {"strides": [[2, 2, 1], 2], "kernel_size": [3, 5, 1], "up_kernel_size": [3, 3, 1]}),
    "DynUNet": (
        "DynUNet 3D",
        {"kernel_size": [3, [3, 3, 1], [1, 3, 3]], "strides": [1, [2, 2, 1], [2, 1, 2]],
         "upsample_kernel_size": [[2, 2, 1], [2, 1, 2]]},
    ),
    "SegResNet": ("SegResNet 3D", {"upsample_mode": "deconv"}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), LONG.values(), ids=LONG)
@pytest.mark.parametrize(
    ("codes", "order"), [("RAS", (2, 1, 0)), (["P", "S", "L"], (1, 0, 2)), ("SAR", (0, 1, 2))]
)
def test_a_network_for_other_axes_answers_as_before_to_the_image_with_ours(
    tmp_path, name, changes, codes, order
):
    module, definition = built(TINY_NETWORKS[name], 1, 2, **changes)
    extra = preprocessing(RAS | {"axcodes": codes})
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    found = read(tmp_path)
    theirs = torch.randn(1, 1, 8, 12, 16)
    axes = (0, 1, *(2 + axis for axis in order))
    with torch.inference_mode():
        answer, before = found.bundle.model.build()(theirs.permute(axes)), module(theirs)
    torch.testing.assert_close(answer, before.permute(axes), rtol=1e-4, atol=1e-5)
    said = [remark for remark in found.remarks if "turned to z, y, x" in remark]
    assert len(said) == (order != (0, 1, 2))
    write_bundle(found.bundle, tmp_path / "ours")
    assert read_bundle(tmp_path / "ours").model.network == found.bundle.model.network


def test_strides_and_halo_of_a_network_for_x_y_z_are_those_of_z_y_x(tmp_path):
    # As DeepEdit's for the spleen, whose slices are the last axis.
    strides = [1, 2, 2, 2, 2, [2, 2, 1]]
    network = NetworkConfig(
        "DynUNet",
        3,
        1,
        {"kernel_size": [3] * 6, "strides": strides, "upsample_kernel_size": strides[1:], "filters": [2] * 6},
    )
    module, definition = built(network, 1, 2)
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=preprocessing(RAS))
    found = read(tmp_path).bundle.model.network
    assert (network.stride, network.halo) == ((32, 32, 16), (96, 96, 48))
    assert (found.stride, found.halo) == ((16, 32, 32), (48, 96, 96))


def test_axes_that_are_not_known_or_cannot_be_turned_are_said(tmp_path):
    module, definition = built(TINY_NETWORKS["UNet 3D"], 1, 2)
    for number, said in enumerate(
        ({}, preprocessing(RAS | {"axcodes": "@nowhere"}), preprocessing(RAS, RAS | {"axcodes": "SAR"}))
    ):
        write_zoo_bundle(tmp_path / str(number), definition, module.state_dict(), extra=said)
        found = read(tmp_path / str(number))
        assert "they were taken for z, y, x" in " ".join(found.remarks)
        assert found.bundle.model.network == TINY_NETWORKS["UNet 3D"]
    for name, changes in (("SwinUNETR 3D", {}), ("SegResNet 3D", {"upsample_mode": "pixelshuffle"})):
        module, definition = built(TINY_NETWORKS[name], 1, 2, **changes)
        write_zoo_bundle(tmp_path / name, definition, module.state_dict(), extra=preprocessing(RAS))
        found = read(tmp_path / name)
        (remark,) = [remark for remark in found.remarks if "its axes are x, y, z" in remark]
        assert "cannot be turned" in remark
        assert "fine-tune it first" in remark
        image = window(TINY_NETWORKS[name])
        with torch.inference_mode():
            assert torch.equal(found.bundle.model.build()(image), module(image))


def test_the_pixel_size_of_a_bundle_for_x_y_z_is_that_of_its_slices(tmp_path):
    module, definition = built(UNET, 1, 2)
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": "@sizes"}
    extra = preprocessing(RAS, spacing) | {"sizes": [8e-6, 8e-6, 3e-5]}
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    assert read(tmp_path).bundle.working_resolution_nm == pytest.approx(8.0)


@pytest.mark.timeout(60)
def test_preprocessing_that_refers_to_itself_or_to_very_much_ends(tmp_path):
    module, definition = built(UNET, 1, 2)
    write_zoo_bundle(tmp_path, definition, module.state_dict(), suffix=".yaml")
    path = tmp_path / "configs/inference.yaml"
    levels = [f"l{i}: &l{i} [{', '.join(8 * [f'*l{i - 1}'])}]" for i in range(1, 30)]
    loop = "preprocessing: &loop {_target_: Compose, transforms: [*loop, {_target_: ScaleIntensityd}]}"
    path.write_text("\n".join([path.read_text(), "l0: &l0 [1]", *levels, loop]))
    assert "(ScaleIntensityd) is left out" in " ".join(read(tmp_path).remarks)
