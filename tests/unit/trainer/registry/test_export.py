"""Models in other formats: ONNX files that answer as torch does, packages that bioimage.io accepts."""

from __future__ import annotations

import datetime
import gc
import hashlib
import os
import socket
import subprocess
import sys
import warnings
import zipfile

import httpx
import numpy as np
import pytest
import torch
import yaml
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.registry.archive import unpack
from biosegment_trainer.registry.bioimage import is_package, read_package, write_package
from biosegment_trainer.registry.conversion import convert_bundle

from biosegment.errors import FailedPrecondition, InvalidArgument
from tests.unit.trainer.learning.conftest import untrained
from tests.unit.trainer.learning.family import TINY_NETWORKS

# Each starts a process that loads torch, MONAI and an exporter.
pytestmark = pytest.mark.timeout(400)
CLASSES = (LabelClass(2, "mitochondria"), LabelClass(3, "membrane"))


def bundle_of(name):
    model = untrained(TINY_NETWORKS[name], CLASSES)
    return ModelBundle("any (1)", "1.0.0", model, 8.0, data_license="research, non-commercial")


async def converted(bundle, folder, file_format):
    write_bundle(bundle, folder / "bundle")
    await convert_bundle(folder / "bundle", folder / "made", file_format)
    return folder / "made"


@pytest.mark.parametrize(
    "name",
    [
        "UNet 2D",
        *(
            pytest.param(name, marks=pytest.mark.system)
            for name in ("UNet 2.5D", "SegResNet 3D", "DynUNet 3D")
        ),
    ],
)
async def test_an_onnx_file_takes_any_batch_and_window_and_answers_as_torch_does(tmp_path, name):
    import onnxruntime

    bundle = bundle_of(name)
    path = await converted(bundle, tmp_path, "onnx")
    session = onnxruntime.InferenceSession(str(path))
    network = bundle.model.network
    for batch, times in ((1, 2), (3, 5)):
        image = torch.randn(
            batch, network.input_slices, *(times * s for s in network.stride[-network.spatial_dims :])
        )
        with torch.inference_mode():
            wanted = bundle.model.build()(image).numpy()
        np.testing.assert_allclose(
            session.run(None, {"image": image.numpy()})[0], wanted, atol=1e-4, rtol=1e-3
        )
    assert (
        session.get_modelmeta().custom_metadata_map["biosegment.data_license"] == "research, non-commercial"
    )


@pytest.mark.system
async def test_swin_is_written_for_one_window(tmp_path):
    import onnxruntime

    bundle = bundle_of("SwinUNETR 2D")
    session = onnxruntime.InferenceSession(str(await converted(bundle, tmp_path, "onnx")))
    image = torch.randn(session.get_inputs()[0].shape)
    with torch.inference_mode():
        wanted = bundle.model.build()(image).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["UNet 2D", *(pytest.param(name, marks=pytest.mark.system) for name in ("UNet 2.5D",))],
)
async def test_a_package_for_bioimage_io_comes_back_as_it_was(tmp_path, name):
    terms = "research, non-commercial; " + " ".join(f"word{i}" for i in range(1000))
    model = untrained(TINY_NETWORKS[name], (LabelClass(2, "cell body"), LabelClass(3, "2nd Membrane")))
    bundle = ModelBundle("any", "1.0.0", model, 8.0, data_license=terms)
    archive = await converted(bundle, tmp_path, "bioimageio")
    unpack(archive, tmp_path / "package", 10_000_000)
    assert is_package(tmp_path / "package")
    found = read_package(tmp_path / "package", fallback_resolution_nm=1.0).bundle
    assert found.working_resolution_nm == 8.0
    assert found.data_license == bundle.data_license
    assert terms.split("; ")[1] in (tmp_path / "package/README.md").read_text()
    assert found.name == "BioSegment model any"
    assert [item.name for item in found.model.classes] == ["cell body", "2nd Membrane"]
    assert found.model.network == model.network
    assert all(torch.equal(found.model.weights[name], tensor) for name, tensor in model.weights.items())


