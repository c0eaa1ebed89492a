"""What is refused when a training is asked for is what a run could not do, and nothing else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.optimisation import Run, TrainingConfig
from biosegment_trainer.training.choice import choose, require_fit
from biosegment_trainer.training.option import check_options

from biosegment.errors import InvalidArgument

VOXEL_NM = (10.0, 10.0, 10.0)
SMALL = {"UNet": {"network.channels": "4,8"}, "DynUNet": {"network.channels": "4,8,8"}}
FAMILIES = ("UNet", "SegResNet", "DynUNet", "SwinUNETR")


class Brightness:
    """An objective that needs no annotations."""

    def loss(self, run: Run, rng: Any) -> torch.Tensor:
        images = torch.randn(run.config.batch_size, run.network.input_slices, *run.patch)
        return run.forward(run.module, images).square().mean()


def refusal(options: dict[str, Any], parent: NetworkConfig | None = None) -> str:
    """What is said when a training is asked for; '' when it is let in."""
    try:
        checked = check_options(options)
        chosen, _ = choose(checked, VOXEL_NM, 10.0, parent)
        require_fit(checked, chosen, 1)
    except InvalidArgument as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("kind", "family"),
    # A step of a 3D transformer takes half a minute.
    [("2d", family) for family in FAMILIES]
    + [("3d", family) for family in FAMILIES if family != "SwinUNETR"],
)
def test_what_is_let_in_can_be_trained_and_what_is_refused_cannot(monkeypatch, kind, family):
    base = {"network.kind": kind, "network.family": family, **SMALL.get(family, {})}
    depth, edge, _ = choose(check_options(base), VOXEL_NM, 10.0, None)[0].network.stride
    asked = [
        base
        | {
            "network.norm": norm,
            "batch_size": batch,
            "patch_size": edge * times,
            "patch_depth": depth * times,
        }
        for norm, batch, times in itertools.product(("batch", "instance"), (1, 2), (1, 2))
    ]
    refused = [bool(refusal(options)) for options in asked]
    assert sum(refused) == 3
    # Whether a run goes well is for PyTorch to say, not for our own check.
    monkeypatch.setattr(NetworkConfig, "require_batch", lambda *args: None)
    for options, is_refused in zip(asked, refused, strict=True):
        config = TrainingConfig(
            network=choose(check_options(options), VOXEL_NM, 10.0, None)[0].network,
            batch_size=options["batch_size"],
            patch_size=options["patch_size"],
            patch_depth=options["patch_depth"],
        )
        run = Run(config, None, (LabelClass(2, "one"),), 0, torch.device("cpu"))
        if is_refused:
            with pytest.raises(ValueError, match="Expected more than 1"):
                run.advance(Brightness())
        else:
            run.advance(Brightness())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_was_written_down_is_read_without_its_constructor(monkeypatch, family):
    network = NetworkConfig(family)
    written = network.network_def(2)
    monkeypatch.setattr(type(network._family), "constructor", None)
    assert NetworkConfig.of_bundle(written) == network
    # An older release did not write all of it: only the constructor knows the rest.
    del written[next(iter(network.arguments))]
    assert NetworkConfig.of_bundle(written) is None
    assert NetworkConfig.of_bundle({**written, "_target_": "os.system"}) is None


def test_a_parent_s_levels_decide_which_patches_fit():
    flat = NetworkConfig.unet((4, 8), (2,), 1)
    assert refusal({"patch_size": 100}, flat) == ""
    assert "patch_size 100 must be a multiple of 16" in refusal({"patch_size": 100})
    assert "patch_size 99 must be a multiple of 2" in refusal({"patch_size": 99}, flat)
    # Wishes about a network that is given are ignored, and said to be.
    assert refusal({"network.family": "SegResNet", "network.channels": "4,8"}, flat) == ""
    assert "input_slices 4 must be odd" in refusal({"network.kind": "2.5d", "network.slices": 4}, flat)
