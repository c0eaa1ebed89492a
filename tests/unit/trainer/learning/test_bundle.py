from __future__ import annotations

import json
import pickle

import pytest
import torch
from biosegment_trainer.learning.bundle import ModelBundle, ModelLineage, read_bundle, write_bundle
from biosegment_trainer.learning.network import LabelClass
from monai.bundle import ConfigParser

from biosegment.errors import InvalidArgument, NotFound

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


def test_it_has_the_files_and_fields_that_monai_expects(folder):
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "LICENSE",
        "docs/README.md",
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
