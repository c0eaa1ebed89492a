from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from biosegment_trainer.learning.network import (
    LabelClass,
    NetworkConfig,
    NetworkModel,
    head_changes,
    inherited_weights,
    require_classes,
)

from biosegment.errors import InvalidArgument
from tests.unit.trainer.learning.family import TINY_NETWORKS

A, B, C = LabelClass(2, "a"), LabelClass(3, "b"), LabelClass(4, "c")


def child_of(parent: NetworkModel, classes: tuple[LabelClass, ...]) -> NetworkModel:
    fresh = parent.network.build(len(classes)).state_dict()
    return NetworkModel(parent.network, classes, inherited_weights(parent, classes, fresh))


def answer(model: NetworkModel) -> torch.Tensor:
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits: torch.Tensor = model.build()(image)
    return logits


def test_the_default_network_has_its_1_6_million_weights_and_a_stride_of_16():
    config = NetworkConfig()
    assert sum(p.numel() for p in config.build(1).parameters()) == pytest.approx(1.6e6, rel=0.05)
    assert (config.stride, config.halo) == ((1, 16, 16), (0, 48, 48))


@pytest.mark.parametrize(
    "config", [NetworkConfig.unet((8, 16, 32), (2, 2), 1), NetworkConfig.unet((4, 8), (2,), 2)]
)
def test_no_pixel_beyond_the_receptive_radius_changes_the_answer_and_a_near_one_does(make_model, config):
    module = make_model(config).build()
    radius = config.receptive_radius[1]
    size = 16 * (radius // 8 + 2)
    image = torch.zeros(1, 1, size, size, requires_grad=True)
    # At every phase of the raster: a pixel's field depends on where it lies in it.
    reached = 0
    for phase in range(config.stride[1]):
        at = size // 2 + phase
        (slope,) = torch.autograd.grad(module(image)[0, :, at, at].sum(), image)
        rows = slope[0, 0].abs().sum(1).nonzero().flatten()
        reached = max(reached, int((rows - at).abs().max()))
    assert radius / 3 < reached <= radius


def test_a_child_with_the_same_classes_answers_as_its_parent(make_model):
    parent = make_model(classes=(A, B))
    assert torch.equal(answer(child_of(parent, (A, B))), answer(parent))


def test_a_new_class_starts_unlikely_beside_known_ones_and_unprejudiced_alone(make_model):
    parent = make_model(classes=(A, B))
    beside, alone = answer(child_of(parent, (A, C))), answer(child_of(parent, (C,)))
    assert beside[:, 2].mean() < -1
    assert alone[:, 1].mean() > -1


def test_a_class_that_is_written_in_capitals_is_the_same_class(make_model):
    parent = make_model(classes=(LabelClass(2, "mitochondria"),))
    child = child_of(parent, (LabelClass(5, "Mitochondria"),))
    torch.testing.assert_close(answer(child), answer(parent))
    assert head_changes(parent, child.classes) == ""


def test_a_child_with_its_classes_in_another_order_answers_in_that_order(make_model):
    parent = make_model(classes=(A, B))
    torch.testing.assert_close(answer(child_of(parent, (B, A))), answer(parent)[:, [0, 2, 1]])


def test_a_new_class_leaves_the_answers_for_the_known_ones_as_they_were(make_model):
    parent = make_model(classes=(A, B))
    found = answer(child_of(parent, (C, B, A)))
    torch.testing.assert_close(found[:, [0, 3, 2]], answer(parent))
    assert found[:, 1].std() > 0


def test_a_dropped_class_leaves_its_rows_behind_but_keeps_the_others(make_model):
    parent = make_model(classes=(A, B))
    child = child_of(parent, (B,))
    source, rows = (
        parent.weights["model.2.1.conv.unit0.conv.weight"],
        child.weights["model.2.1.conv.unit0.conv.weight"],
    )
    torch.testing.assert_close(rows, source[[0, 2]][:, [0, 2]])


def test_weights_of_another_network_are_refused(make_model):
    parent = make_model(classes=(A,))
    fresh = NetworkConfig.unet((8, 16, 48), (2, 2), 1).build(1).state_dict()
    with pytest.raises(InvalidArgument, match="not"):
        inherited_weights(parent, (A,), fresh)
    with pytest.raises(InvalidArgument, match="do not fit"):
        NetworkModel(NetworkConfig(), (A,), parent.weights).build()


@pytest.mark.parametrize(
    "config", [NetworkConfig(), NetworkConfig.unet((4, 8), (2,), 1, norm="instance", dropout=0.25)]
)
def test_a_configuration_survives_the_way_through_json(config):
    definition = json.loads(json.dumps(config.network_def(3)))
    assert NetworkConfig.from_network_def(definition) == (config, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"_target_": "subprocess.Popen"},
        {"_target_": "monai.networks.nets.ViT"},
        {"_target_": ["UNet"]},
        {"args": ["rm"]},
        {"channels": "$__import__('os').system('true')"},
        {"channels": [16, 10**9], "strides": [2]},
        {"norm": ["batch", {"device": "meta"}]},
        {"channels": [2048] * 8, "strides": [1] * 7, "kernel_size": 7},
        {"kernel_size": 2},
        {"out_channels": 0},
        {"spatial_dims": 4},
        {"strides": None},
    ],
)
def test_a_network_that_is_not_allowed_is_never_built(change):
    with pytest.raises(InvalidArgument):
        NetworkConfig.from_network_def(NetworkConfig().network_def(1) | change)


