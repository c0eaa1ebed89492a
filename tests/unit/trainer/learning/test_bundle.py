from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.bundle import (
    ModelBundle,
    ModelLineage,
    joined_terms,
    read_bundle,
    write_bundle,
)
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from monai.bundle import ConfigParser, ckpt_export, onnx_export, verify_net_in_out

from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.unit.trainer.learning.family import TINY_NETWORKS

CLASSES = (LabelClass(2, "mitochondria"), LabelClass(4, "membrane"))


@pytest.fixture
def bundle(make_model):
    lineage = ModelLineage(
        "models/p", ("a1", "a2"), {"steps": 200, "network": {"norm": "batch"}}, {"iou": 0.5}
    )
    return ModelBundle("mito", "1.2.0", make_model(classes=CLASSES), 10.0, lineage)


@pytest.fixture
def folder(bundle, tmp_path):
    write_bundle(bundle, tmp_path)
    return tmp_path


def test_a_bundle_comes_back_as_it_was_written(bundle, folder):
    found = read_bundle(folder)
    assert (found.name, found.version, found.working_resolution_nm) == ("mito", "1.2.0", 10.0)
    assert found.lineage == bundle.lineage
    assert (found.model.network, found.model.classes) == (bundle.model.network, CLASSES)
    assert all(torch.equal(found.model.weights[n], t) for n, t in bundle.model.weights.items())


def test_the_same_weights_make_the_same_file(bundle, folder, tmp_path):
    module = bundle.model.network.build(len(CLASSES))
    module.load_state_dict(bundle.model.weights)
    for number, weights in enumerate((module.state_dict(), read_bundle(folder).model.weights)):
        model = dataclasses.replace(bundle.model, weights=weights)
        write_bundle(dataclasses.replace(bundle, model=model), tmp_path / str(number))
        written = (tmp_path / str(number) / "models/model.pt").read_bytes()
        assert written == (folder / "models/model.pt").read_bytes()


def test_it_has_the_files_and_fields_that_monai_expects(folder):
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "LICENSE",
        "docs/README.md",
        "docs/data_license.txt",
        "configs/metadata.json",
        "configs/inference.json",
        "models/model.pt",
    }
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    assert {"version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description",
            "authors", "copyright", "network_data_format"} <= set(metadata)  # fmt: skip
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert output["num_channels"] == 3
    assert output["channel_def"] == {"0": "background", "1": "mitochondria", "2": "membrane"}
    assert "not known" in (folder / "LICENSE").read_text()


def test_monai_itself_builds_and_loads_the_network_from_the_configuration(bundle, folder):
    parser = ConfigParser()
    parser.read_config(str(folder / "configs/inference.json"))
    parser["bundle_root"], parser["device"] = str(folder), "cpu"
    network = parser.get_parsed_content("network")
    parser.get_parsed_content("load")
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network.eval()(image), bundle.model.build()(image))


class Surprise:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_in_place_of_weights_is_refused_and_does_not_run(folder):
    (folder / "models/model.pt").write_bytes(pickle.dumps({"weights": Surprise()}, protocol=2))
    with pytest.raises(InvalidArgument, match="state dict"):
        read_bundle(folder)


def test_weights_that_are_no_tensors_or_do_not_fit_are_refused(bundle, folder):
    torch.save({"model": {"a": 1}}, folder / "models/model.pt")
    with pytest.raises(InvalidArgument, match="state dict"):
        read_bundle(folder)
    torch.save(dict(list(bundle.model.weights.items())[1:]), folder / "models/model.pt")
    with pytest.raises(InvalidArgument, match="do not fit"):
        read_bundle(folder)


