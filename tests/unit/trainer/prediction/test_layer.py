"""Layers of a job that another attempt began."""

from __future__ import annotations

from dataclasses import replace

import pytest
from biosegment_trainer.datastore_client import LayerView, NewLayer
from biosegment_trainer.prediction.layer import require_layout

from biosegment.errors import FailedPrecondition
from biosegment.volume import Index

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
