"""Bundles that others made become ours: same answers, names, terms; and nothing in them runs."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import struct

import pytest
import torch
import yaml
from biosegment_trainer.learning.bundle import ModelBundle, read_bundle, write_bundle
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.registry.bundle_check import matched, remarks_on
from biosegment_trainer.registry.foreign import distinct

from biosegment.errors import BiosegmentError, InvalidArgument, NotFound
from tests.unit.trainer.learning.conftest import untrained
from tests.unit.trainer.learning.family import TINY_NETWORKS
from tests.unit.trainer.registry.zoo import built, checked, read, window, write_zoo_bundle

FOREIGN = {name: network for name, network in TINY_NETWORKS.items() if "2.5D" not in name}
LIGHT = {name: network for name, network in FOREIGN.items() if name != "SwinUNETR 3D"}
UNET = TINY_NETWORKS["UNet 2D"]


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, ".json") for name in FOREIGN), ("UNet 2D", ".yaml"), ("UNet 3D", ".yml")]
)
def test_a_bundle_of_the_zoo_answers_as_before(tmp_path, name, suffix):
    network = FOREIGN[name]
    module, definition = built(network, 1, 2)
    write_zoo_bundle(tmp_path, definition, module.state_dict(), suffix=suffix)
    found = read(tmp_path)
    assert found.bundle.model.classes == (LabelClass(0, "spleen"),)
    assert found.bundle.working_resolution_nm == 10.0
    assert "pixel size is not known" in " ".join(found.remarks)
    image = window(network)
    with torch.inference_mode():
        assert torch.equal(found.bundle.model.build()(image), module(image))
    assert found.bundle.data_license == (
        "Scans: CC BY-SA 4.0, see their page; the bundle's own licence: Apache License Version 2.0"
    )
    write_bundle(found.bundle, tmp_path / "ours")
    again = read_bundle(tmp_path / "ours")
    assert (again.name, again.version, again.data_license) == (
        "Spleen segmentation", "0.5.2", found.bundle.data_license,
    )  # fmt: skip
    assert (tmp_path / "ours/docs/data_license.txt").read_text() == "Scans: CC BY-SA 4.0; see their page"
    assert (tmp_path / "ours/LICENSE").read_text().startswith("Apache License")
    assert "$" not in json.dumps(
        json.loads((tmp_path / "ours/configs/inference.json").read_text())["network_def"]
    )


@pytest.mark.parametrize("network", LIGHT.values(), ids=LIGHT)
def test_several_input_channels_become_one_that_all_see(tmp_path, network):
    module, definition = built(network, 3, 2)
    write_zoo_bundle(tmp_path, definition, module.state_dict())
    found = read(tmp_path)
    image = window(network)
    with torch.inference_mode():
        torch.testing.assert_close(
            found.bundle.model.build()(image), module(image.repeat_interleave(3, 1)), rtol=1e-3, atol=1e-4
        )
    assert "3 input channels" in found.remarks[0]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("network", LIGHT.values(), ids=LIGHT)
def test_classes_without_a_background_get_one_beside_them(tmp_path, network, outputs):
    module, definition = built(network, 1, outputs)
    names = {str(i): f"class {i}" for i in range(outputs)}
    write_zoo_bundle(tmp_path, definition, module.state_dict(), channels=names)
    model = read(tmp_path).bundle.model
    assert [item.name for item in model.classes] == list(names.values())
    image = window(network)
    with torch.inference_mode():
        logits, before = model.build()(image), module(image)
    torch.testing.assert_close(logits[:, 1:], before, rtol=1e-4, atol=1e-5)
    assert not logits[:, 0].any()
    if outputs == 1:
        torch.testing.assert_close(
            torch.softmax(logits, 1)[:, 1:], torch.sigmoid(before), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "groups", [["group", {"num_groups": 1}], ["group", {"num_groups": 3, "affine": False}]]
)
def test_a_head_whose_channels_are_measured_together_gets_no_background(tmp_path, groups):
    """It would answer otherwise than before, or could not even be built."""
    network = UNET.with_arguments(norm=groups, channels=[6, 12], num_res_units=1)
    module, definition = built(network, 1, 3)
    names = {str(i): f"class {i}" for i in range(3)}
    write_zoo_bundle(tmp_path, definition, module.state_dict(), channels=names)
    with pytest.raises(
        InvalidArgument, match="its answers would change; train it with a background"
    ) as caught:
        read(tmp_path)
    assert caught.value.reason == "NETWORK_NOT_ALLOWED"
    # One that has a background stays as it is, and so do heads without such a norm.
    write_zoo_bundle(tmp_path, definition, module.state_dict(), channels={**names, "0": "background"})
    image = window(network)
    with torch.inference_mode():
        assert torch.equal(read(tmp_path).bundle.model.build()(image), module(image))
    plain = network.with_arguments(num_res_units=0)
    module, definition = built(plain, 1, 3)
    write_zoo_bundle(tmp_path, definition, module.state_dict(), channels=names)
    with torch.inference_mode():
        torch.testing.assert_close(read(tmp_path).bundle.model.build()(image)[:, 1:], module(image))


@pytest.mark.parametrize("wrap", ["model", "state_dict", "module.", "net.model."])
def test_weights_are_found_in_what_trainers_wrap_them(tmp_path, wrap):
    module, definition = built(UNET, 1, 2)
    weights = module.state_dict()
    if wrap.endswith("."):
        content = {wrap + name: tensor for name, tensor in weights.items()}
    else:
        content = {"epoch": 3, wrap: weights}
    write_zoo_bundle(tmp_path, definition, content)
    image = window(UNET)
    with torch.inference_mode():
        assert torch.equal(read(tmp_path).bundle.model.build()(image), module(image))


def test_weights_in_safetensors_and_in_half_precision_are_read(tmp_path):
    module, definition = built(UNET, 1, 2)
    half = {name: t.half() if t.is_floating_point() else t for name, t in module.state_dict().items()}
    write_zoo_bundle(tmp_path, definition, half, file="models/model.safetensors")
    weights = read(tmp_path).bundle.model.weights
    assert all(t.dtype == torch.float32 for t in weights.values() if t.is_floating_point())


def test_heads_for_deep_supervision_are_left_behind(tmp_path):
    network = TINY_NETWORKS["DynUNet 2D"]
    module, definition = built(network, 1, 2, deep_supervision=True, deep_supr_num=1)
    assert any(name.startswith("deep_supervision_heads") for name in module.state_dict())
    write_zoo_bundle(tmp_path, definition, module.state_dict())
    image = window(network)
    with torch.inference_mode():
        assert torch.equal(read(tmp_path).bundle.model.build()(image), module(image))


def test_references_to_literals_are_followed_and_the_definition_may_be_called_network(tmp_path):
    module, definition = built(UNET, 1, 2)
    definition |= {"channels": "@sizes::wide", "out_channels": "@count", "norm": "@net_norm"}
    extra = {"sizes": {"wide": definition_channels(UNET)}, "count": "@other", "other": 2, "net_norm": "BATCH",
             "network": definition}  # fmt: skip
    folder = write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    path = folder / "configs/inference.json"
    configuration = json.loads(path.read_text())
    del configuration["network_def"]
    path.write_text(json.dumps(configuration))
    assert read(folder).bundle.model.network == UNET


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_metadata_may_be_yaml(tmp_path, suffix):
    module, definition = built(UNET, 1, 2)
    folder = write_zoo_bundle(tmp_path, definition, module.state_dict())
    path = folder / "configs/metadata.json"
    path.with_suffix(suffix).write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()
    assert read(folder).bundle.version == "0.5.2"


def definition_channels(network):
    return list(network.arguments["channels"])


def test_our_own_bundle_comes_back_with_its_texts(tmp_path):
    bundle = ModelBundle("mine", "1.0.0", untrained(UNET), 9.0, data_license="research, non-commercial")
    write_bundle(bundle, tmp_path)
    found = read(tmp_path)
    assert found.remarks == ()
    assert "research, non-commercial" in found.bundle.texts["LICENSE"]
    assert dataclasses.replace(found.bundle, texts={}).data_license == bundle.data_license


def test_classes_are_matched_by_name_whatever_their_case():
    project = {"mitochondria": 2, "membrane": 3}
    assert matched(["Mitochondria", "spleen"], project) == [(2, "mitochondria"), (0, "spleen")]
    assert "fine-tune it first" in remarks_on([(0, "spleen")])[0]
    assert "count as background" in remarks_on([(2, "a"), (0, "b")])[0]
    assert remarks_on([(2, "a")]) == []


def test_classes_that_differ_in_case_alone_stay_apart(tmp_path):
    names = ["Membrane", "membrane", "membrane (2)", "MEMBRANE"]
    assert distinct(names) == ["Membrane", "membrane (3)", "membrane (2)", "MEMBRANE (4)"]
    module, definition = built(UNET, 1, 3)
    channels = {"0": "background", "1": "Membrane", "2": "membrane"}
    write_zoo_bundle(tmp_path / "zoo", definition, module.state_dict(), channels=channels)
    assert checked(tmp_path)["classes"] == [(3, "membrane"), (0, "membrane (2)")]
    # Bundles that say they are ours, too.
    model = untrained(UNET, (LabelClass(2, "Membrane"), LabelClass(3, "membrane")))
    shutil.rmtree(tmp_path / "zoo")
    write_bundle(ModelBundle("mine", "1.0.0", model, 9.0), tmp_path / "zoo")
    assert checked(tmp_path)["classes"] == [(3, "membrane"), (0, "membrane (2)")]
    assert [item.name for item in read_bundle(tmp_path / "ours").model.classes] == [
        "membrane", "membrane (2)",
    ]  # fmt: skip


def test_all_terms_reach_the_children_of_a_foreign_bundle(tmp_path):
    module, definition = built(UNET, 1, 2)
    zoo = write_zoo_bundle(
        tmp_path / "zoo", definition, module.state_dict(), metadata={"data_license": "CC0; see paper"}
    )
    data = " ".join(f"data{i}" for i in range(500))
    licence = " ".join(f"licence{i}" for i in range(800))
    (zoo / "docs/data_license.txt").write_text(data.replace(" ", "\n"))
    (zoo / "LICENSE").write_text(licence)
    terms = checked(tmp_path)["data_license"]
    assert terms == f"CC0; see paper; {data}; the bundle's own licence: {licence}"
    parent = read_bundle(tmp_path / "ours")
    assert parent.data_license == terms
    child = ModelBundle("child", "1.0.0", parent.model, 8.0, data_license=parent.data_license)
    write_bundle(child, tmp_path / "child")
    written = (tmp_path / "child/docs/data_license.txt").read_text()
    assert all(f"- {term}\n" in written for term in terms.split("; "))
    (zoo / "LICENSE").write_text("word " * 10_000)
    cut = checked(tmp_path)["data_license"]
    assert len(cut) == 20_000
    assert cut.endswith("see where the bundle is from)")


def test_terms_that_people_wrote_into_our_bundle_are_taken(tmp_path):
    write_bundle(ModelBundle("mine", "1.0.0", untrained(UNET), 9.0), tmp_path)
    assert read(tmp_path).bundle.data_license == ""
    (tmp_path / "LICENSE").write_text("CC BY 4.0;\ncite us")
    assert read(tmp_path).bundle.data_license == "the bundle's own licence: CC BY 4.0, cite us"


def test_a_foreign_readme_warns_of_seams_where_there_may_be_some(tmp_path):
    for number, name in enumerate(("UNet 2D", "UNet without residual units")):
        module, definition = built(TINY_NETWORKS[name], 1, 2)
        zoo = write_zoo_bundle(tmp_path / str(number), definition, module.state_dict())
        write_bundle(read(zoo).bundle, tmp_path / "ours")
        text = (tmp_path / "ours/docs/README.md").read_text()
        assert text.startswith("# Spleen\n\nBy somebody.")
        assert text.count("may show seams") == number
    # Once, however often it goes out and in.
    write_bundle(read(tmp_path / "ours").bundle, tmp_path / "again")
    assert (tmp_path / "again/docs/README.md").read_text() == text


# ---- hostile ones ----


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


EXPRESSION = "$open('{}', 'w').close() or 2"
PLACES = ["out_channels", "norm", "channels", "_target_", "_requires_", "dropout"]


def refused(folder, trusted=False):
    with pytest.raises(BiosegmentError) as caught:
        read(folder, trusted)
    assert isinstance(caught.value, InvalidArgument | NotFound), caught.value
    return caught.value.reason


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nested", [False, True])
def test_no_expression_is_evaluated_unless_the_bundle_is_trusted(tmp_path, place, nested):
    owned = tmp_path / "owned"
    module, definition = built(UNET, 1, 2)
    expression = EXPRESSION.format(owned)
    definition[place] = [{"deep": [expression]}] if nested else expression
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra={"imports": [expression]})
    assert refused(tmp_path) == "BUNDLE_NOT_TRUSTED"
    assert not owned.exists()


def test_a_reference_to_an_expression_is_no_way_around(tmp_path):
    owned = tmp_path / "owned"
    module, definition = built(UNET, 1, 2)
    definition["out_channels"] = "@count"
    extra = {"count": "@far", "far": EXPRESSION.format(owned)}
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    assert refused(tmp_path) == "BUNDLE_NOT_TRUSTED"
    assert not owned.exists()


def test_expressions_of_a_trusted_bundle_are_evaluated_and_their_values_checked(tmp_path):
    module, definition = built(UNET, 1, 2)
    channels = definition_channels(UNET)
    definition |= {"channels": "$[@width * 2**i for i in range(2)]", "out_channels": "$int(math.sqrt(4))"}
    extra = {"width": channels[0], "imports": ["$import not_installed", "$import math"]}
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    assert refused(tmp_path) == "BUNDLE_NOT_TRUSTED"
    assert read(tmp_path, trusted=True).bundle.model.network == UNET
    definition["out_channels"] = "$10**9"
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    assert refused(tmp_path, trusted=True) == "NETWORK_NOT_ALLOWED"
    definition["out_channels"] = "$object()"
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    assert refused(tmp_path, trusted=True) == "BAD_BUNDLE"
    definition["_target_"] = "$'subprocess.Popen'"
    write_zoo_bundle(tmp_path, definition, module.state_dict(), extra=extra)
    assert refused(tmp_path, trusted=True) in ("NETWORK_NOT_ALLOWED", "BAD_BUNDLE")


@pytest.mark.parametrize(
    "change",
    [
        {"_target_": "builtins.exec", "object": "raise SystemExit"},
        {"_target_": "monai.networks.nets.UNet.__init__"},
        {"norm": {"_target_": "os.system", "command": "true"}},
        {"channels": "@network_def#channels"},
        {"channels": "%configs/train.json#channels"},
        {"channels": "@nowhere"},
        {"channels": [10**12, 8]},
        {"out_channels": 10**12},
        {"in_channels": 10**12},
        {"in_channels": "3"},
    ],
)
def test_definitions_that_could_do_harm_are_refused(tmp_path, change):
    module, definition = built(UNET, 1, 2)
    write_zoo_bundle(tmp_path, definition | change, module.state_dict())
    assert refused(tmp_path) in ("NETWORK_NOT_ALLOWED", "BAD_BUNDLE")


def test_code_in_a_pickle_is_not_run(tmp_path):
    owned = tmp_path / "owned"
    _, definition = built(UNET, 1, 2)
    for protocol in (0, 2, 4):
        data = pickle.dumps({"model": Bomb(owned)}, protocol=protocol)
        write_zoo_bundle(tmp_path, definition, data)
        assert refused(tmp_path) == "BAD_WEIGHTS"
    torch.save({"model": {"model.0": Bomb(owned)}}, tmp_path / "models/model.pt")
    assert refused(tmp_path) == "BAD_WEIGHTS"
    # A TorchScript archive is code, and is not even looked at.
    (tmp_path / "models/model.pt").rename(tmp_path / "models/model.ts")
    assert refused(tmp_path) == "BUNDLE_FILE_MISSING"
    assert not owned.exists()


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}},
        {"a": {"dtype": "EVIL", "shape": [1], "data_offsets": [0, 4]}},
        None,
    ],
)
def test_safetensors_with_lying_headers_are_refused(tmp_path, header):
    _, definition = built(UNET, 1, 2)
    text = json.dumps(header).encode() if header else b"{"
    size = len(text) if header else 2**60
    data = struct.pack("<Q", size) + text + bytes(4)
    write_zoo_bundle(tmp_path, definition, data, file="models/model.safetensors")
    assert refused(tmp_path) == "BAD_WEIGHTS"


@pytest.mark.parametrize(
    "text",
    [
        "network_def: !!python/object/apply:os.system ['touch {owned}']",
        "network_def: !!python/name:os.system",
        "network_def: !evil {{a: 1}}",
        "a: &a [1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c]\n"
        "network_def: {{_target_: UNet, channels: [*d,*d,*d,*d,*d]}}",
        "network_def: &loop {{_target_: UNet, channels: *loop}}",
        "network_def: {{_target_: UNet, channels: " + "[" * 5000,
        "- a list",
    ],
)
def test_yaml_is_data_only(tmp_path, text):
    owned = tmp_path / "owned"
    module, definition = built(UNET, 1, 2)
    write_zoo_bundle(tmp_path, definition, module.state_dict(), suffix=".yaml")
    (tmp_path / "configs/inference.yaml").write_text(text.format(owned=owned))
    assert refused(tmp_path) in ("BAD_BUNDLE", "NETWORK_NOT_ALLOWED")
    assert not owned.exists()


def test_weights_that_do_not_fit_are_refused_with_their_names(tmp_path):
    module, definition = built(UNET, 1, 2)
    weights = dict(module.state_dict())
    first = next(iter(weights))
    write_zoo_bundle(tmp_path, definition, {**weights, "extra": torch.zeros(1)})
    assert refused(tmp_path) == "BAD_WEIGHTS"
    write_zoo_bundle(tmp_path, definition, {**weights, first: torch.zeros(1)})
    with pytest.raises(InvalidArgument, match=first):
        read(tmp_path)
    write_zoo_bundle(tmp_path, definition, {**weights, first: weights[first].to_sparse()})
    assert refused(tmp_path) == "BAD_WEIGHTS"
    write_zoo_bundle(tmp_path, definition, {**weights, first: weights[first].to("meta")})
    assert refused(tmp_path) == "BAD_WEIGHTS"
