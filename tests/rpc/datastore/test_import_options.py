"""Imports of what needs a word more than a path: folders of slices, archives, channels."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from tests.rpc.datastore_server import Caller, RunningDatastore

SIZE = geometry_pb2.VoxelSize(z_nm=30, y_nm=8, x_nm=8)


def write_slices(folder: Path, image: Any) -> Path:
    folder.mkdir()
    for z, plane in enumerate(image):
        Image.fromarray(plane).save(folder / f"slice{z + 7}.png")
    return folder


async def error_of(caller: Caller, project: Any, path: Path, **options: Any) -> Any:
    spec = job_pb2.ImportVolumeSpec(uri=str(path), voxel_size=SIZE, **options)
    job = await caller.finished(await caller.create_job(project.name, import_volume=spec))
    assert job.state == job_pb2.Job.STATE_FAILED
    return job.error


async def test_a_folder_and_an_archive_of_slices_are_imported_by_path(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    folder = write_slices(datastore.imports / "slices", image)
    volume = await ada.import_volume(project.name, folder, "folder")
    assert (await ada.read(volume.name) == image).all()
    with zipfile.ZipFile(datastore.imports / "slices.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"slices/{file.name}")
    volume = await ada.import_volume(project.name, datastore.imports / "slices.zip", "archive")
    assert (await ada.read(volume.name) == image).all()
    (folder / "slice9.png").unlink()
    error = await error_of(ada, project, folder)
    assert (error.reason, "slice 9 is missing" in error.message) == ("SLICE_MISSING", True)


async def test_channel_time_point_and_axes_reach_the_reader(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    path = datastore.imports / "many.tif"
    data = np.stack([image, image // 2])
    tifffile.imwrite(path, np.stack([data, 255 - data]), ome=True, metadata={"axes": "TCZYX"})
    assert (await error_of(ada, project, path, time_point=0)).reason == "CHANNEL_MISSING"
    assert (await error_of(ada, project, path, channel=0)).reason == "TIME_POINT_MISSING"
    volume = await ada.import_volume(project.name, path, "one", channel=1, time_point=1)
    assert (await ada.read(volume.name) == 255 - image // 2).all()
    volume = await ada.import_volume(project.name, path, "swapped", axes="CTZYX", channel=1, time_point=0)
    assert (await ada.read(volume.name) == 255 - image).all()


@pytest.mark.parametrize("link", ["outside", "root"])
async def test_a_folder_with_a_link_out_of_it_is_refused(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any, tmp_path: Path, link: str
) -> None:
    folder = write_slices(datastore.imports / "slices", image)
    secret = (tmp_path if link == "outside" else datastore.imports) / "secret.png"
    (folder / "slice8.png").rename(secret)
    (folder / "slice8.png").symlink_to(secret)
    assert (await error_of(ada, project, folder)).reason == "UNSAFE_LINK"
