"""What a training says of volumes whose pixels are not those that are asked for."""

from __future__ import annotations

from typing import Any, cast

import pytest
from biosegment_trainer.datastore_client import DatastoreClient, VolumeView
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.registry.model import Model, NewModel
from biosegment_trainer.training.gathering import GatheredVolumes, gather_volumes, real_resolution

from biosegment.volume import Index, VoxelSize


class Shelf:
    """The datastore, as far as volumes go: each is called by the edge of its voxels in nm."""

    async def volume(self, name: str) -> VolumeView:
        edge = float(name.rpartition("/")[2].replace("-", "."))
        return VolumeView(name, Index(2, 8, 8), VoxelSize(40, edge, edge), "key", 1)

    async def statistics(self, name: str) -> Any:
        return (0.0, 0.0), (1.0, 1.0)


async def gathered(*edges: str, parent_nm: float = 0.0) -> GatheredVolumes:
    parent = None
    if parent_nm:
        new = NewModel("m", "p", "M", "", "UNet", (), parent_nm, "0")
        parent = cast(Model, type("Known", (), {"name": "projects/p/models/m", "new": new}))
    names = [f"projects/p/volumes/{edge}" for edge in edges]
    return await gather_volumes(cast(DatastoreClient, Shelf()), names, 10.0, parent)


@pytest.mark.parametrize("edges", [("10",), ("5", "2-5", "8", "12"), ("8",)])
async def test_pixels_near_the_working_resolution_are_not_worth_a_word(edges):
    found = await gathered(*edges)
    assert found.remarks == ()
    assert found.working_resolution_nm == 10


async def test_a_model_of_coarse_volumes_is_recorded_as_what_it_is():
    found = await gathered("40", "44")
    assert found.working_resolution_nm == 40
    assert [factor for _, factor in found.volumes.values()] == [1, 1]
    said = " ".join(found.remarks)
    assert "pixels of projects/p/volumes/40 are 40 nm, those of the working resolution 10 nm" in said
    assert "objects in it look 4 times as small" in said
    assert "recorded with the pixels of 40 nm" in said
    fine = await gathered("7")
    assert fine.working_resolution_nm == 7
    assert "look 1.4 times as large" in fine.remarks[0]


async def test_volumes_that_differ_among_each_other_are_said_to_and_nothing_is_recorded_for_them():
    found = await gathered("40", "5")
    assert found.working_resolution_nm == 10
    said = " ".join(found.remarks)
    assert "from 10 nm in projects/p/volumes/5 to 40 nm in projects/p/volumes/40" in said
    assert "differ by a factor of 4" in said
    assert "recorded" not in said


async def test_a_parent_is_compared_with_what_its_child_will_be():
    assert "models/m knows pixels" not in " ".join((await gathered("40", parent_nm=40.0)).remarks)
    said = (await gathered("40", parent_nm=10.0)).remarks[0]
    assert "models/m knows pixels of 10 nm, and its weights go on with 40 nm" in said


@pytest.mark.parametrize("edges", [(40.0, 36.0), (6.6, 13.2), (7.0, 6.7), (1.0,), (13.0, 6.5), (6.6, 2.9)])
def test_what_is_recorded_averages_as_many_voxels_as_what_was_asked_for(edges):
    real = real_resolution(edges, 10.0)
    assert [working_factor(real, edge) for edge in edges] == [working_factor(10.0, edge) for edge in edges]
