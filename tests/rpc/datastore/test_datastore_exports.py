from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from biosegment_datastore import worker_process
from biosegment_datastore.exports import job as export_job
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.datastore.v1alpha1 import annotation_pb2, volume_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore.test_datastore_layers import commit, create, write
from tests.rpc.datastore.test_datastore_transfers import download
from tests.rpc.datastore_server import Caller, RunningDatastore

FORMATS = job_pb2.ExportSpec.Format
OME_TIFF = job_pb2.ExportSpec.FORMAT_OME_TIFF
INSTANCES = annotation_pb2.Annotation.KIND_INSTANCES
NO_INSTANCE = 0xFFFFFFFF
PAINTED = Region(Index(1, 10, 10), Index(2, 30, 30))


async def exported(caller: Caller, project: Any, **spec: Any) -> tuple[Any, bytes]:
    """The artifact and its bytes."""
    spec.setdefault("format", OME_TIFF)
    job = await caller.finished(await caller.create_job(project.name, export=job_pb2.ExportSpec(**spec)))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    request = pb.GetArtifactRequest(name=job.result.artifact)
    artifact = (await caller.datastore.GetArtifact(request)).artifact
    data = await download(caller, artifact.name)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.size_bytes, artifact.sha256)
    return artifact, data


async def segmentation(caller: Caller, project: Any, volume: Any, **spec: Any) -> Any:
    """The voxels of an exported segmentation."""
    _, data = await exported(caller, project, source=volume.name, segmentation=True, **spec)
    return tifffile.imread(io.BytesIO(data))


async def predict(datastore: RunningDatastore, volume: Any, prediction: Any, layer_id: str) -> Any:
    trainer = datastore.as_service("trainer")
    layer = await create(trainer, volume, layer_id)
    await write(trainer, layer, prediction)
    return await commit(trainer, layer)


def over(below: Any, region: Region, labels: Any) -> Any:
    """What a segmentation becomes by one annotation of all classes."""
    result = below.copy()
    result[region.slices] = np.where(labels == 0, result[region.slices], labels)
    return result


def without_background(labels: Any) -> Any:
    return np.where(labels == 1, 0, labels)


