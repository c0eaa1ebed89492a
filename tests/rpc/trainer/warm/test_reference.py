"""Training and predicting on a real Ray, on volumes whose voxels only the datastore can reach."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from biosegment.api.job.v1alpha1 import job_pb2
from tests.rpc.trainer.conftest import Stubs, annotate, image_and_truth
from tests.rpc.trainer.test_trainer_reference import volume_of, write

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

OPTIONS = {"batch_size": 4, "patch_size": 64}


@pytest_asyncio.fixture(loop_scope="module")
async def place(datastore: Any, project_id: str) -> Path:
    """A folder of the test's own below the import root; its project is made."""
    await datastore.as_user("ada").create_project(project_id)
    folder = Path(datastore.imports / project_id)
    folder.mkdir()
    return folder


def learned(stubs: Stubs, names: list[str]) -> Any:
    spec = job_pb2.TrainSpec(max_steps=6, seed=3, options=OPTIONS, annotations=names, from_scratch=True)
    return stubs.create_job(train=spec)


async def predicted(datastore: Any, ada: Stubs, volume: str, model: str, **extra: Any) -> list[str]:
    """SHA-256 of every layer."""
    reader = datastore.as_user("ada")
    spec = job_pb2.PredictSpec(
        model=model, volume=volume, probabilities=True, measures=["entropy", "margin"], **extra
    )
    job = await ada.succeeded(await ada.create_job(predict=spec))
    arrays = [await reader.read(name) for name in job.result.layers]
    assert all(np.unique(array).size > 2 for array in arrays[1:])
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]


@pytest.mark.parametrize("version", [pytest.param("0.4", marks=pytest.mark.system), "0.5"])
async def test_a_reference_gives_the_same_bytes_as_a_copy(datastore, ada, place, version):
    # 5 nm pixels at 10 nm per working pixel: two voxels each, which neither source nor copy has a level of.
    folder = place / "source.ome.zarr"
    image, _ = image_and_truth()
    write(folder, image.astype(np.uint16) * 7, version)
    copied = await volume_of(datastore, folder, "copied", False, ada.project)
    referred = await volume_of(datastore, folder, "referred", True, ada.project)
    assert (copied.reference, referred.reference) == (False, True)
    assert [level.downsampling.y for level in referred.levels] == [1, 4]
    models = []
    for volume in (copied, referred):
        names = await annotate(datastore, volume)
        job = await ada.succeeded(await learned(ada, names))
        models.append(await ada.model(job.result.model))
    region = {"start": {"z": 1, "y": 20, "x": 40}, "stop": {"z": 3, "y": 160, "x": 101}}
    whole = await predicted(datastore, ada, copied.name, models[0].name)
    assert await predicted(datastore, ada, copied.name, models[1].name) == whole
    assert await predicted(datastore, ada, referred.name, models[0].name) == whole
    part = await predicted(datastore, ada, copied.name, models[0].name, region=region)
    assert await predicted(datastore, ada, referred.name, models[0].name, region=region) == part
    assert part != whole
    assert models[0].metrics["final_loss"] == models[1].metrics["final_loss"]


async def test_a_source_that_is_away_for_a_while_delays_a_job_and_no_more(datastore, ada, place):
    folder, away = place / "source.ome.zarr", place / "away"
    write(folder, image_and_truth()[0], "0.5")
    volume = await volume_of(datastore, folder, "referred", True, ada.project)
    names = await annotate(datastore, volume)
    folder.rename(away)
    job = await learned(ada, names)
    async with asyncio.timeout(90):
        while "waiting for voxels" not in await ada.log(job.name):
            await asyncio.sleep(0.2)
    away.rename(folder)
    assert (await ada.succeeded(job)).attempt == 1


async def test_a_source_that_changed_ends_a_job_with_its_reason(datastore, ada, place):
    folder = place / "source.ome.zarr"
    write(folder, image_and_truth()[0], "0.5")
    volume = await volume_of(datastore, folder, "referred", True, ada.project)
    names = await annotate(datastore, volume)
    folder.rename(place / "away")
    write(folder, image_and_truth()[0][:, :100].copy(), "0.5")
    job = await ada.finished(await learned(ada, names))
    assert (job.state, job.error.reason) == (job_pb2.Job.STATE_FAILED, "SOURCE_CHANGED")
