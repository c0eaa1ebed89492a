"""Packages of bioimage.io: what is done to images and answers is followed, or said."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from biosegment_trainer.learning.bundle import read_bundle, write_bundle
from biosegment_trainer.registry.bioimage import read_package

from biosegment.errors import InvalidArgument
from tests.unit.trainer.learning.family import TINY_NETWORKS
from tests.unit.trainer.registry.zoo import built, checked

UNET = TINY_NETWORKS["UNet 2D"]
NORMALISED = {
    5: {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}},
    4: {"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "xy"}},
}
WORDS = {"b": "batch", "c": "channel", "t": "time"}


def axes(order, version, names=()):
    """Axes as the formats 0.4 and 0.5 have them."""
    if version == 4:
        return order
    found = [
        {"type": WORDS[letter]} if letter in WORDS else {"type": "space", "id": letter} for letter in order
    ]
    return [axis | {"channel_names": names} if axis["type"] == "channel" else axis for axis in found]


def read(folder, version=5, *, network=UNET, outputs=2, order="bcyx", answered=None, before=None, after=None,
         names=("background", "mitochondria"), **changes):  # fmt: skip
    """A package of such a network, read, and the network."""
    module, definition = built(network, 1, outputs, **changes)
    kwargs = {key: value for key, value in definition.items() if key != "_target_"}
    folder.mkdir(exist_ok=True)
    torch.save(module.state_dict(), folder / "w.pt")
    source = {"import_from": "monai.networks.nets", "callable": network.family, "kwargs": kwargs}
    entry = {"source": "w.pt", "architecture": source}
    if version == 4:
        entry |= {"architecture": f"monai.networks.nets.{network.family}", "kwargs": kwargs}
    before = [NORMALISED[version]] if before is None else before
    content = {
        "format_version": f"0.{version}.0",
        "name": "x",
        "inputs": [{"axes": axes(order, version), "preprocessing": before}],
        "outputs": [
            {"axes": axes(answered or order, version, list(names)), "postprocessing": after}
            | ({"name": "o"} if version == 4 else {"id": "o"})
        ],
        "weights": {"pytorch_state_dict": entry},
    }
    (folder / "rdf.yaml").write_text(yaml.safe_dump(content))
    return read_package(folder, fallback_resolution_nm=8.0), module


SOFTMAX = [{"id": "softmax", "kwargs": {"axis": "channel"}}]
SIZE = "its pixel size is not known; the project's 8 nm is assumed"


@pytest.mark.parametrize(
    "before",
    [
        [NORMALISED[5]],
        [NORMALISED[5], {"id": "clip", "kwargs": {"min": -5, "max": 5.0}}, {"id": "ensure_dtype"}],
        [{"id": "zero_mean_unit_variance"}],
        [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["batch", "channel", "y", "x"]}}],
    ],
)
def test_what_we_do_ourselves_needs_no_remark(tmp_path, before):
    found, _ = read(tmp_path / "p", before=before, after=SOFTMAX)
    assert found.remarks == (SIZE,)


@pytest.mark.parametrize(
    ("version", "before", "names"),
    [
        (5, [{"id": "scale_range", "kwargs": {"min_percentile": 1}}], "scale_range"),
        (4, [{"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "xy"}}], "scale_range"),
        (5, [{"id": "scale_linear"}, {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 1, "std": 2}}],
         "scale_linear, fixed_zero_mean_unit_variance"),
        (4, [{"name": "zero_mean_unit_variance", "kwargs": {"mode": "fixed", "mean": 1, "std": 2, "axes": "xy"}}],
         "zero_mean_unit_variance"),
        (4, [{"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_dataset", "axes": "xy"}}],
         "zero_mean_unit_variance"),
        (5, [{"id": "clip", "kwargs": {"min": 0, "max": 255}}, NORMALISED[5]], "clip"),
        (5, [NORMALISED[5], {"id": "clip", "kwargs": {"min": 0, "max": "five"}}], "clip"),
        (5, [{"id": "evil\ud800\x1b[1m"}, "?", {"kwargs": 5}], "evil???1m, unknown"),
    ],
)  # fmt: skip
def test_scaling_of_grey_values_that_is_left_out_is_said(tmp_path, version, before, names):
    found, _ = read(tmp_path / "p", version, before=before, after=SOFTMAX)
    (remark,) = [remark for remark in found.remarks if "grey values" in remark]
    assert f"({names}) is left out: each slice is brought to mean 0" in remark
    assert "fine-tune it first" in remark


def test_the_mean_of_a_volume_is_not_that_of_a_slice(tmp_path):
    step = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["z", "y", "x"]}}
    for number, before in enumerate(([step], [{"id": "zero_mean_unit_variance"}])):
        found, _ = read(
            tmp_path / str(number), network=TINY_NETWORKS["UNet 3D"], order="bczyx", before=before
        )
        assert "(zero_mean_unit_variance) is left out" in " ".join(found.remarks)


def test_a_network_of_raw_grey_values_is_said(tmp_path):
    for number, before in enumerate(([], [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}])):
        found, _ = read(tmp_path / str(number), before=before, after=SOFTMAX)
        assert "trained on grey values as they are: each slice is brought to mean 0" in found.remarks[0]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("name", "order", "changes"),
    [
        ("UNet 2D", "bcxy", {"strides": [[2, 1]], "kernel_size": [3, 5]}),
        ("UNet 3D", "bcxyz", {"strides": [[2, 2, 1], 2], "kernel_size": [3, 5, 1], "up_kernel_size": [3, 3, 1]}),
        ("SegResNet 3D", "bcyzx", {"upsample_mode": "deconv"}),
    ],
)  # fmt: skip
def test_a_network_for_other_axes_answers_as_before_to_the_image_with_ours(
    tmp_path, version, name, order, changes
):
    network = TINY_NETWORKS[name]
    found, module = read(tmp_path / "p", version, network=network, order=order, after=SOFTMAX, **changes)
    places = (0, 1, *(order.index(axis) for axis in "zyx" if axis in order))
    theirs = torch.randn(1, 1, *(16, 24, 32)[: network.spatial_dims])
    with torch.inference_mode():
        answer, before = found.bundle.model.build()(theirs.permute(places)), module(theirs)
    torch.testing.assert_close(answer, before.permute(places), rtol=1e-4, atol=1e-5)
    assert f"its axes are {', '.join(order[2:])}: its kernels and strides were turned" in " ".join(
        found.remarks
    )
    write_bundle(found.bundle, tmp_path / "ours")
    assert read_bundle(tmp_path / "ours").model.network == found.bundle.model.network


def test_axes_that_cannot_be_turned_or_are_not_named_are_said(tmp_path):
    found, _ = read(tmp_path / "a", network=TINY_NETWORKS["SwinUNETR 2D"], order="bcxy")
    (remark,) = [remark for remark in found.remarks if "its axes are x, y" in remark]
    assert "cannot be turned" in remark
    found, _ = read(tmp_path / "b", network=UNET, order="", answered="", kernel_size=[3, 5])
    assert "they were taken for y, x" in " ".join(found.remarks)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("order", "answered", "message"),
    [
        ("byxc", None, "input has the axes batch, y, x, channel; its network takes batch, channel, and y, x"),
        ("bczyx", None, "input has the axes batch, channel, z, y, x"),
        ("bcty", None, "input has the axes batch, channel, time, y"),
        ("bczx", None, "input has the axes batch, channel, z, x"),
        ("bcyx", "bcxy", "input has the axes y, x, its output x, y"),
    ],
)
def test_axes_that_the_network_cannot_have_are_refused(tmp_path, version, order, answered, message):
    with pytest.raises(InvalidArgument, match=message) as error:
        read(tmp_path / "p", version, order=order, answered=answered)
    assert error.value.reason == "BAD_BUNDLE"
    assert "correct the description" in str(error.value)


@pytest.mark.parametrize(
    ("outputs", "after", "message"),
    [
        (2, SOFTMAX, ""),
        (2, [*SOFTMAX, {"id": "ensure_dtype"}], ""),
        (2, [{"id": "sigmoid"}], r"independent of each other \(sigmoid\) and may overlap: a softmax"),
        (2, [], "does not say what makes probabilities"),
        (2, None, "does not say what makes probabilities"),
        (2, [{"id": "sigmoid"}, {"id": "binarize"}], r"answers \(sigmoid, binarize\) is left out: a softmax"),
        (1, [{"id": "sigmoid"}], ""),
        (1, SOFTMAX, r"answers \(softmax\) is left out"),
    ],
)
def test_what_makes_probabilities_is_followed_or_said(tmp_path, outputs, after, message):
    names = ("background", "mitochondria")[-outputs:]
    found, module = read(tmp_path / "p", outputs=outputs, after=after, names=names)
    said = [remark for remark in found.remarks if "softmax" in remark]
    assert len(said) == bool(message)
    assert all(re.search(message, remark) for remark in said)
    assert [item.name for item in found.bundle.model.classes] == ["mitochondria"]
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        answer, before = found.bundle.model.build()(image), module(image)
    wanted = torch.softmax(before, 1)[:, 1:] if outputs == 2 else torch.sigmoid(before)
    torch.testing.assert_close(torch.softmax(answer, 1)[:, 1:], wanted, rtol=1e-4, atol=1e-5)


def test_independent_channels_without_names_are_classes(tmp_path):
    found, _ = read(tmp_path / "a", 4, after=[{"name": "sigmoid"}])
    assert [item.name for item in found.bundle.model.classes] == ["channel 0", "channel 1"]
    found, _ = read(tmp_path / "b", 4)
    assert [item.name for item in found.bundle.model.classes] == ["channel 1"]


def test_the_remarks_of_a_package_reach_who_imports_it(tmp_path):
    read(tmp_path / "zoo", order="bcxy", before=[{"id": "scale_range"}], after=[{"id": "sigmoid"}])
    shown = " ".join(checked(tmp_path)["remarks"])
    for part in ("its axes are x, y", "(scale_range) is left out", "(sigmoid) and may overlap"):
        assert part in shown
