"""Models in other formats: ONNX files that answer as torch does, packages that bioimage.io accepts."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.registry.archive import unpack
from biosegment_trainer.registry.bioimage import is_package, read_package
from biosegment_trainer.registry.conversion import convert_bundle

from biosegment.errors import InvalidArgument
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
async def test_a_package_for_bioimage_io_comes_back_with_the_same_answers(tmp_path, name):
    bundle = bundle_of(name)
    archive = await converted(bundle, tmp_path, "bioimageio")
    unpack(archive, tmp_path / "package", 10_000_000)
    assert is_package(tmp_path / "package")
    found = read_package(tmp_path / "package", fallback_resolution_nm=1.0).bundle
    assert found.working_resolution_nm == 8.0
    assert found.data_license == bundle.data_license
    assert [item.name for item in found.model.classes] == ["mitochondria", "membrane"]
    assert found.model.network.arguments == bundle.model.network.arguments
    image = torch.randn(
        1, 1, *(2 * s for s in found.model.network.stride[-found.model.network.spatial_dims :])
    )
    same = (
        image
        if bundle.model.network.spatial_dims == 3
        else image.repeat(1, bundle.model.network.input_slices, 1, 1)
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            found.model.build()(image), bundle.model.build()(same), rtol=1e-3, atol=1e-4
        )


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


def test_the_older_format_names_its_network_with_dots(tmp_path, package):
    entry = package["weights"]["pytorch_state_dict"]
    entry |= {"kwargs": entry["architecture"]["kwargs"], "architecture": "monai.networks.nets.UNet"}
    (tmp_path / "p/rdf.yaml").write_text(yaml.safe_dump(package))
    found = read_package(tmp_path / "p", fallback_resolution_nm=7.0)
    assert len(found.bundle.model.classes) == 2
    assert zipfile.is_zipfile(tmp_path / "p/weights.pt")
