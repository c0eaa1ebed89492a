"""Volumes that refer to somebody's OME-Zarr instead of copying it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import ngff_zarr
import numpy as np
import pytest
import tifffile
import zarr
from biosegment_datastore.formats.source import SourceOptions
from biosegment_datastore.imports.reference_task import run_reference

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument, Unavailable
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore_server import Caller, RunningDatastore

SHAPE = (21, 66, 47)


def image(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 4000, SHAPE).astype(np.uint16)


def write(folder: Path, data: Any, version: str) -> list[Any]:
    """An image as another library makes it; its levels as it reads them."""
    scale = {"z": 0.05, "y": 0.005, "x": 0.004}
    units = dict.fromkeys("zyx", "micrometer")
    picture = ngff_zarr.to_ngff_image(data, ["z", "y", "x"], scale, axes_units=units)
    scales = [{"z": 1, "y": 2, "x": 2}, {"z": 2, "y": 4, "x": 4}]
    multiscales = ngff_zarr.to_multiscales(picture, scales, chunks=16)
    ngff_zarr.to_ngff_zarr(str(folder), multiscales, version=version)
    group: Any = zarr.open_group(folder, mode="r")
    return [np.asarray(group[dataset.path]) for dataset in multiscales.metadata.datasets]


def digest(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


async def refer(caller: Caller, project: str, path: Path, **options: Any) -> Any:
    """The finished job."""
    spec = job_pb2.ImportVolumeSpec(uri=str(path), reference=True, **options)
    return await caller.finished(await caller.create_job(project, import_volume=spec))


async def referred(caller: Caller, project: str, path: Path, **options: Any) -> Any:
    """The volume."""
    job = await refer(caller, project, path, **options)
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job
    return (await caller.datastore.GetVolume(pb.GetVolumeRequest(name=job.result.volume))).volume


async def refused(caller: Caller, project: str, path: Path, **options: Any) -> str:
    job = await refer(caller, project, path, **options)
    assert job.state == job_pb2.Job.STATE_FAILED, job
    return str(job.error.reason)


@pytest.fixture
async def project(ada: Caller) -> str:
    return str((await ada.create_project("refer")).name)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
async def test_every_level_is_read_where_it_is(
    datastore: RunningDatastore, ada: Caller, project: str, version: str
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    levels = write(folder, image(), version)
    before = digest(folder)
    volume = await referred(ada, project, folder, volume_id="brain")
    assert volume.reference
    assert volume.uri == folder.as_uri()
    assert volume.source == folder.name
    assert (volume.voxel_size.z_nm, volume.voxel_size.y_nm, volume.voxel_size.x_nm) == (50, 5, 4)
    assert [(each.downsampling.z, each.downsampling.y, each.downsampling.x) for each in volume.levels] == [
        (1, 1, 1),
        (1, 2, 2),
        (2, 4, 4),
    ]
    for number, level in enumerate(levels):
        shape = volume.levels[number].shape
        assert (shape.z, shape.y, shape.x) == level.shape
        assert (await ada.read(volume.name, level=number) == level).all()
    region = Region(Index(3, 10, 5), Index(7, 50, 40))
    assert (await ada.read(volume.name, region) == image()[region.slices]).all()
    request = pb.GetSliceStatisticsRequest(name=volume.name)
    statistics = (await ada.datastore.GetSliceStatistics(request)).statistics
    np.testing.assert_allclose(statistics.mean, image().mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, image().std((1, 2)), rtol=1e-4)
    window = volume.display_window
    assert 0 <= window.low < 200 < 3800 < window.high <= 4000
    objects = Path(datastore.settings.object_store_url.removeprefix("file://"))
    assert not [path for path in (objects / "volumes").rglob("*") if path.is_file()]
    assert digest(folder) == before


async def test_a_new_voxel_size_is_written_nowhere_near_the_source_and_deleting_leaves_it(
    datastore: RunningDatastore, ada: Caller, project: str
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    write(folder, image(), "0.5")
    before = digest(folder)
    volume = await referred(ada, project, folder)
    volume.voxel_size.CopyFrom(geometry_pb2.VoxelSize(z_nm=40, y_nm=4, x_nm=4))
    request = pb.UpdateVolumeRequest(volume=volume)
    request.update_mask.paths.append("voxel_size")
    changed = (await ada.datastore.UpdateVolume(request)).volume
    assert changed.reference
    assert changed.voxel_size.z_nm == 40
    await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=volume.name))
    await datastore.parts.collector.collect()
    assert digest(folder) == before
    again = await referred(ada, project, folder)
    await ada.datastore.DeleteProject(pb.DeleteProjectRequest(name=project, force=True))
    await datastore.parts.collector.collect()
    assert again.uri == folder.as_uri()
    assert digest(folder) == before


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_one_channel_and_time_point_of_an_image_with_other_axes_are_read(
    datastore: RunningDatastore, ada: Caller, project: str, zarr_format: int
) -> None:
    folder = datastore.imports / "many.zarr"
    data = np.random.default_rng(1).integers(0, 250, (2, 3, 9, 14, 20)).astype(np.uint8)
    axes = [
        {"name": "t", "type": "time"},
        {"name": "c", "type": "channel"},
        *({"name": axis, "type": "space", "unit": "nanometer"} for axis in "xyz"),
    ]
    parts = {"fine": data, "coarse": data[:, :, ::2, ::2, :]}
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for path, scale in (("fine", [1, 1, 4, 5, 50]), ("coarse", [1, 1, 8, 10, 50]))
    ]
    version = "0.4" if zarr_format == 2 else "0.5"
    metadata: dict[str, Any] = {"multiscales": [{"axes": axes, "datasets": datasets, "version": version}]}
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    group.attrs.update(metadata if zarr_format == 2 else {"ome": {"version": version, **metadata}})
    for path, part in parts.items():
        group.create_array(path, data=part, chunks=(1, 1, 4, 4, 8))
    volume = await referred(ada, project, folder, channel=2, time_point=1)
    assert (volume.voxel_size.z_nm, volume.voxel_size.y_nm, volume.voxel_size.x_nm) == (50, 5, 4)
    for number, part in enumerate(parts.values()):
        assert (await ada.read(volume.name, level=number) == part[1, 2].transpose(2, 1, 0)).all()
    region = Region(Index(1, 3, 2), Index(17, 11, 8))
    expected = data[1, 2].transpose(2, 1, 0)[region.slices]
    assert (await ada.read(volume.name, region) == expected).all()
    assert await refused(ada, project, folder, time_point=1) == "CHANNEL_MISSING"


async def test_a_region_is_exported_as_of_any_volume(
    datastore: RunningDatastore, ada: Caller, project: str, tmp_path: Path
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    write(folder, image(), "0.4")
    volume = await referred(ada, project, folder)
    region = Region(Index(3, 10, 5), Index(9, 50, 40))
    spec = job_pb2.ExportSpec(
        source=volume.name, format=job_pb2.ExportSpec.FORMAT_OME_TIFF, region=region_to_proto(region)
    )
    job = await ada.finished(await ada.create_job(project, export=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job
    request = pb.ReadArtifactRequest(name=job.result.artifact)
    pieces = [answer.data async for answer in ada.datastore.ReadArtifact(request)]
    (tmp_path / "export.ome.tif").write_bytes(b"".join(pieces))
    assert (tifffile.imread(tmp_path / "export.ome.tif") == image()[region.slices]).all()
    folder.rename(datastore.imports / "away")
    job = await ada.finished(await ada.create_job(project, export=spec))
    assert (job.state, job.error.reason) == (job_pb2.Job.STATE_FAILED, "SOURCE_GONE")


async def test_a_source_that_is_gone_or_another_one_is_told_and_never_read_as_zeros(
    datastore: RunningDatastore, ada: Caller, project: str
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    write(folder, image(), "0.5")
    volume = await referred(ada, project, folder)
    assert (await ada.read(volume.name) == image()).all()
    folder.rename(datastore.imports / "away")
    with pytest.raises(Unavailable) as gone:
        await ada.read(volume.name)
    assert gone.value.reason == "SOURCE_GONE"
    (datastore.imports / "away").rename(folder)
    assert (await ada.read(volume.name) == image()).all()
    shutil.rmtree(folder)
    write(folder, image()[:, :60].copy(), "0.5")
    with pytest.raises(FailedPrecondition) as changed:
        await ada.read(volume.name)
    assert changed.value.reason == "SOURCE_CHANGED"


async def test_a_source_that_left_the_import_roots_is_not_read(
    datastore: RunningDatastore, ada: Caller, project: str, tmp_path: Path
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    write(folder, image(), "0.5")
    volume = await referred(ada, project, folder)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with pytest.raises(FailedPrecondition) as error:
        await ada.read(volume.name)
    assert error.value.reason == "REFERENCE_NOT_ALLOWED"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
async def test_a_chunk_that_became_a_link_out_of_the_folder_is_not_read(
    datastore: RunningDatastore, ada: Caller, project: str, tmp_path: Path, version: str
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    levels = write(folder, image(), version)
    volume = await referred(ada, project, folder)
    finest = folder / _finest(folder)
    last = max(path for path in finest.rglob("*") if path.is_file() and path.name[-1].isdigit())
    elsewhere = tmp_path / "elsewhere"
    last.rename(elsewhere)
    last.symlink_to(elsewhere)
    beginning = Region(Index(0, 0, 0), Index(5, 8, 8))
    assert (await ada.read(volume.name, beginning) == levels[0][beginning.slices]).all()
    with pytest.raises(FailedPrecondition) as error:
        await ada.read(volume.name)
    assert error.value.reason == "SOURCE_CHANGED"


def _finest(folder: Path) -> str:
    attributes: Any = zarr.open_group(folder, mode="r").attrs.asdict()
    multiscale = attributes.get("ome", attributes)["multiscales"][0]
    return str(Path(multiscale["datasets"][0]["path"]).parts[0])


async def test_what_cannot_be_used_where_it_is_is_refused(
    datastore: RunningDatastore, ada: Caller, project: str
) -> None:
    folder = datastore.imports / "plain.zarr"
    zarr.create_array(folder, data=image(), chunks=(8, 16, 16))
    assert await refused(ada, project, folder) == "NOT_REFERABLE"
    assert await refused(ada, project, datastore.write_tiff("a.tif", image())) == "NOT_REFERABLE"
    uneven = datastore.imports / "uneven.zarr"
    group = zarr.open_group(uneven, mode="w", zarr_format=3)
    for path, size in (("0", 30), ("1", 20)):
        group.create_array(path, shape=(size, size, size), dtype="uint8", chunks=(8, 8, 8))
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    scales = {"0": [10, 10, 10], "1": [15, 15, 15]}
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for path, scale in scales.items()
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    assert await refused(ada, project, uneven) == "NOT_REFERABLE"
    spec = job_pb2.ImportVolumeSpec(upload=f"{project}/uploads/u", reference=True)
    with pytest.raises(InvalidArgument) as error:
        await ada.create_job(project, import_volume=spec)
    assert error.value.reason == "NOT_REFERABLE"
    request = pb.ListVolumesRequest(parent=project)
    assert not (await ada.datastore.ListVolumes(request)).volumes


def test_the_own_object_storage_is_no_source(tmp_path: Path) -> None:
    """A project must not reach another one's voxels, should the storage lie below an import root."""
    folder = tmp_path / "imports" / "source.ome.zarr"
    folder.parent.mkdir(exist_ok=True)
    write(folder, image(), "0.5")
    for store in (folder, folder / "objects", folder.parent):
        task = {
            "path": str(folder),
            "name": "a",
            "voxel_size_nm": None,
            "options": SourceOptions().written(),
            "store": {"object_store_url": store.as_uri()},
        }
        with pytest.raises(InvalidArgument) as error:
            run_reference(task, lambda done, total: None)
        assert error.value.reason == "NOT_REFERABLE"


async def test_values_that_are_no_numbers_are_refused(
    datastore: RunningDatastore, ada: Caller, project: str
) -> None:
    folder = datastore.imports / "source.ome.zarr"
    data = image().astype(np.float32)
    data[3, 4, 5] = np.nan
    write(folder, data, "0.5")
    assert await refused(ada, project, folder) == "NOT_FINITE"