def test_a_definition_without_its_channels_is_refused():
    with pytest.raises(InvalidArgument, match="channels"):
        NetworkConfig.from_network_def({"_target_": "UNet", "norm": "batch", "spatial_dims": 2, "in_channels": 1,
                                        "out_channels": 2})  # fmt: skip


@pytest.mark.parametrize("classes", [(), (A, LabelClass(2, "x")), (A, LabelClass(7, "a"))])
def test_classes_must_exist_and_differ(classes):
    with pytest.raises(InvalidArgument):
        require_classes(classes)


@pytest.mark.parametrize("value", [-1, 1, 256])
def test_values_kept_for_background_and_the_unknown_are_no_classes(value):
    with pytest.raises(InvalidArgument):
        LabelClass(value, "x")


def _window(network: NetworkConfig, channels: int | None = None) -> torch.Tensor:
    edges = [2 * stride for stride in network.stride[-network.spatial_dims :]]
    return torch.randn(1, channels or network.input_slices, *edges)


@pytest.mark.parametrize("network", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
def test_every_family_builds_and_is_read_back_from_its_definition(network):
    definition = json.loads(json.dumps(network.network_def(2)))
    assert NetworkConfig.from_network_def(definition) == (network, 2)
    full = definition | {"_target_": f"monai.networks.nets.{network.family}"}
    assert NetworkConfig.from_network_def(full) == (network, 2)
    image = _window(network)
    with torch.inference_mode():
        assert network.build(2).eval()(image).shape == (1, 3, *image.shape[2:])
    assert all(halo % stride == 0 for halo, stride in zip(network.halo[1:], network.stride[1:], strict=True))


@pytest.mark.parametrize("network", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
def test_a_child_of_every_family_keeps_the_logits_of_the_classes_that_both_know(make_model, network):
    parent = make_model(network, (A, B))
    classes = (LabelClass(9, "b"), LabelClass(7, "new"), LabelClass(3, "a"))
    child = NetworkModel(network, classes, inherited_weights(parent, classes, network.build(3).state_dict()))
    image = _window(network)
    with torch.inference_mode():
        before, after = parent.build()(image), child.build()(image)
    # torch may sum another number of channels in another order.
    torch.testing.assert_close(after[:, [0, 3, 1]], before, rtol=1e-4, atol=1e-5)
    assert "['new'] new" in head_changes(parent, classes)
    assert head_changes(parent, (A, B)) == ""


@pytest.mark.parametrize("name", [name for name in TINY_NETWORKS if "3D" not in name])
def test_slices_that_the_parent_did_not_see_change_nothing_at_first(make_model, name):
    parent = make_model(dataclasses.replace(TINY_NETWORKS[name], input_slices=1), (A,))
    network = dataclasses.replace(parent.network, input_slices=5)
    grown = NetworkModel(network, (A,), inherited_weights(parent, (A,), network.build(1).state_dict()))
    image = _window(network)
    with torch.inference_mode():
        torch.testing.assert_close(grown.build()(image), parent.build()(image[:, 2:3]), rtol=1e-4, atol=1e-5)
        fresh = parent.network.build(1).state_dict()
        back = NetworkModel(parent.network, (A,), inherited_weights(grown, (A,), fresh))
        torch.testing.assert_close(
            back.build()(image[:, 2:3]), parent.build()(image[:, 2:3]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("network", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
def test_a_pretrained_parent_gives_all_but_its_head(make_model, network):
    parent = make_model(network, ())
    fresh = network.build(2).state_dict()
    child = inherited_weights(parent, (A, B), fresh)
    changed = {name for name in fresh if child[name].shape != parent.weights[name].shape}
    assert changed
    for name, tensor in child.items():
        if torch.equal(tensor, parent.weights[name]):
            continue
        assert torch.equal(tensor, fresh[name])
    assert "new" in head_changes(parent, (A, B))


def test_a_norm_that_measures_the_window_is_named():
    assert TINY_NETWORKS["SegResNet 3D"].has_window_norm
    assert TINY_NETWORKS["SwinUNETR 3D"].has_window_norm
    assert not TINY_NETWORKS["DynUNet 2D"].has_window_norm


def test_heads_for_deep_supervision_are_left_out_of_a_definition():
    network = TINY_NETWORKS["DynUNet 2D"]
    definition = network.network_def(1) | {"deep_supervision": True, "deep_supr_num": 1}
    assert NetworkConfig.from_network_def(definition) == (network, 1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("SegResNet 2D", {"init_filters": 10**6}),
        ("SegResNet 3D", {"init_filters": 256, "blocks_down": [8] * 6, "blocks_up": [8] * 5}),
        ("SegResNet 2D", {"use_conv_final": False}),
        ("SegResNet 2D", {"blocks_up": [1, 1]}),
        ("DynUNet 2D", {"strides": [2, 2, 2]}),
        ("DynUNet 2D", {"filters": [4, 8, 10**9]}),
        ("DynUNet 2D", {"norm_name": ["instance", {"device": "cuda"}]}),
        ("SwinUNETR 2D", {"window_size": 64}),
        ("SwinUNETR 2D", {"feature_size": 12 * 10**6}),
        ("SwinUNETR 2D", {"patch_size": 4}),
        ("SwinUNETR 2D", {"norm_layer": "$exec('raise SystemExit')"}),
        ("SwinUNETR 2D", {"downsample": {"_target_": "os.system"}}),
        ("UNet 3D", {"in_channels": 4}),
        ("UNet 2D", {"in_channels": 2}),
        ("UNet 2D", {"channels": [4.5, 8]}),
        ("UNet 2D", {"dropout": float("nan")}),
        ("UNet 2D", {"channels": [1e400, 8]}),
        ("UNet 2D", {"_disabled_": True}),
    ],
)
def test_arguments_out_of_bounds_are_refused_before_anything_is_built(name, change):
    with pytest.raises(InvalidArgument) as refused:
        NetworkConfig.from_network_def(TINY_NETWORKS[name].network_def(1) | change)
    assert refused.value.reason == "NETWORK_NOT_ALLOWED"
