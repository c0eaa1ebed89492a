from __future__ import annotations

import pytest
import torch
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.plan import plan, plan_for

from biosegment.errors import InvalidArgument


@pytest.mark.parametrize(
    ("voxel", "factor", "kind", "slices"),
    [
        ((5, 5, 5), 2, "3d", 1),
        ((50, 4.6, 4.6), 2, "2d", 1),
        ((30, 10, 10), 1, "2.5d", 3),
        ((8, 8, 8), 1, "3d", 1),
        ((40, 16, 16), 1, "2.5d", 3),
    ],
)
def test_voxels_choose_the_network(voxel, factor, kind, slices):
    found = plan(voxel, 10.0, "auto")
    assert working_factor(10.0, voxel[1]) == factor
    assert (found.kind, found.network.input_slices) == (kind, slices)
    assert plan(voxel, 10.0).kind == "2d"
    # Whatever is chosen, a patch goes through it.
    lead = (1, found.patch_depth) if kind == "3d" else (slices,)
    module = found.network.build(1).eval()
    with torch.inference_mode():
        logits = module(torch.zeros(1, *lead, found.patch_size, found.patch_size))
    assert logits.shape[1] == 2
    assert logits.shape[-1] == found.patch_size


@pytest.mark.parametrize(
    ("voxel", "kind", "slices"),
    [((5, 5, 5), "2.5d", 7), ((50, 4.6, 4.6), "2.5d", 3), ((30, 10, 10), "2d", 1)],
)
def test_a_wish_overrides_the_rule(voxel, kind, slices):
    found = plan(voxel, 10.0, kind)
    assert (found.kind, found.network.input_slices) == (kind, slices)
    assert plan(voxel, 10.0, "2.5d", slices=5).network.input_slices == 5


@pytest.mark.parametrize("family", ["UNet", "DynUNet"])
def test_a_volume_network_leaves_thick_slices_alone_until_pixels_are_as_coarse(family):
    near, far = plan((10, 10, 10), 10.0, "3d", family), plan((60, 10, 10), 10.0, "3d", family)
    assert near.network.stride == (8, 8, 8)
    assert far.network.stride == (2, 8, 8)
    assert far.patch_depth < near.patch_depth
    assert far.patch_depth % 2 == 0
    if family == "DynUNet":
        assert far.network.arguments["kernel_size"][0] == [1, 3, 3]
        assert near.network.arguments["kernel_size"][0] in (3, [3, 3, 3])


def test_channels_say_how_many_levels_there_are():
    flat = plan((5, 5, 5), 10.0, arguments={"channels": [4, 8]}).network
    deep = plan((5, 5, 5), 10.0, "3d", arguments={"channels": [4, 8]}).network
    assert (flat.stride, deep.stride) == ((1, 2, 2), (2, 2, 2))
    other = plan((5, 5, 5), 10.0, family="DynUNet", arguments={"channels": [4, 8, 16]}).network
    assert (other.stride, other.arguments["filters"]) == ((1, 4, 4), [4, 8, 16])


def test_a_given_network_gets_patches_that_fit_it():
    found = plan_for(NetworkConfig("SwinUNETR", 3), (5, 5, 5), 10.0)
    assert (found.kind, found.patch_size % 32, found.patch_depth % 32) == ("3d", 0, 0)


@pytest.mark.parametrize("wrong", [{"kind": "4d"}, {"slices": 4, "kind": "2.5d"}, {"family": "ResNet"}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidArgument):
        plan((5, 5, 5), 10.0, **wrong)