def test_a_package_is_made_without_asking_the_network_and_its_files_are_hashed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was asked for")

    for place, name in (
        (httpx, "request"), (httpx, "get"), (httpx, "stream"),
        (socket, "getaddrinfo"), (socket.socket, "connect"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, refuse)
    with warnings.catch_warnings():
        # The library leaves the files that it hashes open.
        warnings.simplefilter("ignore", ResourceWarning)
        write_package(bundle_of("UNet 2.5D"), tmp_path / "z")
        gc.collect()
    with zipfile.ZipFile(tmp_path / "z") as archive:
        found = yaml.safe_load(archive.read("rdf.yaml"))
        for entry in (
            found["documentation"], found["inputs"][0]["test_tensor"], found["outputs"][0]["test_tensor"],
            found["weights"]["pytorch_state_dict"],
        ):  # fmt: skip
            assert entry["sha256"] == hashlib.sha256(archive.read(entry["source"])).hexdigest()


def test_a_pretrained_model_is_not_written_as_a_package(tmp_path):
    bundle = ModelBundle("pre", "1.0.0", untrained(TINY_NETWORKS["UNet 2D"], ()), 8.0)
    with pytest.raises(FailedPrecondition, match="nothing to predict") as refused:
        write_package(bundle, tmp_path / "z")
    assert refused.value.reason == "NO_USABLE_CLASS"
    assert not (tmp_path / "z").exists()


RUN_PACKAGE = """
import sys
from bioimageio.core import test_model
found = test_model(sys.argv[1], weight_format="pytorch_state_dict")
print(found.format())
sys.exit(found.status == "failed")
"""


@pytest.mark.system
async def test_the_communitys_own_library_runs_the_package(tmp_path):
    path = (await converted(bundle_of("UNet 2D"), tmp_path, "bioimageio")).rename(tmp_path / "p.zip")
    command = [sys.executable, "-W", "ignore", "-c", RUN_PACKAGE, str(path)]
    environment = {**os.environ, "BIOIMAGEIO_CACHE_PATH": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture
def package(tmp_path):
    """A package that lies open, and its description to change."""
    (tmp_path / "p").mkdir()
    model = untrained(TINY_NETWORKS["UNet 2D"], CLASSES)
    torch.save(model.weights, tmp_path / "p/weights.pt")
    kwargs = {k: v for k, v in model.network.network_def(2).items() if k != "_target_"}
    entry = {
        "source": "weights.pt",
        "sha256": hashlib.sha256((tmp_path / "p/weights.pt").read_bytes()).hexdigest(),
        "architecture": {"import_from": "monai.networks.nets", "callable": "UNet", "kwargs": kwargs},
    }
    return {
        "name": "x",
        "inputs": [{"axes": []}],
        "outputs": [{"axes": []}],
        "weights": {"pytorch_state_dict": entry},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"source": "evil.py", "callable": "Net"}},
        {"architecture": {"import_from": "os", "callable": "system"}},
        {"architecture": {"import_from": "monai.networks.nets.unet.os", "callable": "system"}},
        {"architecture": "evil.py:Net"},
        {"source": "../outside.pt"},
        {"source": "/etc/passwd"},
        {"source": "https://example.org/weights.pt"},
        {"sha256": "0" * 64},
    ],
)
def test_a_package_with_code_or_files_of_elsewhere_is_refused(tmp_path, package, change):
    path = tmp_path / "p/rdf.yaml"
    path.write_text(yaml.safe_dump(package))
    assert read_package(tmp_path / "p", fallback_resolution_nm=7.0).bundle.working_resolution_nm == 7.0
    package["weights"]["pytorch_state_dict"] |= change
    path.write_text(yaml.safe_dump(package))
    with pytest.raises(InvalidArgument):
        read_package(tmp_path / "p", fallback_resolution_nm=7.0)


def test_dates_are_read_and_aliases_do_not_multiply(tmp_path, package):
    path = tmp_path / "p/rdf.yaml"
    path.write_text(yaml.safe_dump({**package, "timestamp": datetime.datetime(2024, 5, 1)}))
    assert read_package(tmp_path / "p", fallback_resolution_nm=7.0).bundle.name == "x"
    laughs = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12))
    path.write_text(f"l0: &l0 [x, 2024-05-01]\n{laughs}{yaml.safe_dump(package)}")
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        read_package(tmp_path / "p", fallback_resolution_nm=7.0)


def test_what_we_wrote_of_a_package_must_fit_its_network(tmp_path, package):
    for own in ({"classes": ["a"], "input_slices": 1}, {"classes": ["a", "b"], "input_slices": 3}):
        content = {**package, "config": {"biosegment": own}}
        (tmp_path / "p/rdf.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(InvalidArgument, match=r"config\.biosegment"):
            read_package(tmp_path / "p", fallback_resolution_nm=7.0)


def test_the_licences_of_a_strangers_package_are_kept(tmp_path, package):
    (tmp_path / "p/rdf.yaml").write_text(yaml.safe_dump({**package, "license": "CC-BY-4.0"}))
    (tmp_path / "p/LICENSE").write_text("Do no harm;\ncite us")
    found = read_package(tmp_path / "p", fallback_resolution_nm=7.0).bundle
    assert found.data_license == (
        "the package's own licence: CC-BY-4.0; the bundle's own licence: Do no harm, cite us"
    )


def test_the_older_format_names_its_network_with_dots(tmp_path, package):
    entry = package["weights"]["pytorch_state_dict"]
    entry |= {"kwargs": entry["architecture"]["kwargs"], "architecture": "monai.networks.nets.UNet"}
    (tmp_path / "p/rdf.yaml").write_text(yaml.safe_dump(package))
    found = read_package(tmp_path / "p", fallback_resolution_nm=7.0)
    assert len(found.bundle.model.classes) == 2
    assert zipfile.is_zipfile(tmp_path / "p/weights.pt")
