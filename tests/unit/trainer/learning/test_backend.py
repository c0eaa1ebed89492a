from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.backend import (
    BACKENDS,
    Accelerated,
    Eager,
    OnnxRuntime,
    OpenVino,
    open_backend,
)
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.prediction import PredictionConfig
from biosegment_trainer.learning.probe import Probe, Wanted, example_of, fold_norms
from biosegment_trainer.learning.tiling import TilingConfig
from torch import nn

from biosegment.errors import InvalidArgument
from tests.unit.trainer.learning.assembly import assembled

CPU = torch.device("cpu")
NETWORKS = {
    "2D": NetworkConfig.unet((4, 8), (2,), 1),
    "2.5D": NetworkConfig(input_slices=3, arguments={"channels": [4, 8], "strides": [2]}),
    "3D": NetworkConfig("UNet", 3, arguments={"channels": [4, 8], "strides": [[1, 2, 2]]}),
    "SegResNet": NetworkConfig("SegResNet", arguments={"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
    "DynUNet": NetworkConfig("DynUNet", arguments={"filters": [4, 8, 8, 8, 8]}),
}  # fmt: skip


def images_of(network: NetworkConfig, edge: int = 32) -> torch.Tensor:
    shape = (1, network.input_slices, *([4] if network.spatial_dims == 3 else []), edge, edge + 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(edge))


@pytest.mark.parametrize("library", ["eager", "openvino", "onnxruntime"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_backend_answers_as_the_network_does_for_every_shape(make_model, name, library):
    network = NETWORKS[name]
    model, wanted = make_model(network), Wanted(reach=True, embedding=True)
    plain = Probe(model.build(), network, wanted)
    backend = open_backend(
        Probe(fold_norms(model.build()), network, wanted), library, CPU, example_of(network, CPU)
    )
    for edge in (32, 48):
        images = images_of(network, edge)
        with torch.inference_mode():
            expected = plain(images)
        found = backend(images)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            torch.softmax(found[0], 1), torch.softmax(expected[0], 1), rtol=0, atol=1e-4
        )
    assert backend.name == library


@pytest.mark.parametrize("library", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("name", ["2.5D", "3D"])
def test_whole_predictions_agree_within_a_ten_thousandth(make_model, name, library):
    raw = np.random.default_rng(1).integers(0, 255, (6, 40, 70)).astype(np.uint8)
    network = NETWORKS[name]
    tiling = TilingConfig((4, 32, 32), (2, 4, 4)) if name == "3D" else TilingConfig.flat(32, 4)
    measures = ("entropy", "embedding", "gradient_embedding")
    found, eager = (
        assembled(make_model(network), raw, raw.shape,
                  PredictionConfig(tiling=tiling, backend=backend, measures=measures))
        for backend in (library, "eager")
    )  # fmt: skip
    assert np.abs(found.probabilities.astype(int) - eager.probabilities).max() <= 1  # a step is 0.004
    assert np.mean(found.probabilities != eager.probabilities) < 1e-3
    for measure in measures:
        np.testing.assert_allclose(found.scores[measure], eager.scores[measure], atol=2e-3)


def test_the_fastest_that_is_installed_is_taken_and_tells_nobody(make_model):
    module = Probe(fold_norms(make_model(NETWORKS["2D"]).build()), NETWORKS["2D"], Wanted())
    backend = open_backend(module, "auto", CPU)
    backend(images_of(NETWORKS["2D"]))
    assert backend.name == "openvino"
    assert sys.modules.get("openvino_telemetry") is None


def test_sessions_use_as_many_threads_as_pytorch(make_model):
    torch.set_num_threads(2)
    module = make_model(NETWORKS["2D"]).build()
    images = images_of(NETWORKS["2D"])
    session: Any = OpenVino(module, images).session(images.shape)
    assert session.compiled.get_property("INFERENCE_NUM_THREADS") == 2


def test_a_network_that_cannot_be_converted_runs_eagerly_and_why_is_logged(caplog):
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (torch.linalg.svdvals(images).unsqueeze(-1),)

    with caplog.at_level(logging.WARNING):
        backend = Accelerated(OpenVino, Eager(Odd(), CPU))
        images = torch.rand(1, 1, 4, 4)
        torch.testing.assert_close(backend(images)[0], torch.linalg.svdvals(images).unsqueeze(-1))
    assert backend.name == "eager"
    assert "openvino does not run the network" in caplog.text


@pytest.mark.parametrize("library", [OpenVino, OnnxRuntime])
def test_a_network_whose_way_depends_on_the_size_is_never_answered_wrongly(library):
    class Fork(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (images * 2 if images.shape[-1] > 8 else images + 1,)

    backend = Accelerated(library, Eager(Fork(), CPU))
    small, large = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 16, 16)
    for _ in range(2):
        torch.testing.assert_close(backend(small)[0], small + 1)
        torch.testing.assert_close(backend(large)[0], large * 2)
    assert backend.name == library.name


def test_a_compiled_network_that_fails_gives_way_to_the_plain_one(caplog):
    class Twice(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (images * 2,)

    def broken(images: torch.Tensor) -> tuple[torch.Tensor]:
        raise RuntimeError("no such instruction")

    eager, images = Eager(Twice(), CPU), torch.rand(1, 1, 4, 4)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(eager.compiled(broken)(images)[0], images * 2)
    assert "no such instruction" in caplog.text


def test_folding_norms_changes_no_answer(make_model):
    for network in NETWORKS.values():
        images, plain = images_of(network), make_model(network).build()
        with torch.inference_mode():
            expected = plain(images)
            found = fold_norms(make_model(network).build())(images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_backend_is_refused(make_model):
    with pytest.raises(InvalidArgument, match="abacus"):
        open_backend(make_model(NETWORKS["2D"]).build(), "abacus", CPU)
    assert BACKENDS[0] == "auto"


def test_the_core_predicts_without_any_accelerator():
    code = (
        "import sys; sys.modules.update(openvino=None, onnxruntime=None)\n"
        "import torch\n"
        "from biosegment_trainer.learning.backend import open_backend\n"
        "print(open_backend(torch.nn.Identity(), 'auto', torch.device('cpu')).name)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "eager"