def test_a_network_outside_the_allow_list_is_refused(folder):
    path = folder / "configs/inference.json"
    config = json.loads(path.read_text())
    config["network_def"] = {"_target_": "os.system", "command": "true"}
    path.write_text(json.dumps(config))
    with pytest.raises(InvalidArgument, match="not allowed"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["configs/metadata.json", "configs/inference.json", "models/model.pt"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(NotFound, match=name.split("/")[1]):
        read_bundle(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"network_data_format": 3}'])
def test_metadata_that_say_nothing_are_refused(folder, content):
    (folder / "configs/metadata.json").write_text(content)
    with pytest.raises(InvalidArgument):
        read_bundle(folder)


@pytest.mark.parametrize("network", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
def test_monai_verifies_what_we_write_for_every_family(make_model, tmp_path, network):
    write_bundle(ModelBundle("any", "1.0.0", make_model(network, CLASSES), 10.0), tmp_path)
    assert read_bundle(tmp_path).model.network == network
    meta, config = str(tmp_path / "configs/metadata.json"), str(tmp_path / "configs/inference.json")
    verify_net_in_out("network_def", meta_file=meta, config_file=config, device="cpu")


CHECK_PROPERTIES = """
import sys
from monai.bundle import ConfigWorkflow
for folder in sys.argv[1:]:
    config, meta = f"{folder}/configs/inference.json", f"{folder}/configs/metadata.json"
    workflow = ConfigWorkflow(config, meta, logging_file=False, workflow_type="infer", bundle_root=folder)
    workflow.initialize()
    print(workflow.check_properties())
"""


@pytest.mark.timeout(300)
def test_monai_finds_all_properties_of_an_inference_workflow(make_model, tmp_path):
    # In a process of its own: ignite, which runs the workflow, warns of much when it is imported.
    for number, network in enumerate(TINY_NETWORKS.values()):
        write_bundle(ModelBundle("any", "1.0.0", make_model(network, CLASSES), 10.0), tmp_path / str(number))
    folders = [str(folder) for folder in tmp_path.iterdir()]
    command = [sys.executable, "-W", "ignore", "-c", CHECK_PROPERTIES, *folders]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line for line in output.splitlines() if line.startswith("[")] == ["[]"] * len(TINY_NETWORKS)


# torch cannot write a script of Swin's forward, with MONAI's own bundles either.
@pytest.mark.parametrize("name", [name for name in TINY_NETWORKS if "Swin" not in name])
@pytest.mark.filterwarnings("ignore")
def test_monai_exports_a_checkpoint_of_what_we_write(make_model, tmp_path, name):
    write_bundle(ModelBundle("any", "1.0.0", make_model(TINY_NETWORKS[name], CLASSES), 10.0), tmp_path)
    target = tmp_path / "models/model.ts"
    ckpt_export(
        "network_def",
        filepath=str(target),
        ckpt_file=str(tmp_path / "models/model.pt"),
        meta_file=str(tmp_path / "configs/metadata.json"),
        config_file=str(tmp_path / "configs/inference.json"),
    )
    assert target.stat().st_size > 0


@pytest.mark.system
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["UNet 2D", "UNet 3D", "SegResNet 3D", "DynUNet 2D"])
@pytest.mark.filterwarnings("ignore")
def test_monai_exports_onnx_of_what_we_write(make_model, tmp_path, name):
    write_bundle(ModelBundle("any", "1.0.0", make_model(TINY_NETWORKS[name], CLASSES), 10.0), tmp_path)
    onnx_export(
        "network_def",
        filepath=str(tmp_path / "models/model.onnx"),
        ckpt_file=str(tmp_path / "models/model.pt"),
        meta_file=str(tmp_path / "configs/metadata.json"),
        config_file=str(tmp_path / "configs/inference.json"),
    )
    assert (tmp_path / "models/model.onnx").stat().st_size > 0


@pytest.mark.parametrize("slices", [1, 3])
def test_the_written_preprocessing_is_our_normalisation(make_model, tmp_path, slices):
    network = dataclasses.replace(TINY_NETWORKS["UNet 2D"], input_slices=slices)
    write_bundle(ModelBundle("any", "1.0.0", make_model(network, CLASSES), 10.0), tmp_path)
    raw = np.random.default_rng(0).normal(100, 20, (slices, 16, 16)).astype(np.float32)
    raw[0, 0, 0] = 10_000
    np.save(tmp_path / "image.npy", raw if slices > 1 else raw[0])
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "configs/inference.json"))
    found = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "image.npy")})["image"]
    np.testing.assert_allclose(
        np.asarray(found), normalise(raw, SliceStatistics.of_slices(raw)), rtol=1e-4, atol=1e-4
    )


def test_terms_of_the_data_are_written_wherever_people_look(bundle, tmp_path):
    terms = joined_terms("research, non-commercial", "", "CC BY-NC-SA 4.0; research, non-commercial")
    assert terms == "research, non-commercial; CC BY-NC-SA 4.0"
    write_bundle(dataclasses.replace(bundle, data_license=terms), tmp_path)
    assert read_bundle(tmp_path).data_license == terms
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/metadata.json"):
        assert all(term in (tmp_path / name).read_text() for term in terms.split("; "))


def test_a_pretrained_model_has_no_class_and_a_foreign_class_no_value(make_model, tmp_path):
    pretrained = make_model(classes=())
    foreign = make_model(classes=(LabelClass(0, "spleen"), LabelClass(0, "liver")))
    for number, model in enumerate((pretrained, foreign)):
        write_bundle(ModelBundle("any", "1.0.0", model, 10.0), tmp_path / str(number))
        found = read_bundle(tmp_path / str(number)).model
        assert found.classes == model.classes
        with pytest.raises(FailedPrecondition) as refused:
            found.require_usable()
        assert refused.value.reason == "NO_USABLE_CLASS"


def test_a_bundle_of_the_older_format_is_still_read(bundle, folder):
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    inference = json.loads((folder / "configs/inference.json").read_text())
    for name in ("data_license", "input_slices"):
        del metadata["biosegment"][name]
    known = ("_target_", "spatial_dims", "in_channels", "out_channels", "channels", "strides",
             "num_res_units", "norm", "dropout")  # fmt: skip
    inference["network_def"] = {name: inference["network_def"][name] for name in known}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    (folder / "configs/inference.json").write_text(json.dumps(inference))
    found = read_bundle(folder)
    assert (found.model.network, found.data_license) == (bundle.model.network, "")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e39])
def test_weights_that_are_not_finite_are_refused(bundle, folder, wrong):
    weights = dict(bundle.model.weights)
    first = next(iter(weights))
    weights[first] = torch.full_like(weights[first], wrong, dtype=torch.float64)
    torch.save(weights, folder / "models/model.pt")
    with pytest.raises(InvalidArgument, match="not finite"):
        read_bundle(folder)


def test_weights_may_be_wrapped_as_trainers_do(bundle, folder):
    torch.save({"epoch": 3, "state_dict": bundle.model.weights}, folder / "models/model.pt")
    found = read_bundle(folder).model.weights
    assert all(torch.equal(found[name], tensor) for name, tensor in bundle.model.weights.items())
