"""The real process, killed while it imports labels: afterwards they are there once, and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.storage.objects import open_blocking_objects
from tests.rpc.datastore.test_datastore_kill import Process, _until

pytestmark = pytest.mark.system

POINTS = ["slab_written", "before_rows", "rows_written"]


@pytest.fixture
async def process(tmp_path: Path, keys: Path) -> AsyncIterator[Process]:
    process = Process(tmp_path, keys)
    yield process
    await process.stop()


@pytest.fixture
def stored(process: Process) -> Any:
    """(6, 70, 600) uint8, as labels.tif beside raw.tif"""
    data = np.random.default_rng(3).choice(np.array([0, 7], np.uint8), (6, 70, 600))
    for name in ("raw", "labels"):
        path = Path(process.settings.import_roots) / f"{name}.tif"
        tifffile.imwrite(path, data, photometric="minisblack")
    return data


@pytest.mark.parametrize("as_annotations", [False, True])
@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_during_an_import_of_labels_neither_loses_nor_doubles_any(
    process: Process, stored: Any, point: str, as_annotations: bool
) -> None:
    roots = Path(process.settings.import_roots)
    await process.start()
    async with process.ada() as ada:
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, roots / "raw.tif", "brain")
    await process.stop()
    await process.start(f"datastore.labels.{point}")
    async with process.ada() as ada:
        spec = job_pb2.ImportLabelsSpec(
            volume=volume.name,
            uri=str(roots / "labels.tif"),
            values={7: 2},
            zero_meaning=job_pb2.ImportLabelsSpec.ZERO_MEANING_NOT_ANNOTATED,
            as_annotations=as_annotations,
        )
        job = await ada.create_job(project.name, import_labels=spec)
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        ended = await ada.finished(job)
        assert (ended.state, ended.attempt) == (job_pb2.Job.STATE_SUCCEEDED, 2), ended.error
        if as_annotations:
            request = annotation_pb2.ListAnnotationsRequest(parent=volume.name)
            found = (await ada.annotations.ListAnnotations(request)).annotations
            assert [each.name for each in found] == list(ended.result.annotations)
            assert len(found) == 3  # blocks of 256 along x
            name, place, kept = f"{volume.name}/layers/annotations", "annotations", 3
        else:
            layers = (await ada.datastore.ListLayers(pb.ListLayersRequest(parent=volume.name))).layers
            (name,) = ended.result.layers
            assert [each.name for each in layers] == [name]
            place, kept = "layers", 1
        assert (await ada.read(name) == np.where(stored == 7, 2, 0)).all()
        objects = open_blocking_objects(process.settings)
        depth = 5 if as_annotations else 4

        def places() -> set[str]:
            found = {"/".join(key.split("/")[:depth]) for key in objects.list(f"projects/em/{place}/")}
            return {each for each in found if "-" in each.split("/")[3]}

        await _until(lambda: len(places()) == kept)
        # What was kept is what is read, also by another process.
        await process.stop()
        await process.start()
    async with process.ada() as ada:
        assert (await ada.read(name) == np.where(stored == 7, 2, 0)).all()