async def test_an_exported_volume_is_the_same_with_its_voxel_size(
    ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    artifact, data = await exported(ada, project, source=volume.name)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert (file.asarray() == image).all()
        xml = file.ome_metadata
    assert xml is not None
    assert 'PhysicalSizeZ="30.0"' in xml
    assert 'PhysicalSizeXUnit="nm"' in xml
    assert (artifact.file_name, artifact.media_type) == ("brain.ome.tif", "image/tiff")
    assert await download(ada, artifact.name, 1000) == data[1000:]
    with pytest.raises(InvalidArgument) as caught:
        await download(ada, artifact.name, len(data) + 1)
    assert caught.value.reason == "BAD_OFFSET"


def _voxels(name: str, data: bytes, folder: Path) -> Any:
    """What is in a file, zyx, told by its name alone."""
    path = folder / name
    path.write_bytes(data)
    if name.endswith(".tif"):
        return tifffile.imread(path)
    if name.endswith(".nrrd"):
        return nrrd.read(str(path), index_order="C")[0]
    if name.endswith(".nii.gz"):
        return np.asarray(nibabel.load(path).dataobj).T
    if name.endswith(".mrc"):
        with mrcfile.open(path) as mrc:
            return mrc.data.copy()
    if name.endswith(".am"):
        return np.frombuffer(data.partition(b"\n@1\n")[2][:-1], np.uint8)
    if name.endswith(".zip"):
        import zarr

        with zipfile.ZipFile(path) as archive:
            assert json.loads(archive.read("zarr.json"))["attributes"]["ome"]["version"] == "0.5"
        return zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")["0"][:]
    place = {
        ".h5": "data",
        ".ims": "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data",
        ".model": "mibModel",
    }[path.suffix]
    with h5py.File(path) as file:
        found = file[place][:]
    return found.transpose(0, 2, 1) if path.suffix == ".model" else found


_NAMES = {
    "OME_TIFF": (".ome.tif", ".ome.tif"),
    "TIFF": (".tif", ".tif"),
    "OME_ZARR": (".ome.zarr.zip", ".ome.zarr.zip"),
    "HDF5": (".h5", ".h5"),
    "MRC": (".mrc", ".mrc"),
    "NRRD": (".nrrd", ".seg.nrrd"),
    "NIFTI": (".nii.gz", ".nii.gz"),
    "IMS": (".ims", ".ims"),
    "AMIRAMESH": (".am", ".am"),
    "MIB_MODEL": ("", ".model"),
}


@pytest.mark.parametrize("name", [name.removeprefix("FORMAT_") for name, number in FORMATS.items() if number])
async def test_every_format_of_the_contract_holds_a_region_and_its_segmentation(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, image: Any, tmp_path: Path, name: str
) -> None:
    part = Region(Index(1, 2, 3), Index(5, 61, 80))
    common = {"source": volume.name, "format": f"FORMAT_{name}", "region": region_to_proto(part)}
    grey, labels = _NAMES[name]
    if grey:
        artifact, data = await exported(ada, project, **common)
        assert artifact.file_name == f"brain{grey}"
        found = _voxels(artifact.file_name, data, tmp_path)
        assert (found.reshape(part.shape) == image[part.slices]).all()
    prediction = np.where(image > 128, 3, 1).astype(np.uint8)
    await predict(datastore, volume, prediction, "prediction")
    painted = np.tile(np.array([0, 1, 3, 2], np.uint8), (1, 20, 5))
    await ada.commit(volume.name, PAINTED, painted)
    artifact, data = await exported(ada, project, **common, segmentation=True)
    assert artifact.file_name == f"brain-segmentation{labels}"
    found = _voxels(artifact.file_name, data, tmp_path).reshape(part.shape)
    assert (found == without_background(over(prediction, PAINTED, painted))[part.slices]).all()
    assert list(Path(datastore.settings.scratch_dir).iterdir()) == []


async def test_a_file_says_where_in_the_volume_its_region_was(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, tmp_path: Path
) -> None:
    part = region_to_proto(Region(Index(1, 20, 30), Index(5, 61, 80)))
    _, data = await exported(ada, project, source=volume.name, format="FORMAT_NRRD", region=part)
    (tmp_path / "part.nrrd").write_bytes(data)
    assert nrrd.read_header(str(tmp_path / "part.nrrd"))["space origin"].tolist() == [240, 160, 30]
    # A coarse layer begins with the middle of the voxels that its first one stands for.
    trainer = datastore.as_service("trainer")
    kind = volume_pb2.Layer.KIND_SCORE_MAP
    layer = await create(
        trainer, volume, "scores", kind=kind, measure="entropy", downsampling=index_to_proto(Index(1, 10, 10))
    )
    scores = np.random.default_rng(2).normal(size=(6, 7, 9)).astype(np.float16)
    await write(trainer, layer, scores)
    await commit(trainer, layer)
    artifact, data = await exported(ada, project, source=layer.name, format="FORMAT_NRRD", region=part)
    assert artifact.file_name == "scores.nrrd"
    (tmp_path / "scores.nrrd").write_bytes(data)
    voxels, header = nrrd.read(str(tmp_path / "scores.nrrd"), index_order="C")
    # Half precision becomes single, exactly.
    assert voxels.dtype == np.float32
    assert (voxels == scores[1:5, 2:7, 3:8]).all()
    assert header["space origin"].tolist() == [30 * 8 + 4.5 * 8, 20 * 8 + 4.5 * 8, 30]
    assert header["space directions"].tolist() == np.diag([80, 80, 30]).tolist()


async def test_labels_as_they_are_say_that_one_is_background(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    prediction = np.where(image > 128, 2, 1).astype(np.uint8)
    layer = await predict(datastore, volume, prediction, "prediction")
    _, data = await exported(ada, project, source=layer.name, format="FORMAT_NRRD")
    head, _, packed = data.partition(b"\n\n")
    assert (np.frombuffer(gzip.decompress(packed), np.uint8).reshape(image.shape) == prediction).all()
    lines = head.decode().splitlines()
    assert [line for line in lines if "_Name:=" in line] == [
        "Segment0_Name:=background",
        "Segment1_Name:=mitochondria",
        "Segment2_Name:=membrane",
    ]
    _, data = await exported(
        ada, project, source=volume.name, segmentation=True, prediction=layer.name, format="FORMAT_NRRD"
    )
    assert b"background" not in data.partition(b"\n\n")[0]


async def test_a_segmentation_is_the_prediction_under_the_annotations_that_hold(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    prediction = np.where(image > 128, 2, 1).astype(np.uint8)
    layer = await predict(datastore, volume, prediction, "prediction")
    painted = np.tile(np.array([0, 1, 3, 2], np.uint8), (1, 20, 5))
    await ada.commit(volume.name, PAINTED, painted)
    rejected = await ada.commit(volume.name, PAINTED, np.full(PAINTED.shape, 3))
    review = annotation_pb2.ReviewAnnotationRequest(name=rejected.name, accepted=False, comment="no")
    await ada.annotations.ReviewAnnotation(review)
    expected = without_background(over(prediction, PAINTED, painted))
    _, data = await exported(ada, project, source=volume.name, segmentation=True)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert (file.asarray() == expected).all()
        assert "mitochondria" in (file.ome_metadata or "")
        assert "prediction prediction" in (file.ome_metadata or "")
    part = Region(Index(1, 0, 5), Index(3, 40, 50))
    cut = await segmentation(ada, project, volume, prediction=layer.name, region=region_to_proto(part))
    assert (cut == expected[part.slices]).all()
    _, alone = await exported(ada, project, source=f"{volume.name}/layers/annotations")
    assert (tifffile.imread(io.BytesIO(alone))[PAINTED.slices] == painted).all()


async def test_instance_edits_lie_upon_all_annotations_of_classes(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    prediction = np.full(image.shape, 2, np.uint8)
    await predict(datastore, volume, prediction, "prediction")
    ids = np.zeros(PAINTED.shape, np.uint32)
    ids[0, :, 5:10], ids[0, :, 10:15] = 70_000, NO_INSTANCE
    request = annotation_pb2.CommitAnnotationRequest(
        parent=volume.name,
        annotation=annotation_pb2.Annotation(
            region=region_to_proto(PAINTED), kind=INSTANCES, class_scope=[2]
        ),
        labels=ids.tobytes(),
        request_id="instances",
    )
    await ada.annotations.CommitAnnotation(request)
    # Painted later, and still below.
    painted = np.full(PAINTED.shape, 1, np.uint8)
    painted[0, :, 10:15] = 3
    await ada.commit(volume.name, PAINTED, painted)
    expected = prediction.copy()
    expected[PAINTED.slices] = 0
    # An object of the class; and where there is none, a voxel of another class stays.
    expected[1, 10:30, 15:20], expected[1, 10:30, 20:25] = 2, 3
    assert (await segmentation(ada, project, volume) == expected).all()


async def test_a_segmentation_can_be_asked_for_any_moment_of_its_history(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    def layers_until(*changes: Any) -> list[Any]:
        return [without_background(change) for change in changes]

    first, second = np.full(image.shape, 2, np.uint8), np.full(image.shape, 3, np.uint8)
    two, three = np.full(PAINTED.shape, 2, np.uint8), np.full(PAINTED.shape, 3, np.uint8)
    times: list[Timestamp] = []

    async def passed() -> None:
        """Remember now; whatever comes is later."""
        request = annotation_pb2.ListAnnotationRecordsRequest(parent=project.name)
        records = (await ada.annotations.ListAnnotationRecords(request)).records
        times.append(records[-1].create_time)

    early = await predict(datastore, volume, first, "first")
    painted = await ada.commit(volume.name, PAINTED, three)
    await passed()
    await predict(datastore, volume, second, "second")
    other = await ada.commit(volume.name, PAINTED, two)
    await passed()
    await ada.annotations.RevertAnnotation(annotation_pb2.RevertAnnotationRequest(name=other.name))
    await passed()
    await ada.annotations.RevertAnnotation(annotation_pb2.RevertAnnotationRequest(name=painted.name))
    await passed()
    expected = layers_until(
        over(first, PAINTED, three), over(second, PAINTED, two), over(second, PAINTED, three), second
    )
    for moment, segmented in zip(times, expected, strict=True):
        assert (await segmentation(ada, project, volume, as_of=moment) == segmented).all()
    assert (await segmentation(ada, project, volume) == expected[-1]).all()
    named = await segmentation(ada, project, volume, as_of=times[1], prediction=early.name)
    assert (named == over(first, PAINTED, two)).all()
    before = Timestamp(seconds=times[0].seconds - 3600)
    with pytest.raises(FailedPrecondition) as caught:
        await segmentation(ada, project, volume, as_of=before)
    assert caught.value.reason == "NOTHING_SEGMENTED"
    assert "at that moment" in caught.value.message


@pytest.mark.parametrize(
    ("spec", "kind", "reason"),
    [
        ({"format": 0}, InvalidArgument, "BAD_FORMAT"),
        ({"format": 99}, InvalidArgument, "BAD_FORMAT"),
        ({"format": job_pb2.ExportSpec.FORMAT_MIB_MODEL}, InvalidArgument, "FORMAT_CANNOT_HOLD"),
        ({"as_of": {"seconds": 1}}, InvalidArgument, "BAD_AS_OF"),
        ({"as_of": {"seconds": 1}, "segmentation": True}, FailedPrecondition, "NOTHING_SEGMENTED"),
        ({"as_of": {"seconds": 1 << 36}, "segmentation": True}, InvalidArgument, "BAD_AS_OF"),
        ({"source": "nonsense"}, InvalidArgument, "BAD_NAME"),
        ({"source": "projects/other/volumes/brain"}, InvalidArgument, "OTHER_PROJECT"),
        ({"source": "projects/em/volumes/none"}, NotFound, "VOLUME_NOT_FOUND"),
        ({"source": "projects/em/volumes/brain/layers/none"}, NotFound, "LAYER_NOT_FOUND"),
        ({"segmentation": True}, FailedPrecondition, "NOTHING_SEGMENTED"),
        ({"prediction": "projects/em/volumes/brain/layers/l"}, InvalidArgument, "BAD_SOURCE"),
        ({"region": region_to_proto(Region.of_shape((7, 7, 7)))}, InvalidArgument, "REGION_OUT_OF_BOUNDS"),
    ],
)
async def test_an_export_that_cannot_work_is_refused_at_once(
    ada: Caller, project: Any, volume: Any, spec: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    values = {"source": volume.name, "format": OME_TIFF, **spec}
    with pytest.raises(kind) as caught:
        await ada.create_job(project.name, export=job_pb2.ExportSpec(**values))
    assert caught.value.reason == reason  # type: ignore[attr-defined]


async def test_a_type_that_a_format_has_not_is_refused_with_formats_that_have_it(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    path = datastore.write_tiff("signed.tif", image.astype(np.int16) - 128)
    volume = await ada.import_volume(project.name, path, "signed")
    with pytest.raises(InvalidArgument) as caught:
        await ada.create_job(project.name, export=job_pb2.ExportSpec(source=volume.name, format="FORMAT_IMS"))
    assert caught.value.reason == "FORMAT_CANNOT_HOLD"
    assert "Imaris cannot hold int16 voxels" in caught.value.message
    assert "nrrd" in caught.value.message


async def test_an_export_of_what_is_deleted_meanwhile_fails_instead_of_holding_zeros(
    datastore: RunningDatastore, ada: Caller, volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = worker_process.run_task

    async def write_and_delete(*arguments: Any) -> Any:
        made = await written(*arguments)
        await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=volume.name, force=True))
        return made

    monkeypatch.setattr(export_job, "run_task", write_and_delete)
    spec = job_pb2.ExportSpec(source=volume.name, format=job_pb2.ExportSpec.FORMAT_OME_TIFF)
    ended = await ada.finished(await ada.create_job("projects/em", export=spec))
    assert (ended.state, ended.error.reason) == (job_pb2.Job.STATE_FAILED, "VOLUME_NOT_FOUND")
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/artifacts/") == []
