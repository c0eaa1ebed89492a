"""Layers of a job that another attempt began."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from biosegment_trainer.datastore_client import LayerView, NewLayer, VolumeView
from biosegment_trainer.prediction.layer import require_layout, size_remarks
from biosegment_trainer.registry.model import Model

from biosegment.errors import FailedPrecondition
from biosegment.volume import Index, VoxelSize

WANTED = NewLayer(
    layer_id="x-labels",
    display_name="Labels",
    kind="labels",
    dtype="uint8",
    downsampling=Index(1, 1, 1),
    chunk=Index(16, 128, 128),
    shard=Index(16, 512, 512),
    region=None,
    model="projects/p/models/m",
    job="projects/p/jobs/j",
)
MADE = LayerView(
    name="projects/p/volumes/v/layers/x-labels",
    key="layers/x/1",
    attempt=1,
    committed=False,
    downsampling=Index(1, 1, 1),
    shard=Index(16, 512, 512),
    channels=1,
    measure="",
    job="projects/p/jobs/j",
    kind="labels",
    shape=Index(64, 4096, 4096),
    dtype="uint8",
)


def test_an_attempt_goes_on_in_layers_of_its_own_blocks() -> None:
    require_layout([WANTED], [MADE])
    small = replace(MADE, shape=Index(8, 300, 300), shard=Index(16, 384, 384))
    require_layout([WANTED], [small])


def test_layers_that_an_older_release_began_for_other_blocks_are_not_written_to() -> None:
    older = replace(MADE, shard=Index(16, 2048, 2048))
    with pytest.raises(FailedPrecondition, match=r"layers/x-labels was begun .*2048.*cancel it") as caught:
        require_layout([WANTED, WANTED], [MADE, older])
    assert caught.value.reason == "OTHER_LAYOUT"
    # What is complete needs no more blocks.
    require_layout([WANTED], [replace(older, committed=True)])


@pytest.mark.parametrize(
    ("nm", "said"),
    [
        (10, ""),
        (5, ""),
        (12, ""),
        (40, "look 4 times as small"),
        (6.6, "are 13.2 nm"),
        (7, "1.4 times as large"),
    ],
)
def test_a_volume_of_another_pixel_size_than_the_model_is_said_to_be(nm: float, said: str) -> None:
    volume = VolumeView("projects/p/volumes/v", Index(2, 8, 8), VoxelSize(40, nm, nm), "key", 1)
    known = SimpleNamespace(name="projects/p/models/m", new=SimpleNamespace(working_resolution_nm=10.0))
    found = size_remarks(cast(Model, known), volume)
    assert len(found) == bool(said)
    if said:
        assert "pixels of projects/p/volumes/v are" in found[0]
        assert "those of projects/p/models/m 10 nm" in found[0]
        assert said in found[0]
