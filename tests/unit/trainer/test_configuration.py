from __future__ import annotations

import dataclasses

import pytest
from biosegment_trainer.compute.task import Callback, PretrainTask
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.training.configuration import configured, default_steps

from biosegment.errors import InvalidArgument
from biosegment.settings import ObjectStoreSettings

TASK = PretrainTask(
    store=ObjectStoreSettings(object_store_url="file:///nowhere"),
    callback=Callback("", ""),
    threads=1,
    display_name="",
    bundle_key="",
    checkpoints="",
    working_resolution_nm=10.0,
    volumes={},
    voxel_size_nm=(8.0, 8.0, 8.0),
    seed=0,
    max_steps=0,
    max_seconds=0.0,
    options={},
)


def asked(parent: NetworkConfig | None = None, **changes):
    options = changes.pop("options", {})
    return configured(dataclasses.replace(TASK, options=options, **changes), parent)


def test_without_wishes_it_is_the_default_network():
    found = asked()
    assert found.config.network == NetworkConfig()
    assert (found.config.batch_size, found.config.shards, found.remarks) == (8, 1, ())


def test_options_reach_the_configuration_and_its_parts():
    found = asked(
        max_steps=7,
        max_seconds=3.0,
        options={
            "network.kind": "auto",
            "network.family": "DynUNet",
            "network.channels": "4,8,16",
            "network.norm": "instance",
            "patch_depth": 8,
            "consistency": 0.5,
            "augmentation.seam": 0.3,
            "validation.patience": 2,
            "mask.cell": 4,
        },
    )
    config = found.config
    assert (config.network.family, config.network.spatial_dims) == ("DynUNet", 3)
    assert config.network.arguments["filters"] == [4, 8, 16]
    assert config.network.arguments["norm_name"] == "instance"
    assert (config.steps, config.max_seconds, config.patch_depth, config.consistency) == (7, 3.0, 8, 0.5)
    assert (config.augmentation.seam, config.validation.patience, found.mask.cell) == (0.3, 2, 4)
    with pytest.raises(InvalidArgument, match="seam"):
        asked(options={"augmentation.seam": 3.0})


def test_several_processes_share_a_larger_batch():
    config = asked(workers=4).config
    assert (config.batch_size, config.shards) == (32, 4)


def test_a_parent_s_network_stays_and_wishes_against_it_are_named():
    parent = NetworkConfig.unet((8, 16), (2,), 1)
    same = asked(parent, options={"network.channels": "8,16", "network.kind": "2d"})
    assert (same.config.network, same.remarks) == (parent, ())
    other = asked(parent, options={"network.family": "SegResNet", "network.kind": "3d"})
    assert other.config.network == parent
    assert "network.family" in other.remarks[0]
    assert "network.kind" in other.remarks[0]


def test_a_2d_parent_can_be_shown_its_neighbours():
    found = asked(NetworkConfig.unet((8, 16), (2,), 1), options={"network.kind": "2.5d", "network.slices": 5})
    assert (found.config.network.input_slices, found.remarks) == (5, ())


def test_steps_that_nobody_chose_grow_with_the_annotations_within_bounds():
    assert [default_steps(count) for count in (1, 16, 40, 80, 5000)] == [200, 200, 500, 1000, 1000]
