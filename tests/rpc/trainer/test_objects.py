"""The table of objects and their meshes, from real servers and a real Ray."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from skimage.measure import regionprops

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.client.instances import Instances
from biosegment.client.jobs import Jobs
from biosegment.client.volumes import Volumes
from tests.rpc.trainer.conftest import SHAPE, image_and_truth
from tests.unit.trainer.objects.mesh_reader import (
    read_glb,
    read_ply,
    read_precomputed,
    read_stl,
    require_closed,
    signed_volume,
)

VOXEL_NM3 = 30 * 10 * 10


def some_objects() -> Any:
    """uint32: 5 and 7 touch each other, 300 lies apart, 70000 at the border."""
    ids = np.zeros(SHAPE, np.uint32)
    ids[1:3, 20:60, 20:70] = 5
    ids[1:3, 60:90, 20:70] = 7
    ids[1:3, 100:110, 120:130] = 300
    ids[0:2, 0:9, 150:160] = 70_000
    return ids


async def import_objects(datastore: Any, volume: Any, ids: Any, name: str = "objects") -> str:
    """The layer's name; as a lab's own file of ids comes in."""
    ada = datastore.as_user("ada")
    path = datastore.write_tiff(f"{name}.tif", ids)
    spec = job_pb2.ImportLabelsSpec(volume=volume.name, uri=str(path), instances=True, layer_id=name)
    job = await ada.finished(await ada.create_job(volume.name.partition("/volumes/")[0], import_labels=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    return job.result.layers[0]


async def fetched(datastore: Any, name: str, folder: Path) -> tuple[str, bytes]:
    """File name and bytes of an artifact, as the SDK fetches it."""
    volumes = Volumes(datastore.as_user("ada").channel)
    artifact = await volumes.artifact(name)
    path = await volumes.download(name, folder / name.rpartition("/")[2])
    return artifact.file_name, path.read_bytes()


def rows_of(data: bytes) -> dict[int, dict[str, str]]:
    return {int(row["id"]): row for row in csv.DictReader(io.StringIO(data.decode()))}


def require_measured(rows: dict[int, dict[str, str]], ids: Any) -> None:
    """What another program says of the same voxels."""
    image, _ = image_and_truth()
    expected = {item.label: item for item in regionprops(ids.astype(np.int32), image)}
    assert [*rows] == [*expected]
    for name, item in expected.items():
        row = rows[name]
        assert int(row["voxels"]) == item.area
        assert float(row["volume_um3"]) == pytest.approx(item.area * VOXEL_NM3 / 1e9)
        box = [int(row[f"bbox_{end}_{axis}_voxels"]) for end in ("start", "stop") for axis in "zyx"]
        assert tuple(box) == item.bbox
        centroid = [float(row[f"centroid_{axis}_voxels"]) for axis in "zyx"]
        assert centroid == pytest.approx(list(item.centroid))
        assert float(row["intensity_mean"]) == pytest.approx(item.intensity_mean)
        assert int(row["intensity_max"]) == item.intensity_max
        assert row["touches_border"] == ("true" if name == 70_000 else "false")


@pytest.mark.timeout(300)
async def test_objects_become_a_table_and_meshes_and_are_measured_as_edits_made_them(
    datastore, em, trainer, tmp_path
):
    ids = some_objects()
    layer = await import_objects(datastore, em, ids)
    jobs = Jobs(trainer.as_user("ada").channel)
    formats = ("stl", "ply", "glb", "precomputed")
    made = await jobs.measure_objects(layer, meshes=True, mesh_formats=formats)
    done = await jobs.wait(made.name)
    assert (done.kind, done.artifact) == ("measure_objects", done.artifacts[0])
    table, parquet, meshes = [await fetched(datastore, name, tmp_path) for name in done.artifacts]
    assert [name for name, _ in (table, parquet, meshes)] == [
        "objects-objects.csv",
        "objects-objects.parquet",
        "objects-meshes.zip",
    ]
    rows = rows_of(table[1])
    require_measured(rows, ids)
    stored = pyarrow.parquet.read_table(io.BytesIO(parquet[1])).to_pylist()
    assert [row["id"] for row in stored] == [*rows]
    assert [repr(row["surface_um2"]) for row in stored] == [row["surface_um2"] for row in rows.values()]

    with zipfile.ZipFile(io.BytesIO(meshes[1])) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    assert [entry["id"] for entry in manifest["objects"]] == [5, 7, 300, 70_000]
    inside = {name.partition("/")[2]: data for name, data in files.items() if name.startswith("precomputed/")}
    for entry in manifest["objects"]:
        name = entry["id"]
        places, faces = read_ply(files[f"ply/{name}.ply"])
        require_closed(faces)
        assert (len(places), len(faces)) == (entry["vertices"], entry["triangles"])
        voxels_nm3 = float(rows[name]["volume_um3"]) * 1e9
        # Two slices: cutting the corners costs more of a thin box than of a ball.
        assert 0.7 * voxels_nm3 < signed_volume(places, faces) < voxels_nm3
        for others in (read_glb(files[f"glb/{name}.glb"]), read_precomputed(inside, name)):
            np.testing.assert_array_equal(others[0], places)
            np.testing.assert_array_equal(others[1], faces)
        assert len(read_stl(files[f"stl/{name}.stl"])[1]) == len(faces)

    edits = Instances(datastore.as_user("ada").channel)
    await edits.merge(layer, [5, 7])
    await edits.delete(layer, [300])
    edited = np.where(ids == 7, 5, ids)
    edited[ids == 300] = 0
    again = await jobs.wait((await jobs.measure_objects(layer)).name)
    assert len(again.artifacts) == 2
    require_measured(rows_of((await fetched(datastore, again.artifacts[0], tmp_path))[1]), edited)
    # What was measured before stays what it was.
    assert (await fetched(datastore, done.artifacts[0], tmp_path))[1] == table[1]


async def artifact_files(datastore: Any) -> list[str]:
    return list(await datastore.parts.objects.list("projects/em/artifacts/"))


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "point",
    [
        "trainer.measure.table_written",
        "trainer.measure.before_commit",
        "trainer.measure.committed",
    ],
)
async def test_whoever_dies_on_the_way_leaves_one_whole_table_and_nothing_else(
    datastore, em, stopped_trainer, tmp_path, point
):
    trainer = stopped_trainer
    layer = await import_objects(datastore, em, some_objects())
    armed = tmp_path / "failpoint"
    armed.write_text(point)
    await trainer.start(BIOSEGMENT_FAILPOINT_FILE=str(armed))
    ada = trainer.as_user("ada")
    job = await ada.create_job(measure_objects=job_pb2.MeasureObjectsSpec(layer=layer, meshes=True))
    ended = asyncio.ensure_future(ada.succeeded(job, 200))
    while not ended.done():
        died = asyncio.ensure_future(trainer.process.wait())
        await asyncio.wait({ended, died}, return_when=asyncio.FIRST_COMPLETED)
        if died.done() and not ended.done():
            await trainer.start()
        died.cancel()
    last = ended.result()
    assert not armed.exists()
    assert last.attempt == 2
    require_measured(
        rows_of((await fetched(datastore, last.result.artifacts[0], tmp_path))[1]), some_objects()
    )
    await datastore.parts.collector.collect()
    # One file each, all of the same attempt.
    kept = [key.split("/")[3:5] for key in await artifact_files(datastore)]
    assert len(kept) == len({tuple(each) for each in kept}) == 3
    assert len({attempt for _, attempt in kept}) == 1


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_cancelled_measurement_leaves_nothing(datastore, em, trainer):
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 4000, SHAPE).astype(np.uint32)
    layer = await import_objects(datastore, em, ids)
    ada = trainer.as_user("ada")
    job = await ada.create_job(measure_objects=job_pb2.MeasureObjectsSpec(layer=layer, meshes=True))
    async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
        if answer.job.progress.step == "meshing":
            await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
            break
    last = await ada.finished(job)
    assert last.state == job_pb2.Job.STATE_CANCELLED
    assert not last.result.artifacts
    assert await artifact_files(datastore) == []
